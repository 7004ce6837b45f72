/* Allocators of the second generation: `struct scx_allocator`, an id that calls its generation
 * `genn`, and a header before each payload. The arena starts where that of the first does, so
 * that a pointer alone does not tell which of them it is of. */
#include "arena.h"

ARENA(1 << 16, 0, 1ULL << 44);

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

struct sdt_data {
    union sdt_id tid;
    __u64 payload[];
};

struct sdt_chunk {
    union {
        sdt_desc_t *descs[512];
        struct sdt_data __arena *data[512];
    };
};

struct sdt_pool {
    void __arena *slab;
    __u64 elem_size;
    __u64 max_elems;
    __u64 idx;
};

struct scx_allocator {
    struct sdt_pool pool;
    sdt_desc_t *root;
};

/* What a slot of each allocator holds. */
struct task_ctx {
    char note[16];
    __u64 vtime;
    __u32 slices;
    bool greedy;
    struct node __arena *node;
};

typedef struct task_ctx __arena task_ctx_t;

struct node {
    __u64 value;
    struct node __arena *next;
};

typedef struct node __arena node_t;

struct far {
    __u32 idx;
    __u32 mark;
};

struct scx_allocator scx_task_allocator;
/* Each slot of its one leaf is taken. */
static struct scx_allocator scx_node_allocator;
struct scx_allocator scx_idle_allocator;

/* An allocator that is a member, with slots at both ends of the tree. */
struct registry {
    __u64 version;
    struct scx_allocator slots;
    struct far __arena *last;
} registry;

/* Of a list through all slots of the nodes. */
node_t *first_node;

struct scx_task_map_val {
    union sdt_id tid;
    __u64 tptr;
    struct sdt_data __arena *data;
};

STORAGE(scx_task_map, BPF_MAP_TYPE_TASK_STORAGE, BPF_F_NO_PREALLOC, int, struct scx_task_map_val);

SET_UP(scx_allocator)

SECTION("syscall")
int set(struct setup *setup)
{
    USE_ARENA();
    switch (setup->which) {
    case 0:
        return set_up(&scx_task_allocator, setup);
    case 1:
        return set_up(&scx_node_allocator, setup);
    case 2:
        return set_up(&scx_idle_allocator, setup);
    case 3:
        registry.version = 2;
        return set_up(&registry.slots, setup);
    }
    return 1;
}

/* What a chunk of a leaf has at a position. */
OWN_FUNCTION struct sdt_data __arena *data_at(struct sdt_chunk __arena *chunk, __u32 position)
{
    return chunk->data[position % 512];
}

OWN_FUNCTION sdt_desc_t *child(sdt_desc_t *desc, __u32 position)
{
    struct sdt_chunk __arena *chunk;

    if (!desc)
        return 0;
    chunk = desc->chunk;
    return chunk->descs[position % 512];
}

OWN_FUNCTION node_t *lookup_node(__u32 idx)
{
    sdt_desc_t *desc = child(child(scx_node_allocator.root, idx >> 18), idx >> 9);
    struct sdt_data __arena *data;

    if (!desc)
        return 0;
    data = data_at(desc->chunk, idx);
    return data ? (node_t *)data->payload : 0;
}

OWN_FUNCTION struct far __arena *lookup_far(__u32 idx)
{
    sdt_desc_t *desc = child(child(registry.slots.root, idx >> 18), idx >> 9);
    struct sdt_data __arena *data;

    if (!desc)
        return 0;
    data = data_at(desc->chunk, idx);
    return data ? (struct far __arena *)data->payload : 0;
}

struct link {
    __u32 node;
    __u32 far;
};

/* Finds slots through the trees and remembers them. */
SECTION("syscall")
int link(struct link *link)
{
    struct far __arena *far;

    USE_ARENA();
    first_node = lookup_node(link->node);
    far = lookup_far(link->far);
    if (!first_node || !far)
        return 1;
    far->mark++;
    registry.last = far;
    return 0;
}

OWN_FUNCTION task_ctx_t *lookup_task_ctx(struct task_struct *task)
{
    struct scx_task_map_val *val = task_storage(&scx_task_map, task, 0, 0);

    if (!val || !val->data)
        return 0;
    return (task_ctx_t *)val->data->payload;
}

/* A task of an allocator runs this. */
SECTION("syscall")
int run(__u64 *amount)
{
    task_ctx_t *ctx;

    USE_ARENA();
    ctx = lookup_task_ctx(current_task());
    if (!ctx)
        return 1;
    ctx->slices++;
    ctx->vtime += *amount;
    ctx->node = first_node;
    return 0;
}

char terms[] SECTION("license") = "GPL";
