/* Work queues in values. */
#include "special.h"

struct job {
    __u32 number;
    __u32 done;
    struct bpf_wq work;
};

MAP(jobs, HASH, __u32, struct job, 20);
MAP(job_slots, ARRAY, __u32, struct job, 5);

/* The kernel has either the one or the other. */
extern int bpf_wq_set_callback_impl(struct bpf_wq *work, int(call)(void *, int *, void *),
                                    unsigned int flags, void *aux) KSYM WEAK;
extern int bpf_wq_set_callback(struct bpf_wq *work, int(call)(void *, int *, void *),
                               unsigned int flags) KSYM WEAK;
extern int bpf_wq_init(struct bpf_wq *work, void *map, unsigned int flags) KSYM;
extern int bpf_wq_start(struct bpf_wq *work, unsigned int flags) KSYM;

static int work_done(void *map, int *key, void *value)
{
    struct job *job = value;

    job->done++;
    return 0;
}

/* Work that is left alone, set up, or done. */
static inline int set(void *map, struct request *request)
{
    struct job value = {.number = request->number}, *job;
    __u32 key = request->key, what = request->number & 3;

    map_update(map, &key, &value, BPF_ANY);
    job = map_lookup(map, &key);
    if (!job)
        return 1;
    if (!what)
        return 0;
    if (bpf_wq_init(&job->work, map, 0))
        return 2;
    if (bpf_wq_set_callback) {
        if (bpf_wq_set_callback(&job->work, work_done, 0))
            return 3;
    } else if (bpf_wq_set_callback_impl(&job->work, work_done, 0, 0)) {
        return 3;
    }
    if (what == 2 && bpf_wq_start(&job->work, 0))
        return 4;
    return 0;
}

SECTION("tc")
int start(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);

    return request ? set(&jobs, request) : 5;
}

SECTION("tc")
int start_slot(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);

    return request ? set(&job_slots, request) : 5;
}
