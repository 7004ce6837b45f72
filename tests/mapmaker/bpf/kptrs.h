/* Pointers to the kernel's objects in values. */
#include "special.h"

static struct task_struct *(*const current_task)(void) = (void *)BPF_FUNC_get_current_task_btf;

struct seen {
    __u64 before;
    struct task_struct TYPE_TAG(UNTRUSTED) * task;
    __u32 after;
};

MAP(sightings, HASH, __u32, struct seen, 10);
MAP(sightings_lru, LRU_HASH, __u32, struct seen, 10);
MAP(sighting_slots, ARRAY, __u32, struct seen, 4);

static inline int keep(void *map, struct request *request)
{
    struct seen value = {.before = request->argument, .after = request->number}, *seen;
    struct task_struct *task = current_task();
    __u32 key = request->key;

    map_update(map, &key, &value, BPF_ANY);
    seen = map_lookup(map, &key);
    if (!seen)
        return 1;
    /* Pointers to a struct of which no member is used would have no type. */
    if (request->number && task->pid)
        seen->task = task;
    return 0;
}

SECTION("tc")
int see(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);

    return request ? keep(&sightings, request) | keep(&sightings_lru, request) : 2;
}

SECTION("tc")
int see_slot(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);

    return request ? keep(&sighting_slots, request) : 2;
}
