/* Lists and trees of objects that programs have allocated, and objects in values. */
#include "special.h"

extern void *bpf_obj_new_impl(__u64 type, void *meta) KSYM;
extern void bpf_obj_drop_impl(void *object, void *meta) KSYM;
extern void *bpf_refcount_acquire_impl(void *object, void *meta) KSYM;
extern int bpf_list_push_front_impl(struct bpf_list_head *head, struct bpf_list_node *node,
                                    void *meta, __u64 offset) KSYM;
extern int bpf_list_push_back_impl(struct bpf_list_head *head, struct bpf_list_node *node,
                                   void *meta, __u64 offset) KSYM;
extern int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node,
                               bool(less)(struct bpf_rb_node *a, const struct bpf_rb_node *b),
                               void *meta, __u64 offset) KSYM;

#define NEW(type) ((type *)bpf_obj_new_impl(LOCAL_ID(type), 0))

struct item {
    __u64 number;
    struct bpf_list_node link;
    __u32 twice;
};

struct leaf {
    struct bpf_rb_node place;
    __u64 number;
    __u32 twice;
};

/* In a list and in a tree at once. */
struct both {
    __u64 number;
    struct bpf_refcount references;
    struct bpf_list_node link;
    struct bpf_rb_node place;
};

struct thing {
    __u64 number;
    __u32 words[3];
};

struct graph {
    __u32 id;
    struct bpf_spin_lock guard;
    struct bpf_list_head list CONTAINS(item, link);
    struct bpf_rb_root tree CONTAINS(leaf, place);
};

struct pair {
    struct bpf_list_head list CONTAINS(both, link);
    struct bpf_rb_root tree CONTAINS(both, place);
    struct bpf_spin_lock guard;
    __u32 id;
};

struct stash {
    struct thing TYPE_TAG("kptr") * thing;
    __u64 id;
};

MAP(graphs, HASH, __u32, struct graph, 10);
MAP(graph_slots, ARRAY, __u32, struct graph, 3);
MAP(pairs, ARRAY, __u32, struct pair, 2);
MAP(stashes, HASH, __u32, struct stash, 10);

static bool leaf_less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
    return CONTAINER(a, struct leaf, place)->number < CONTAINER(b, struct leaf, place)->number;
}

static bool both_less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
    return CONTAINER(a, struct both, place)->number < CONTAINER(b, struct both, place)->number;
}

/* An object with the number goes to the list's front (0), its back (1), or into the tree (2). */
static inline int put(struct graph *graph, struct request *request)
{
    struct item *item;
    struct leaf *leaf;

    graph->id = request->key;
    if (request->argument == 3)
        return 0;
    if (request->argument == 2) {
        leaf = NEW(struct leaf);
        if (!leaf)
            return 1;
        leaf->number = request->number;
        leaf->twice = request->number * 2;
        lock(&graph->guard);
        bpf_rbtree_add_impl(&graph->tree, &leaf->place, leaf_less, 0, 0);
        unlock(&graph->guard);
        return 0;
    }
    item = NEW(struct item);
    if (!item)
        return 1;
    item->number = request->number;
    item->twice = request->number * 2;
    lock(&graph->guard);
    if (request->argument)
        bpf_list_push_back_impl(&graph->list, &item->link, 0, 0);
    else
        bpf_list_push_front_impl(&graph->list, &item->link, 0, 0);
    unlock(&graph->guard);
    return 0;
}

static inline struct graph *made(void *map, __u32 key)
{
    struct graph value = {};

    map_update(map, &key, &value, BPF_NOEXIST);
    return map_lookup(map, &key);
}

SECTION("tc")
int put_key(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);
    struct graph *graph = request ? made(&graphs, request->key) : 0;

    return graph ? put(graph, request) : 2;
}

SECTION("tc")
int put_slot(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);
    struct graph *graph;
    __u32 key;

    if (!request)
        return 2;
    key = request->key;
    graph = map_lookup(&graph_slots, &key);
    return graph ? put(graph, request) : 2;
}

SECTION("tc")
int put_pair(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);
    struct both *both, *again;
    struct pair *pair;
    __u32 key;

    if (!request)
        return 2;
    key = request->key;
    pair = map_lookup(&pairs, &key);
    if (!pair)
        return 3;
    pair->id = key;
    both = NEW(struct both);
    if (!both)
        return 4;
    both->number = request->number;
    again = bpf_refcount_acquire_impl(both, 0);
    if (!again) {
        bpf_obj_drop_impl(both, 0);
        return 5;
    }
    lock(&pair->guard);
    bpf_list_push_back_impl(&pair->list, &both->link, 0, 0);
    bpf_rbtree_add_impl(&pair->tree, &again->place, both_less, 0, 0);
    unlock(&pair->guard);
    return 0;
}

SECTION("tc")
int put_stash(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);
    struct stash value = {}, *stash;
    struct thing *thing;
    __u32 key;

    if (!request)
        return 2;
    key = request->key;
    value.id = request->number;
    map_update(&stashes, &key, &value, BPF_ANY);
    stash = map_lookup(&stashes, &key);
    if (!stash)
        return 3;
    if (!request->argument)
        return 0;
    thing = NEW(struct thing);
    if (!thing)
        return 4;
    thing->number = request->argument;
    thing->words[0] = request->number;
    thing->words[1] = key;
    thing->words[2] = 77;
    thing = exchange(&stash->thing, thing);
    if (thing)
        bpf_obj_drop_impl(thing, 0);
    return 0;
}
