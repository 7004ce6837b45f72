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

static struct task_struct *(*const current_task)(void) = (void *)BPF_FUNC_get_current_task_btf;
static void *(*const task_storage)(void *map, struct task_struct *task, void *value,
                                   __u64 flags) = (void *)BPF_FUNC_task_storage_get;

/* What the caller's memory says in its last word, if it says the number. As a mere target of a
 * pointer in a struct the type would lack its members, and the kernel would take the pointer for a
 * number; as a parameter it is whole. */
SECTION("syscall")
int last_word(struct shared *wanted)
{
    struct lent *lent = task_storage(&loans, current_task(), 0, 0);
    struct shared *shared;

    if (!lent)
        return 0;
    shared = lent->shared;
    return shared && shared->number == wanted->number ? shared->more[3] : 0;
}
