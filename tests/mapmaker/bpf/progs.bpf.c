/* Programs of many types, to be put into maps and to be listed. They do next to nothing. */
#include "bpf.h"

struct xdp_md;
struct __sk_buff;

SECTION("xdp")
int pass(struct xdp_md *packet)
{
    return XDP_PASS;
}

SECTION("xdp")
int drop(struct xdp_md *packet)
{
    return XDP_DROP;
}

/* A name longer than the kernel keeps outside of BTF. */
SECTION("xdp")
int a_name_that_is_too_long_for_the_kernel(struct xdp_md *packet)
{
    return packet->ingress_ifindex == 1 ? XDP_PASS : XDP_DROP;
}

SECTION("xdp/devmap")
int to_device(struct xdp_md *packet)
{
    return XDP_PASS;
}

SECTION("xdp/cpumap")
int to_cpu(struct xdp_md *packet)
{
    return XDP_PASS;
}

SECTION("socket")
int filter(struct __sk_buff *packet)
{
    return packet->len;
}

static __attribute__((noinline)) int half(struct __sk_buff *packet, int more)
{
    return packet->len / 2 + more;
}

SECTION("tc")
int classify(struct __sk_buff *packet)
{
    return half(packet, 1) + half(packet, packet->mark);
}

SECTION("tc")
int classify_too(struct __sk_buff *packet)
{
    return 0;
}

SECTION("cgroup_skb/egress")
int leaving(struct __sk_buff *packet)
{
    return 1;
}

SECTION("sk_msg")
int message(struct sk_msg_md *message)
{
    return SK_PASS;
}

SECTION("sk_skb/stream_parser")
int parse(struct __sk_buff *packet)
{
    return packet->len;
}

SECTION("sockops")
int operation(struct bpf_sock_ops *operation)
{
    return 0;
}

SECTION("raw_tp/sys_enter")
int entered(void *arguments)
{
    return 0;
}

SECTION("tp/syscalls/sys_enter_getpid")
int traced(void *arguments)
{
    return 0;
}

SECTION("kprobe/bpf_fentry_test2")
int probed(void *registers)
{
    return 0;
}

SECTION("perf_event")
int sampled(void *sample)
{
    return 0;
}

SECTION("fentry/bpf_fentry_test1")
int before(unsigned long long *arguments)
{
    return 0;
}

SECTION("fexit/bpf_fentry_test1")
int after(unsigned long long *arguments)
{
    return 0;
}

struct request {
    __u32 step;
};

SECTION("syscall")
int called(struct request *request)
{
    return request->step;
}

char terms[] SECTION("license") = "GPL";
