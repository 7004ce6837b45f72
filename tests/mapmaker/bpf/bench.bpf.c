/* The maps that the benchmarks walk. */
#include "bpf.h"

enum verdict {
    VERDICT_PASS,
    VERDICT_DROP,
    VERDICT_LATER,
};

struct session_key {
    __u32 source;
    __u32 target;
    __u16 port;
    __u16 proto;
};

struct session {
    __u64 packets;
    __u64 bytes;
    __u32 mark;
    enum verdict verdict;
    __u16 flags;
    bool established;
    char owner[13];
};

MAP(sessions, HASH, struct session_key, struct session, 100000);
MAP(session_slots, ARRAY, __u32, struct session, 100000);

char terms[] SECTION("license") = "GPL";
