/* Cgroup storage of the old kinds: it belongs to where a program is attached. */
#include "bpf.h"

struct traffic {
    __u64 packets;
    __u64 bytes;
    __u32 last;
};

typedef char odd[13];

STORAGE(cg_each, BPF_MAP_TYPE_CGROUP_STORAGE, 0, struct bpf_cgroup_storage_key, struct traffic);
STORAGE(cg_shared, BPF_MAP_TYPE_CGROUP_STORAGE, 0, __u64, struct traffic);
STORAGE(cg_odd, BPF_MAP_TYPE_CGROUP_STORAGE, 0, __u64, odd);
STORAGE(cg_unused, BPF_MAP_TYPE_CGROUP_STORAGE, 0, struct bpf_cgroup_storage_key, __u32);
STORAGE(cg_pc_each, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, 0, struct bpf_cgroup_storage_key,
        struct traffic);
STORAGE(cg_pc_shared, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, 0, __u64, struct traffic);
STORAGE(cg_pc_odd, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, 0, __u64, odd);

static void *(*const local_storage)(void *map, __u64 flags) = (void *)BPF_FUNC_get_local_storage;

static inline void count(struct traffic *traffic, struct __sk_buff *packet)
{
    traffic->packets++;
    traffic->bytes += packet->len;
    traffic->last = packet->len;
}

SECTION("cgroup_skb/egress")
int out(struct __sk_buff *packet)
{
    count(local_storage(&cg_each, 0), packet);
    count(local_storage(&cg_pc_each, 0), packet);
    return 1;
}

SECTION("cgroup_skb/ingress")
int in(struct __sk_buff *packet)
{
    count(local_storage(&cg_each, 0), packet);
    count(local_storage(&cg_pc_each, 0), packet);
    return 1;
}

SECTION("cgroup_skb/egress")
int out_shared(struct __sk_buff *packet)
{
    count(local_storage(&cg_shared, 0), packet);
    count(local_storage(&cg_pc_shared, 0), packet);
    return 1;
}

SECTION("cgroup_skb/ingress")
int in_shared(struct __sk_buff *packet)
{
    count(local_storage(&cg_shared, 0), packet);
    count(local_storage(&cg_pc_shared, 0), packet);
    return 1;
}

/* Each socket that is made writes its letter to the place that comes next. */
SECTION("cgroup/sock_create")
int create(struct bpf_sock *socket)
{
    char *all = local_storage(&cg_odd, 0), *mine = local_storage(&cg_pc_odd, 0);

    mine[12]++;
    all[0]++;
    all[1] = socket->type;
    all[2] = socket->protocol;
    mine[0] = socket->type;
    return 1;
}

char terms[] SECTION("license") = "GPL";
