/* Maps that a program fills, one run after the other, on the CPU it is run on. */
#include "bpf.h"

struct tally {
    __u64 runs;
    __u32 cpu;
    __u32 step;
};

MAP(by_prog, HASH, __u32, struct tally, 500);
MAP(by_prog_pc, PERCPU_HASH, __u32, struct tally, 50);
MAP(by_prog_arr, ARRAY, __u32, struct tally, 20);
MAP(by_prog_arr_pc, PERCPU_ARRAY, __u32, struct tally, 5);

struct request {
    __u32 step;
};

SECTION("syscall")
int record(struct request *request)
{
    __u32 step = request->step, cpu = this_cpu(), slot = step % 20, five = step % 5;
    struct tally tally = {.runs = 1, .cpu = cpu, .step = step};
    struct tally *found;

    map_update(&by_prog, &step, &tally, BPF_ANY);
    if (step % 4 == 3)
        map_delete(&by_prog, &step);

    found = map_lookup(&by_prog_arr, &slot);
    if (found) {
        found->runs++;
        found->cpu = cpu;
        found->step = step;
    }
    found = map_lookup(&by_prog_arr_pc, &five);
    if (found) {
        found->runs++;
        found->cpu = cpu;
        found->step = step;
    }
    found = map_lookup(&by_prog_pc, &slot);
    if (found) {
        found->runs++;
        found->cpu = cpu;
        found->step = step;
    } else {
        /* The other CPUs' values of a new element are zero. */
        map_update(&by_prog_pc, &slot, &tally, BPF_ANY);
    }
    return 0;
}

char terms[] SECTION("license") = "GPL";
