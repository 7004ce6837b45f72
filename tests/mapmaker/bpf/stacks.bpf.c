/* Stacks, of the kernel and of who called it, as addresses and as places in files. */
#include "bpf.h"

#define STACKS(name, max, flags, size)                                                             \
    struct {                                                                                       \
        int (*type)[BPF_MAP_TYPE_STACK_TRACE];                                                     \
        int (*max_entries)[max];                                                                   \
        int (*map_flags)[flags];                                                                   \
        int (*key_size)[4];                                                                        \
        int (*value_size)[size];                                                                   \
    } name SECTION(".maps")

STACKS(stacks, 1000, 0, 127 * 8);
STACKS(stacks_short, 64, 0, 2 * 8);
STACKS(stacks_one, 1, 0, 20 * 8);
STACKS(stacks_user, 128, 0, 30 * 8);
STACKS(stacks_empty, 16384, 0, 127 * 8);
STACKS(places, 100, BPF_F_STACK_BUILD_ID, 40 * sizeof(struct bpf_stack_build_id));

static long (*const stack_id)(void *context, void *map,
                              __u64 flags) = (void *)BPF_FUNC_get_stackid;



SECTION("raw_tp/bpfreeze")
int whole(__u64 *arguments)
{
    return stack_id(arguments, &stacks, BPF_F_REUSE_STACKID);
}

SECTION("raw_tp/bpfreeze")
int skipped(__u64 *arguments)
{
    return stack_id(arguments, &stacks, BPF_F_REUSE_STACKID | 3);
}

SECTION("raw_tp/bpfreeze")
int cut(__u64 *arguments)
{
    return stack_id(arguments, &stacks_short, BPF_F_REUSE_STACKID);
}

SECTION("raw_tp/bpfreeze")
int only(__u64 *arguments)
{
    return stack_id(arguments, &stacks_one, BPF_F_REUSE_STACKID);
}

SECTION("raw_tp/bpfreeze")
int caller(__u64 *arguments)
{
    return stack_id(arguments, &stacks_user, BPF_F_REUSE_STACKID | BPF_F_USER_STACK);
}

SECTION("raw_tp/bpfreeze")
int place(__u64 *arguments)
{
    return stack_id(arguments, &places, BPF_F_REUSE_STACKID | BPF_F_USER_STACK);
}

SECTION("raw_tp/bpfreeze")
int no_place(__u64 *arguments)
{
    return stack_id(arguments, &places, BPF_F_REUSE_STACKID);
}

char terms[] SECTION("license") = "GPL";
