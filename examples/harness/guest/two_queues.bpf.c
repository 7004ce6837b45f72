/* A scheduler with a bug, for a harness to find: it has a queue for tasks of little weight and one
 * for all others, and forgets to dispatch from the first. */
#include <linux/bpf.h>
#include <stdbool.h>

#define SECTION(name) __attribute__((section(name), used))
#define KERNEL __attribute__((preserve_access_index))
#define KFUNC __attribute__((section(".ksyms")))

/* Of the kernel's types what is used here. Members go by their names. */
struct sched_ext_entity {
    __u32 weight;
} KERNEL;

struct task_struct {
    unsigned int flags;
    struct sched_ext_entity scx;
} KERNEL;

struct scx_exit_info {
    const char *reason;
    char *msg;
} KERNEL;

struct sched_ext_ops {
    __s32 (*select_cpu)(struct task_struct *p, __s32 prev_cpu, __u64 wake_flags);
    void (*enqueue)(struct task_struct *p, __u64 enq_flags);
    void (*dispatch)(__s32 cpu, struct task_struct *prev);
    __s32 (*init)(void);
    void (*exit)(struct scx_exit_info *info);
    __u32 timeout_ms;
    char name[128];
};

extern __s32 scx_bpf_create_dsq(__u64 dsq_id, __s32 node) KFUNC;
extern void scx_bpf_dsq_insert(struct task_struct *p, __u64 dsq_id, __u64 slice,
                               __u64 enq_flags) KFUNC;
extern bool scx_bpf_dsq_move_to_local(__u64 dsq_id) KFUNC;

static void *(*const task_storage)(void *map, struct task_struct *task, void *value,
                                   __u64 flags) = (void *)BPF_FUNC_task_storage_get;
static long (*const read_str)(void *to, __u32 size,
                              const void *from) = (void *)BPF_FUNC_probe_read_kernel_str;

#define PF_KTHREAD 0x00200000
#define SCX_DSQ_LOCAL 0x8000000000000002ULL
#define SLICE_NS 5000000ULL
#define NORMAL_WEIGHT 100

enum queue { QUEUE_NORMAL = 1, QUEUE_LIGHT = 2 };

struct task_ctx {
    enum queue queue;
    __u64 nr_queued;
};

struct {
    int (*type)[BPF_MAP_TYPE_TASK_STORAGE];
    int (*map_flags)[BPF_F_NO_PREALLOC];
    int *key;
    struct task_ctx *value;
} task_ctx SECTION(".maps");

struct {
    __u64 nr_queued;
    __u64 nr_dispatched;
} normal, light;

/* Why the kernel ended this scheduler. */
char exit_reason[64];
char exit_msg[128];

SECTION("struct_ops")
int select_cpu(__u64 *arguments)
{
    return arguments[1]; /* where it ran before */
}

SECTION("struct_ops")
void enqueue(__u64 *arguments)
{
    struct task_struct *task = (void *)arguments[0];
    struct task_ctx *ctx;
    bool is_light = task->scx.weight < NORMAL_WEIGHT;

    if (task->flags & PF_KTHREAD) {
        scx_bpf_dsq_insert(task, SCX_DSQ_LOCAL, SLICE_NS, arguments[1]);
        return;
    }
    ctx = task_storage(&task_ctx, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (ctx) {
        ctx->queue = is_light ? QUEUE_LIGHT : QUEUE_NORMAL;
        ctx->nr_queued++;
    }
    __sync_fetch_and_add(is_light ? &light.nr_queued : &normal.nr_queued, 1);
    scx_bpf_dsq_insert(task, is_light ? QUEUE_LIGHT : QUEUE_NORMAL, SLICE_NS, arguments[1]);
}

SECTION("struct_ops")
void dispatch(__u64 *arguments)
{
    if (scx_bpf_dsq_move_to_local(QUEUE_NORMAL))
        __sync_fetch_and_add(&normal.nr_dispatched, 1);
    /* The bug: nothing moves what is in QUEUE_LIGHT. */
}

SECTION("struct_ops.s")
int init(__u64 *arguments)
{
    int error = scx_bpf_create_dsq(QUEUE_NORMAL, -1);

    return error ? error : scx_bpf_create_dsq(QUEUE_LIGHT, -1);
}

SECTION("struct_ops")
void fini(__u64 *arguments)
{
    struct scx_exit_info *info = (void *)arguments[0];

    read_str(exit_reason, sizeof(exit_reason), info->reason);
    read_str(exit_msg, sizeof(exit_msg), info->msg);
}

struct sched_ext_ops two_queues SECTION(".struct_ops.link") = {
    .select_cpu = (void *)select_cpu,
    .enqueue = (void *)enqueue,
    .dispatch = (void *)dispatch,
    .init = (void *)init,
    .exit = (void *)fini,
    .timeout_ms = 5000,
    .name = "two_queues",
};

char terms[] SECTION("license") = "GPL";
