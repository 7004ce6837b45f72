/* What the objects here need of BPF's C interface: maps declared through BTF, sections, and the
 * few helpers that are called. */
#ifndef MAPMAKER_BPF_H
#define MAPMAKER_BPF_H

#include <linux/bpf.h>
#include <stdbool.h>

#define SECTION(name) __attribute__((section(name), used))

/* Map types that are younger than the headers of some systems. */
#define MAP_TYPE_CGRP_STORAGE 32

/* libbpf reads numbers from array lengths and types from pointers. */
#define MAP(name, kind, key_type, value_type, max)                                                 \
    struct {                                                                                       \
        int (*type)[BPF_MAP_TYPE_##kind];                                                          \
        int (*max_entries)[max];                                                                   \
        typeof(key_type) *key;                                                                     \
        typeof(value_type) *value;                                                                 \
    } name SECTION(".maps")

/* A map without a number of entries: local storage. The type is a number. */
#define STORAGE(name, kind, more_flags, key_type, value_type)                                      \
    struct {                                                                                       \
        int (*type)[kind];                                                                         \
        int (*map_flags)[more_flags];                                                              \
        typeof(key_type) *key;                                                                     \
        typeof(value_type) *value;                                                                 \
    } name SECTION(".maps")

static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const map_update)(void *map, const void *key, const void *value,
                                __u64 flags) = (void *)BPF_FUNC_map_update_elem;
static long (*const map_delete)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
static __u32 (*const this_cpu)(void) = (void *)BPF_FUNC_get_smp_processor_id;

#endif
