/* Allocators of the third generation: what identifies a slot comes after the payload, and the
 * types of slots and chunks are not in BTF, as in schedulers that are built of many files. */
#include "arena.h"

ARENA(1 << 20, 0, 1ULL << 45);

union sdt_id {
    __s64 val;
    struct {
        __s32 idx;
        __s32 genn;
    };
};

struct sdt_chunk;

struct sdt_desc {
    __u64 allocated[8];
    __u64 nr_free;
    struct sdt_chunk __arena *chunk;
};

typedef struct sdt_desc __arena sdt_desc_t;

struct sdt_pool {
    void __arena *slab;
    void __arena *reserve;
    __u64 elem_size;
    __u64 max_elems;
    __u64 idx;
};

struct scx_allocator {
    struct sdt_pool pool;
    sdt_desc_t *root;
};

/* Memory that is handed out piece by piece and never taken back. */
struct scx_static {
    __u64 max_alloc_bytes;
    void __arena *memory;
    __u64 off;
};

struct scx_stk_seg;
typedef struct scx_stk_seg __arena scx_stk_seg_t;

struct scx_stk_seg {
    void __arena *elems[510];
    scx_stk_seg_t *prev;
    scx_stk_seg_t *next;
};

/* Free blocks of one size. */
struct scx_stk {
    __u32 __arena *lock;
    scx_stk_seg_t *first;
    scx_stk_seg_t *last;
    scx_stk_seg_t *current;
    __u64 cind;
    __u64 capacity;
    __u64 available;
    __u64 data_size;
    __u64 nr_pages_per_alloc;
    scx_stk_seg_t *reserve;
};

struct scx_buddy_chunk;
typedef struct scx_buddy_chunk __arena scx_buddy_chunk_t;

/* The start of 1 MiB that is halved as needed: the order of each piece of 16 bytes. */
struct scx_buddy_chunk {
    __u8 orders[32768];
    __u64 order_indices[16];
    scx_buddy_chunk_t *prev;
    scx_buddy_chunk_t *next;
};

struct scx_buddy {
    scx_buddy_chunk_t *first_chunk;
    __u64 min_alloc_bytes;
    struct scx_stk stack;
};

/* What a slot holds. */
struct task_ctx {
    __u64 runs;
    __u64 vtime;
    __u32 pid;
    __s32 weight;
    char comm[16];
    struct task_ctx __arena *waker;
    __u64 history[8];
};

/* What the static memory holds at its start. */
struct topology {
    __u32 nr_cpus;
    __u32 nr_nodes;
    char name[56];
};

typedef struct task_ctx __arena task_ctx_t;

struct scx_allocator scx_task_allocator;
struct scx_static scx_static;
struct scx_stk scx_stk;
struct scx_buddy scx_buddy;
struct topology __arena *topology;

struct scx_task_map_val {
    union sdt_id tid;
    __u64 tptr;
    void __arena *data;
};

STORAGE(scx_task_map, BPF_MAP_TYPE_TASK_STORAGE, BPF_F_NO_PREALLOC, int, struct scx_task_map_val);

SET_UP(scx_allocator)

SECTION("syscall")
int set(struct setup *setup)
{
    USE_ARENA();
    return set_up(&scx_task_allocator, setup);
}

/* Whether a desc says of itself that something is free. */
OWN_FUNCTION bool has_room(sdt_desc_t *desc)
{
    return desc->nr_free != 0;
}

struct memory {
    __u64 address;
    __u64 size;
    __u64 used;
};

SECTION("syscall")
int set_static(struct memory *memory)
{
    USE_ARENA();
    scx_static.memory = (void __arena *)memory->address;
    scx_static.max_alloc_bytes = memory->size;
    scx_static.off = memory->used;
    topology = (struct topology __arena *)memory->address;
    topology->nr_cpus = 2;
    topology->nr_nodes = 1;
    return !has_room(scx_task_allocator.root);
}

struct blocks {
    __u64 lock;
    __u64 first;
    __u64 last;
    __u64 current;
    __u64 cind;
    __u64 capacity;
    __u64 available;
};

SECTION("syscall")
int set_stack(struct blocks *blocks)
{
    USE_ARENA();
    scx_stk.lock = (__u32 __arena *)blocks->lock;
    scx_stk.first = (scx_stk_seg_t *)blocks->first;
    scx_stk.last = (scx_stk_seg_t *)blocks->last;
    scx_stk.current = (scx_stk_seg_t *)blocks->current;
    scx_stk.cind = blocks->cind;
    scx_stk.capacity = blocks->capacity;
    scx_stk.available = blocks->available;
    scx_stk.data_size = 4096;
    scx_stk.nr_pages_per_alloc = 1;
    *scx_stk.lock = 1;
    return 0;
}

/* Two orders share a byte. */
OWN_FUNCTION int set_order(scx_buddy_chunk_t *chunk, __u32 piece, __u8 order)
{
    chunk->orders[piece / 2 % sizeof(chunk->orders)] = order << piece % 2 * 4;
    return 0;
}

SECTION("syscall")
int set_buddy(struct memory *chunk)
{
    USE_ARENA();
    scx_buddy.first_chunk = (scx_buddy_chunk_t *)chunk->address;
    scx_buddy.min_alloc_bytes = chunk->size;
    scx_buddy.first_chunk->order_indices[15] = chunk->used;
    return set_order(scx_buddy.first_chunk, chunk->used, 15);
}

/* What the library finds a task by, without knowing what its slot holds. */
OWN_FUNCTION void __arena *task_data(struct task_struct *task)
{
    struct scx_task_map_val *val = task_storage(&scx_task_map, task, 0, 0);

    return val ? val->data : 0;
}

OWN_FUNCTION task_ctx_t *lookup_task_ctx(struct task_struct *task)
{
    return (task_ctx_t *)task_data(task);
}

struct adoption {
    __u64 data;
    __s64 tid;
    __u64 waker;
};

/* Gives a slot to the task that runs this. */
SECTION("syscall")
int adopt(struct adoption *adoption)
{
    struct scx_task_map_val *val;
    struct task_struct *task = current_task();
    task_ctx_t *ctx;

    USE_ARENA();
    val = task_storage(&scx_task_map, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!val)
        return 1;
    val->tid.val = adoption->tid;
    val->tptr = (__u64)task;
    val->data = (void __arena *)adoption->data;
    ctx = lookup_task_ctx(task);
    if (!ctx)
        return 2;
    ctx->pid = (__u32)current_ids();
    ctx->runs++;
    ctx->waker = (task_ctx_t *)adoption->waker;
    return 0;
}

char terms[] SECTION("license") = "GPL";
