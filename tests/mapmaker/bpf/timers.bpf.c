/* Timers and locks in values. */
#include "special.h"

struct timed {
    __u64 before;
    struct bpf_timer timer;
    struct bpf_spin_lock guard;
    __u32 after;
};

/* LRU maps take no locks. */
struct timed_lru {
    __u64 before;
    struct bpf_timer timer;
    __u32 after;
};

MAP(timers, HASH, __u32, struct timed, 20);
MAP(timers_lru, LRU_HASH, __u32, struct timed_lru, 20);
MAP(timer_slots, ARRAY, __u32, struct timed, 6);

static long (*const timer_init)(struct bpf_timer *timer, void *map,
                                __u64 flags) = (void *)BPF_FUNC_timer_init;
static long (*const timer_call)(struct bpf_timer *timer, void *call) =
    (void *)BPF_FUNC_timer_set_callback;
static long (*const timer_start)(struct bpf_timer *timer, __u64 nsecs,
                                 __u64 flags) = (void *)BPF_FUNC_timer_start;
static long (*const timer_cancel)(struct bpf_timer *timer) = (void *)BPF_FUNC_timer_cancel;

#define CLOCK_MONOTONIC 1
#define CLOCK_BOOTTIME 7
#define ABSOLUTE 1

/* What is to become of a timer. */
enum {
    LEFT_ALONE,
    SET_UP,
    ARMED,
    ARMED_OTHERWISE,
    CANCELLED,
};

static int rings(void *map, __u32 *key, void *value)
{
    return 0;
}

static int rings_otherwise(void *map, __u32 *key, void *value)
{
    return 0;
}

/* Returns 0, or 1 if the kernel takes no absolute time so that the timer got a distance, or 2. */
static inline int set(struct bpf_timer *timer, void *map, struct request *request)
{
    __u32 what = request->number & 7;
    int otherwise = what == ARMED_OTHERWISE, result = 0;

    if (what == LEFT_ALONE)
        return 0;
    if (timer_init(timer, map, otherwise ? CLOCK_BOOTTIME : CLOCK_MONOTONIC))
        return 2;
    if (otherwise)
        timer_call(timer, rings_otherwise);
    else
        timer_call(timer, rings);
    if (what == SET_UP)
        return 0;
    if (timer_start(timer, request->argument, ABSOLUTE)) {
        if (timer_start(timer, request->argument, 0))
            return 2;
        result = 1;
    }
    if (what == CANCELLED)
        timer_cancel(timer);
    return result;
}

#define ARM(name, map, type)                                                                       \
    SECTION("tc")                                                                                  \
    int name(struct __sk_buff *packet)                                                             \
    {                                                                                              \
        struct request *request = request_of(packet);                                              \
        struct type value = {}, *timed;                                                            \
        __u32 key;                                                                                 \
                                                                                                   \
        if (!request)                                                                              \
            return 2;                                                                              \
        key = request->key;                                                                        \
        value.before = request->number;                                                            \
        value.after = ~request->number;                                                            \
        map_update(&map, &key, &value, BPF_ANY);                                                   \
        timed = map_lookup(&map, &key);                                                            \
        return timed ? set(&timed->timer, &map, request) : 2;                                      \
    }

ARM(arm, timers, timed)
ARM(arm_lru, timers_lru, timed_lru)
ARM(arm_slot, timer_slots, timed)
