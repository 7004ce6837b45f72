/* Maps whose keys and values have every kind of type. No program uses them; the map maker fills
 * them through bpf(2) and knows each type's layout by itself. */
#include "bpf.h"

/* Structs in structs, text, padding. */
struct endpoint {
    __u32 addr;
    __u16 port;
    __u8 proto;
};

enum state {
    STATE_IDLE,
    STATE_RUNNING = 3,
    STATE_STOPPED = -1,
};

struct flow_key {
    struct endpoint src;
    struct endpoint dst;
};

struct flow {
    char name[16];
    enum state state;
    bool sampled;
    __u64 packets;
    struct {
        __u32 rx;
        __u32 tx;
    } errors;
    struct endpoint via[2];
};

struct counter {
    __u64 packets;
    __u32 drops;
    __s16 level;
    bool hot;
};

MAP(flows, HASH, struct flow_key, struct flow, 400);
MAP(flows_lru, LRU_HASH, struct flow_key, struct flow, 400);
MAP(flow_slots, ARRAY, __u32, struct flow, 60);
MAP(counts_pc, PERCPU_HASH, __u64, struct counter, 100);
MAP(counts_lru_pc, LRU_PERCPU_HASH, __u64, struct counter, 400);
MAP(count_slots_pc, PERCPU_ARRAY, __u32, struct counter, 20);

/* Integers of every width and sign, behind typedefs and qualifiers. */
typedef __u32 millis;
typedef const volatile millis deadline;

struct scalars {
    __s8 s8;
    __u8 u8;
    __s16 s16;
    __u16 u16;
    __s32 s32;
    __u32 u32;
    __s64 s64;
    __u64 u64;
    bool yes;
    millis timeout;
    deadline until;
    const char letter;
};

MAP(scalars, HASH, __u32, struct scalars, 50);

struct bits {
    __u32 low : 1;
    __u32 mid : 7;
    __u32 wide : 24;
    __s32 negative : 5;
    __s32 far : 20;
    bool flag : 1;
    enum state state : 3;
    __u64 : 0;
    __u64 long_low : 33;
    __u64 long_high : 31;
    __u8 tail : 3;
    __u8 end : 5;
};

MAP(bits, HASH, __u32, struct bits, 50);

enum permission {
    MAY_READ = 1,
    MAY_WRITE = 2,
    MAY_EXEC = 4,
    MAY_APPEND = 128,
};

enum huge {
    HUGE_ONE = 1,
    HUGE_LOW = 0x100000000ULL,
    HUGE_TOP = 0x8000000000000000ULL,
};

enum deep {
    DEEP_MINUS = -0x100000000LL,
    DEEP_ZERO = 0,
    DEEP_PLUS = 0x7fffffffffffffffLL,
};

struct enums {
    enum state state;
    enum permission may;
    enum permission nothing;
    enum state unnamed;
    enum huge huge;
    enum deep deep;
    enum state list[3];
};

MAP(enums, HASH, enum state, struct enums, 8);

/* Members without names, unions, something of no size. */
union word {
    __u64 whole;
    __u32 half[2];
    __u8 bytes[8];
};

struct nests {
    __u32 kind;
    union {
        __u32 as_u32;
        __s32 as_s32;
    };
    struct {
        __u16 inner_a;
        struct {
            __u16 inner_b;
            __u32 inner_c;
        };
    };
    union word word;
    struct {
    } nothing;
    struct {
        struct {
            struct {
                __u8 bottom;
            } three;
        } two;
    } one;
};

MAP(nests, HASH, union word, struct nests, 50);

struct arrays {
    __u32 four[4];
    __u16 grid[3][2];
    char text[12];
    char full[4];
    char bytes[6];
    __u8 mac[6];
    struct endpoint ends[2];
    __s64 none[0];
    bool flags[3];
    char words[2][8];
};

MAP(arrays, HASH, char[8], struct arrays, 50);

struct wide {
    unsigned __int128 plus;
    __int128 minus;
};

MAP(wide, HASH, unsigned __int128, struct wide, 20);

struct floats {
    float single;
    double twice;
    float pair[2];
};

MAP(floats, HASH, __u32, struct floats, 20);

/* Pointers are printed, not followed: these lead nowhere. */
struct hidden;

#define TAG(name) __attribute__((btf_type_tag(name)))

struct pointers {
    void *any;
    struct hidden *hidden;
    const char *text;
    int (*function)(int, void *);
    struct pointers *self;
    int TAG("marked") * *marked;
    __u64 *const volatile qualified;
};

MAP(pointers, HASH, __u32, struct pointers, 20);

/* A flexible array takes no room in the struct that ends with it. */
struct packet {
    __u16 length;
    __u16 kind;
    __u8 payload[];
};

MAP(packets, HASH, __u32, struct packet, 20);

struct __attribute__((packed)) tight {
    __u8 head;
    __u32 word;
    __u64 quad;
    __u16 tail;
};

MAP(tight, HASH, struct tight, struct tight, 20);

struct locked {
    struct bpf_spin_lock lock;
    __u32 value;
    struct bpf_timer timer;
    __u64 last;
};

MAP(locked, ARRAY, __u32, struct locked, 10);

/* Values that are no structs. */
typedef char label[24];
typedef __u32 quad[4];

MAP(numbers, ARRAY, __u32, __s32, 40);
MAP(states, ARRAY, __u32, enum state, 10);
MAP(labels, HASH, label, quad, 20);
MAP(truths, HASH, bool, bool, 2);

/* A value over several pages, with types. */
struct sample {
    __u32 index;
    __u32 hits;
    __u64 when;
};

struct trace {
    char name[32];
    struct sample samples[300];
    __u32 count;
};

MAP(traces, HASH, __u32, struct trace, 10);
MAP(trace_slots, ARRAY, __u32, struct trace, 5);

char terms[] SECTION("license") = "GPL";
