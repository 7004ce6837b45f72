/* Pointers with and without references. */
#define UNTRUSTED "kptr_untrusted"
#include "kptrs.h"

struct held {
    __u64 before;
    struct task_struct TYPE_TAG("kptr") * task;
    struct cgroup TYPE_TAG("kptr") * group;
    __u32 after;
};

MAP(holdings, HASH, __u32, struct held, 10);
MAP(holding_slots, ARRAY, __u32, struct held, 5);
MAP(holdings_pc, PERCPU_ARRAY, __u32, struct held, 3);

extern struct task_struct *bpf_task_from_pid(int pid) KSYM;
extern void bpf_task_release(struct task_struct *task) KSYM;
extern struct cgroup *bpf_cgroup_from_id(__u64 id) KSYM;
extern void bpf_cgroup_release(struct cgroup *group) KSYM;

/* Takes hold of the task with the number and of the cgroup with the argument, or of none. Elements
 * may come with pointers that their last use has left. */
static inline int hold(void *map, struct request *request)
{
    __u32 key = request->key, number = request->number;
    __u64 id = request->argument;
    struct task_struct *task;
    struct cgroup *group;
    struct held *held;

    held = map_lookup(map, &key);
    if (!held)
        return 1;
    if (number) {
        task = bpf_task_from_pid(number);
        if (!task)
            return 2;
        task = exchange(&held->task, task);
    } else {
        task = exchange(&held->task, 0);
    }
    if (task)
        bpf_task_release(task);
    if (id) {
        group = bpf_cgroup_from_id(id);
        if (!group)
            return 3;
        group = exchange(&held->group, group);
    } else {
        group = exchange(&held->group, 0);
    }
    if (group)
        bpf_cgroup_release(group);
    held->before = number;
    held->after = id;
    return 0;
}

SECTION("tc")
int hold_key(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);
    struct held value = {};
    __u32 key;

    if (!request)
        return 9;
    key = request->key;
    map_update(&holdings, &key, &value, BPF_ANY);
    return hold(&holdings, request);
}

SECTION("tc")
int hold_slot(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);

    return request ? hold(&holding_slots, request) : 9;
}

SECTION("tc")
int hold_here(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);

    return request ? hold(&holdings_pc, request) : 9;
}
