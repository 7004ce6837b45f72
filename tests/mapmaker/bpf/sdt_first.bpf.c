/* Allocators of the first generation: `struct sdt_allocator`, an id that calls its generation
 * `gen`, and a header before each payload. All types are in BTF. */
#include "arena.h"

ARENA(1 << 16, 0, 1ULL << 44);

enum sdt_consts {
    SDT_TASK_ENTS_PER_PAGE_SHIFT = 9,
    SDT_TASK_LEVELS = 3,
    SDT_TASK_ENTS_PER_CHUNK = 1 << SDT_TASK_ENTS_PER_PAGE_SHIFT,
    SDT_TASK_CHUNK_BITMAP_U64S = SDT_TASK_ENTS_PER_CHUNK / 64,
};

union sdt_id {
    __s64 val;
    struct {
        __s32 idx;
        __s32 gen;
    };
};

struct sdt_chunk;

struct sdt_desc {
    __u64 allocated[SDT_TASK_CHUNK_BITMAP_U64S];
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
        sdt_desc_t *descs[SDT_TASK_ENTS_PER_CHUNK];
        struct sdt_data __arena *data[SDT_TASK_ENTS_PER_CHUNK];
    };
};

struct sdt_pool {
    void __arena *slab;
    __u64 elem_size;
    __u64 max_elems;
    __u64 idx;
};

struct sdt_allocator {
    struct sdt_pool pool;
    sdt_desc_t *root;
};

/* What a slot of each allocator holds. */
struct task_ctx {
    __u64 runs;
    __u64 sum;
    __u32 weight;
    __s32 dom;
    char note[24];
    struct dom_ctx __arena *home;
};

struct dom_ctx {
    __u32 id;
    __u32 nr_tasks;
    __u64 load[1524];
    __u64 min_vruntime;
    __u64 last;
    char name[24];
};

static struct sdt_allocator sdt_task_allocator;
struct sdt_allocator lb_domain_allocator;
/* Nobody has set this one up yet. */
struct sdt_allocator sdt_spare_allocator;

/* The domains by their numbers. */
struct dom_ctx __arena *dom_ctxs[8];

struct sdt_task_map_val {
    union sdt_id tid;
    __u64 tptr;
    struct sdt_data __arena *data;
};

STORAGE(sdt_task_map, BPF_MAP_TYPE_TASK_STORAGE, BPF_F_NO_PREALLOC, int, struct sdt_task_map_val);

SET_UP(sdt_allocator)

SECTION("syscall")
int set(struct setup *setup)
{
    USE_ARENA();
    switch (setup->which) {
    case 0:
        return set_up(&sdt_task_allocator, setup);
    case 1:
        return set_up(&lb_domain_allocator, setup);
    case 2:
        return sdt_spare_allocator.root != 0;
    }
    return 1;
}

/* The position that an index has in the chunk of a level. */
OWN_FUNCTION enum sdt_consts position(__u32 idx, enum sdt_consts level)
{
    __u32 shift = (SDT_TASK_LEVELS - 1 - level) * SDT_TASK_ENTS_PER_PAGE_SHIFT;

    return idx >> shift & (SDT_TASK_ENTS_PER_CHUNK - 1);
}

OWN_FUNCTION sdt_desc_t *child(struct sdt_chunk __arena *chunk, __u32 position)
{
    return chunk->descs[position % SDT_TASK_ENTS_PER_CHUNK];
}

OWN_FUNCTION struct sdt_data __arena *find(sdt_desc_t *desc, __u32 idx)
{
    struct sdt_chunk __arena *chunk;

    for (int level = 0; level < SDT_TASK_LEVELS - 1; level++) {
        if (!desc)
            return 0;
        desc = child(desc->chunk, position(idx, level));
    }
    if (!desc)
        return 0;
    chunk = desc->chunk;
    return chunk->data[position(idx, SDT_TASK_LEVELS - 1)];
}

OWN_FUNCTION struct dom_ctx __arena *lookup_dom(__u32 id)
{
    return id < 8 ? dom_ctxs[id] : 0;
}

struct arrival {
    __u32 id;
    __u32 nr_tasks;
};

/* Finds a domain through the tree and remembers it. */
SECTION("syscall")
int enter(struct arrival *arrival)
{
    struct sdt_data __arena *data;
    struct dom_ctx __arena *dom;
    __u32 id = arrival->id;

    USE_ARENA();
    data = find(lb_domain_allocator.root, id);
    if (!data || id >= 8)
        return 1;
    dom_ctxs[id] = (struct dom_ctx __arena *)data->payload;
    dom = lookup_dom(id);
    if (!dom)
        return 2;
    dom->id = id;
    dom->nr_tasks = arrival->nr_tasks;
    return 0;
}

OWN_FUNCTION struct task_ctx __arena *lookup_task_ctx(struct task_struct *task)
{
    struct sdt_task_map_val *val = task_storage(&sdt_task_map, task, 0, 0);

    if (!val || !val->data)
        return 0;
    return (struct task_ctx __arena *)val->data->payload;
}

/* A task of an allocator runs this. */
SECTION("syscall")
int run(__u64 *amount)
{
    struct task_ctx __arena *ctx;

    USE_ARENA();
    ctx = lookup_task_ctx(current_task());
    if (!ctx)
        return 1;
    ctx->runs++;
    ctx->sum += *amount;
    return 0;
}

char terms[] SECTION("license") = "GPL";
