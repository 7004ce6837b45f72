/* Objects in values that each CPU has one of. */
#include "special.h"

extern void *bpf_percpu_obj_new_impl(__u64 type, void *meta) KSYM;
extern void bpf_percpu_obj_drop_impl(void *object, void *meta) KSYM;

static void *(*const of_cpu)(const void *object, __u32 cpu) = (void *)BPF_FUNC_per_cpu_ptr;

struct cell {
    __u64 number;
    __u32 cpu;
    __u32 half;
};

struct shelf {
    __u64 id;
    struct cell TYPE_TAG("percpu_kptr") * cells;
};

MAP(shelves, HASH, __u32, struct shelf, 10);
MAP(shelf_slots, ARRAY, __u32, struct shelf, 4);

static inline int fill(void *map, struct request *request)
{
    __u32 key = request->key, number = request->number, cpus = request->argument, cpu;
    struct cell *cells, *cell;
    struct shelf *shelf;

    shelf = map_lookup(map, &key);
    if (!shelf)
        return 1;
    shelf->id = number;
    if (!number)
        return 0;
    cells = bpf_percpu_obj_new_impl(LOCAL_ID(struct cell), 0);
    if (!cells)
        return 2;
    cells = exchange(&shelf->cells, cells);
    if (cells)
        bpf_percpu_obj_drop_impl(cells, 0);
    cells = shelf->cells;
    if (!cells)
        return 3;
    for (cpu = 0; cpu < cpus && cpu < 64; cpu++) {
        cell = of_cpu(cells, cpu);
        if (!cell)
            return 4;
        cell->number = (__u64)number << 32 | cpu;
        cell->cpu = cpu;
        cell->half = number / 2;
    }
    return 0;
}

SECTION("tc")
int fill_key(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);
    struct shelf value = {};
    __u32 key;

    if (!request)
        return 9;
    key = request->key;
    map_update(&shelves, &key, &value, BPF_ANY);
    return fill(&shelves, request);
}

SECTION("tc")
int fill_slot(struct __sk_buff *packet)
{
    struct request *request = request_of(packet);

    return request ? fill(&shelf_slots, request) : 9;
}
