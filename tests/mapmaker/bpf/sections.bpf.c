/* Variables in every kind of data section. A program changes some of them, so that what is read
 * is not only what the loader put there. */
#include "bpf.h"

enum phase {
    PHASE_START,
    PHASE_WORK,
    PHASE_END,
};

struct item {
    __u32 id;
    __u16 weight;
    char tag[6];
};

struct bundle {
    __u32 count;
    struct item items[];
};

/* .bss */
__u64 runs;
__u64 untouched;
static volatile __u32 hidden_runs;
struct item last_item;
__u64 history[512];
enum phase phase;
bool busy;
char note[32];
static volatile __s16 small_static;
struct item table[40];
__u8 zeroes[9000];

/* .data */
__u32 version = 7;
static volatile __u64 secret = 0x1122334455667788;
__s64 minus = -5;
char greeting[] = "hello from data";
struct item first = {.id = 1, .weight = 2, .tag = "one"};
double ratio = 0.75;
void *nowhere = 0;
__u16 ports[6] = {22, 80, 443, 0, 0, 8080};
__u32 counted = 100;
struct bundle bundle = {
    .count = 2,
    .items = {{.id = 5, .weight = 50, .tag = "five"}, {.id = 6, .weight = 60, .tag = "six"}},
};

/* .rodata */
const __u32 limit = 4096;
const char banner[] = "read only";
const enum phase initial = PHASE_WORK;
const __u8 key_bytes[16] = {0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4};
static volatile const __u64 tuned = 0xfeed;

/* Sections with names of their own. */
__u32 in_foo SECTION(".data.foo") = 11;
struct item item_in_foo SECTION(".data.foo") = {.id = 12, .weight = 13, .tag = "foo"};
const __u64 in_bar SECTION(".rodata.bar") = 21;
__u32 in_baz SECTION(".bss.baz");

struct request {
    __u32 step;
};

/* One run: every variable that is written here is known from the number of runs. */
SECTION("syscall")
int bump(struct request *request)
{
    __u64 slot = runs & 511;

    history[slot] = runs * 3 + request->step;
    runs++;
    hidden_runs++;
    small_static -= 2;
    counted += request->step;
    in_foo++;
    in_baz += 2;
    secret += tuned;
    last_item.id = runs;
    last_item.weight = version;
    last_item.tag[0] = 'z';
    table[runs & 31].id = runs;
    phase = PHASE_END;
    busy = true;
    note[0] = 'o';
    note[1] = 'k';
    return limit + in_bar + key_bytes[request->step & 15];
}

char terms[] SECTION("license") = "GPL";
