/* Pointers to user space's memory in values that belong to tasks. */
#include "special.h"

struct shared {
    __u64 number;
    char text[16];
    __u32 more[4];
};

struct lent {
    __u64 before;
    struct shared TYPE_TAG("uptr") * shared;
    __u32 after;
};

STORAGE(loans, BPF_MAP_TYPE_TASK_STORAGE, BPF_F_NO_PREALLOC, int, struct lent);
