/* Ring buffers that refuse what they have no room for, and one that user space writes to. */
#define RINGS rings
#include "rings.h"

struct {
    int (*type)[BPF_MAP_TYPE_USER_RINGBUF];
    int (*max_entries)[8192];
} ur_drained SECTION(".maps");

static long (*const drain)(void *ring, void *each, void *context,
                           __u64 flags) = (void *)BPF_FUNC_user_ringbuf_drain;

static long take(struct bpf_dynptr *sample, __u32 *left)
{
    *left -= 1;
    return *left == 0;
}

/* Consumes so many samples, which is fewer than there are. */
SECTION("syscall")
int consume(struct request *request)
{
    __u32 left = request->len;

    return drain(&ur_drained, take, &left, 0);
}
