/* What objects with an arena need. */
#ifndef MAPMAKER_ARENA_H
#define MAPMAKER_ARENA_H

#include "bpf.h"

/* Younger than the headers of some systems. */
#define MAP_TYPE_ARENA 33
#define SEGV_ON_FAULT (1U << 17)

#define __arena __attribute__((address_space(1)))
#define OWN_FUNCTION static __attribute__((noinline))

/* The one arena of an object. A number of 64 bits does not fit an array's length: libbpf reads it
 * from an enumerator. */
#define ARENA(pages, more_flags, start)                                                            \
    struct {                                                                                       \
        int (*type)[MAP_TYPE_ARENA];                                                               \
        int (*map_flags)[BPF_F_MMAPABLE | (more_flags)];                                           \
        int (*max_entries)[pages];                                                                 \
        enum { arena_start = (start) } map_extra;                                                  \
    } arena SECTION(".maps")

/* The verifier knows a program's arena by the instruction that loads its address. */
#define USE_ARENA() asm volatile("" : : "r"(&arena))

struct task_struct;

static struct task_struct *(*const current_task)(void) = (void *)BPF_FUNC_get_current_task_btf;
static __u64 (*const current_ids)(void) = (void *)BPF_FUNC_get_current_pid_tgid;
static void *(*const task_storage)(void *map, struct task_struct *task, void *value,
                                   __u64 flags) = (void *)BPF_FUNC_task_storage_get;

/* What an allocator is set to: the members of its pool, its root, and which of the object's
 * allocators it is. */
struct setup {
    __u64 slab;
    __u64 elem_size;
    __u64 max_elems;
    __u64 idx;
    __u64 root;
    __u64 which;
};

/* Sets an allocator up: a function, because of a variable whose address is not taken the compiler
 * makes several. */
#define SET_UP(kind)                                                                               \
    OWN_FUNCTION int set_up(struct kind *allocator, struct setup *setup)                           \
    {                                                                                              \
        allocator->pool.slab = (void __arena *)setup->slab;                                        \
        allocator->pool.elem_size = setup->elem_size;                                              \
        allocator->pool.max_elems = setup->max_elems;                                              \
        allocator->pool.idx = setup->idx;                                                          \
        allocator->root = (sdt_desc_t *)setup->root;                                               \
        return 0;                                                                                  \
    }

#endif
