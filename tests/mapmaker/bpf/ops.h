/* Congestion control that controls nothing: a struct of operations for the kernel to call. */
#include "bpf.h"

/* Members go by their names; the kernel's struct has more, and has them elsewhere. */
struct tcp_congestion_ops {
    __u32 (*ssthresh)(void *sk);
    void (*cong_avoid)(void *sk, __u32 ack, __u32 acked);
    __u32 (*undo_cwnd)(void *sk);
    char name[16];
    __u32 flags;
};

SECTION("struct_ops")
int threshold(__u64 *arguments)
{
    return 7;
}

SECTION("struct_ops")
void avoid(__u64 *arguments)
{
}

SECTION("struct_ops")
int undo(__u64 *arguments)
{
    return 10;
}

#define OPS(variable, section, title, bits)                                                        \
    struct tcp_congestion_ops variable SECTION(section) = {                                        \
        .ssthresh = (void *)threshold,                                                             \
        .cong_avoid = (void *)avoid,                                                               \
        .undo_cwnd = (void *)undo,                                                                 \
        .name = title,                                                                             \
        .flags = bits,                                                                             \
    }

char terms[] SECTION("license") = "GPL";
