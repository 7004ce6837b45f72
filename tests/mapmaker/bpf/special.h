/* What programs need that fill special fields of values. The kernel knows these types by their
 * names; the system's headers may have some of them, or none. */
#ifndef MAPMAKER_SPECIAL_H
#define MAPMAKER_SPECIAL_H

#define bpf_wq system_wq
#define bpf_list_head system_list_head
#define bpf_list_node system_list_node
#define bpf_rb_root system_rb_root
#define bpf_rb_node system_rb_node
#define bpf_refcount system_refcount
#include "bpf.h"
#undef bpf_wq
#undef bpf_list_head
#undef bpf_list_node
#undef bpf_rb_root
#undef bpf_rb_node
#undef bpf_refcount

struct bpf_wq {
    __u64 opaque[2];
};

struct bpf_list_head {
    __u64 opaque[2];
};

struct bpf_list_node {
    __u64 opaque[3];
};

struct bpf_rb_root {
    __u64 opaque[2];
};

struct bpf_rb_node {
    __u64 opaque[4];
};

struct bpf_refcount {
    __u32 opaque[1];
};

/* Types of the kernel, found by their names. */
struct task_struct {
    int pid;
} __attribute__((preserve_access_index));

struct cgroup {
    int level;
} __attribute__((preserve_access_index));

#define KSYM SECTION(".ksyms")
#define WEAK __attribute__((weak))
#define TYPE_TAG(name) __attribute__((btf_type_tag(name)))
#define CONTAINS(type, member) __attribute__((btf_decl_tag("contains:" #type ":" #member)))
#define LOCAL_ID(type) __builtin_btf_type_id(*(type *)0, 0)
#define CONTAINER(pointer, type, member)                                                           \
    ((type *)((void *)(pointer) - __builtin_offsetof(type, member)))

static long (*const lock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_lock;
static long (*const unlock)(struct bpf_spin_lock *lock) = (void *)BPF_FUNC_spin_unlock;
static void *(*const exchange)(void *place, void *with) = (void *)BPF_FUNC_kptr_xchg;

/* What a program is asked for comes as a packet. */
struct request {
    __u32 key;
    __u32 number;
    __u64 argument;
};

static inline struct request *request_of(struct __sk_buff *packet)
{
    void *data = (void *)(long)packet->data, *end = (void *)(long)packet->data_end;

    if (data + sizeof(struct request) > end)
        return 0;
    return data;
}

char terms[] SECTION("license") = "GPL";

#endif
