/* Local storage of every kind: values that belong to tasks, inodes, sockets and cgroups. */
#include "bpf.h"

struct visit {
    __u64 count;
    __u32 last;
    char note[12];
};

struct room {
    __u32 number;
    __u8 walls[1196];
};

typedef char odd[13];

#define ON(kind, prefix)                                                                           \
    STORAGE(prefix##_visits, kind, BPF_F_NO_PREALLOC, int, struct visit);                          \
    STORAGE(prefix##_rooms, kind, BPF_F_NO_PREALLOC, int, struct room);                            \
    STORAGE(prefix##_odd, kind, BPF_F_NO_PREALLOC, int, odd);                                      \
    STORAGE(prefix##_empty, kind, BPF_F_NO_PREALLOC, int, __u32)

ON(BPF_MAP_TYPE_TASK_STORAGE, task);
ON(BPF_MAP_TYPE_INODE_STORAGE, inode);
ON(BPF_MAP_TYPE_SK_STORAGE, sk);
ON(MAP_TYPE_CGRP_STORAGE, cgrp);

/* Accepted connections inherit the listener's value. */
STORAGE(sk_cloned, BPF_MAP_TYPE_SK_STORAGE, BPF_F_NO_PREALLOC | BPF_F_CLONE, int, struct visit);

/* Tasks put their own values in here. */
STORAGE(task_own, BPF_MAP_TYPE_TASK_STORAGE, BPF_F_NO_PREALLOC, int, struct visit);

struct task_struct;

static struct task_struct *(*const current_task)(void) = (void *)BPF_FUNC_get_current_task_btf;
static void *(*const task_storage)(void *map, struct task_struct *task, void *value,
                                   __u64 flags) = (void *)BPF_FUNC_task_storage_get;

struct request {
    __u64 count;
    __u32 last;
};

SECTION("syscall")
int visit(struct request *request)
{
    struct visit first = {.count = request->count, .note = "by itself"};
    struct visit *own;

    own = task_storage(&task_own, current_task(), &first, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!own)
        return 1;
    own->last = request->last;
    return 0;
}

char terms[] SECTION("license") = "GPL";
