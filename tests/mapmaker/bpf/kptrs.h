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

/* Without a parameter of its type the task's struct would lack its members in the types, and the
 * kernel would not know the pointer for one. */
static __attribute__((noinline)) int point(struct seen *seen, struct task_struct *task)
{
    seen->task = task;
    return 0;
}

static inline int keep(void *map, struct request *request)
{
    struct seen value = {.before = request->argument, .after = request->number}, *seen;
    __u32 key = request->key;

    map_update(map, &key, &value, BPF_ANY);
    seen = map_lookup(map, &key);
    if (!seen)
        return 1;
    return request->number ? point(seen, current_task()) : 0;
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
