/* Programs that write to ring buffers, which they find in an array of maps: all have the same
 * flags then, and any size. Included once for rings that refuse what has no room, and once for
 * those that overwrite the oldest. */
#include "bpf.h"

struct {
    int (*type)[BPF_MAP_TYPE_ARRAY_OF_MAPS];
    int (*max_entries)[32];
    int (*key_size)[4];
    int (*value_size)[4];
} RINGS SECTION(".maps");

static long (*const reserve)(void *ring, __u32 size, __u64 flags,
                             struct bpf_dynptr *place) = (void *)BPF_FUNC_ringbuf_reserve_dynptr;
static void (*const submit)(struct bpf_dynptr *place,
                            __u64 flags) = (void *)BPF_FUNC_ringbuf_submit_dynptr;
static void (*const discard)(struct bpf_dynptr *place,
                             __u64 flags) = (void *)BPF_FUNC_ringbuf_discard_dynptr;
static long (*const write)(struct bpf_dynptr *place, __u32 at, void *from, __u32 len,
                           __u64 flags) = (void *)BPF_FUNC_dynptr_write;
static long (*const copy_from_user)(void *to, __u32 size,
                                    const void *from) = (void *)BPF_FUNC_copy_from_user;

struct request {
    __u32 ring;
    __u32 len;
    __u32 discarded;
    __u32 first;
    /* If there is one: a word in user space to be read between reservation and submission. */
    __u64 wait;
};

/* Bytes that count up. */
__u8 pattern[8192];

/* A record of `len` bytes that count up from `first`. */
SECTION("syscall")
int push(struct request *request)
{
    __u32 len = request->len & 4095, from = request->first & 255, n = request->ring;
    struct bpf_dynptr place;
    __u64 word = 0;
    void *ring;

    ring = map_lookup(&RINGS, &n);
    if (!ring)
        return 2;
    if (reserve(ring, len, 0, &place)) {
        discard(&place, 0);
        return 1;
    }
    if (len)
        write(&place, 0, pattern + from, len, 0);
    if (request->wait)
        copy_from_user(&word, sizeof(word), (void *)request->wait);
    if (request->discarded)
        discard(&place, 0);
    else
        submit(&place, 0);
    return 0;
}

char terms[] SECTION("license") = "GPL";
