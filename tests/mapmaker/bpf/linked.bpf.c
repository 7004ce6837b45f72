/* Structures in an arena that point at each other, made by a program. Of the arena's pages only
 * those are there that the program asks for. */
#include "arena.h"

#define PAGE 4096
#define NODES 300
#define RING 5

ARENA(64, SEGV_ON_FAULT, (1ULL << 46) + (1ULL << 31));

typedef void __arena *page_t;

extern page_t bpf_arena_alloc_pages(void *map, page_t address, __u32 pages, int node,
                                    __u64 flags) SECTION(".ksyms");
extern void bpf_arena_free_pages(void *map, page_t address, __u32 pages) SECTION(".ksyms");

struct node {
    __u64 number;
    struct node __arena *next;
    char text[16];
};

struct pair {
    __u32 id;
    struct node __arena *left;
    struct node __arena *right;
};

/* Longer than a page. */
struct hall {
    __u32 number;
    __u32 walls[1500];
    struct node __arena *door;
    __u64 last;
};

struct item {
    __u32 id;
    __u32 weight;
};

/* A list that ends. */
struct node __arena *list;
/* A list that comes back to its start. */
struct node __arena *ring;
/* Two that share what both their left sides point at. */
struct pair __arena *pairs[2];
struct hall __arena *hall;
/* A number inside of the hall. */
__u32 __arena *wall;
/* The third of some items. */
struct item __arena *middle;
struct item __arena *items;
/* Leads to a page that is not there. */
struct node __arena *nowhere;
/* An object by what a program has in a register while it uses it: half an address. */
struct node *half;
/* Nothing says what this points at. */
void __arena *untyped;
__u64 checksum;

struct start {
    __u64 address;
};

OWN_FUNCTION struct node __arena *node_at(struct node __arena *first, __u32 at)
{
    return first + at;
}

/* Makes everything in pages 1 to 9 of the arena; page 3 is given back. */
SECTION("syscall")
int build(struct start *start)
{
    struct node __arena *nodes, *shared;
    struct node __arena *circle;
    page_t base = (page_t)start->address;
    page_t memory = bpf_arena_alloc_pages(&arena, base + PAGE, 9, -1, 0);

    if (!memory)
        return 1;
    bpf_arena_free_pages(&arena, memory + 2 * PAGE, 1);

    /* Pages 4 to 6: the list, which needs 2.3 of them. */
    nodes = (struct node __arena *)(memory + 3 * PAGE);
    for (__u32 at = 0; at < NODES; at++) {
        struct node __arena *node = node_at(nodes, at);

        node->number = at * at;
        node->next = at + 1 < NODES ? node_at(nodes, at + 1) : 0;
        node->text[0] = 'n';
        node->text[1] = 'a' + at % 26;
        node->text[2] = 0;
    }
    list = nodes;

    /* Page 1: the ring, then what is shared. */
    circle = (struct node __arena *)memory;
    for (__u32 at = 0; at < RING; at++) {
        struct node __arena *node = node_at(circle, at);

        node->number = 1000 + at;
        node->next = node_at(circle, (at + 1) % RING);
    }
    ring = node_at(circle, 2);
    shared = node_at(circle, RING);
    shared->number = 77;
    shared->next = 0;
    half = (struct node *)shared;
    pairs[0] = (struct pair __arena *)(memory + 2048);
    pairs[1] = (struct pair __arena *)(memory + 2048) + 1;
    pairs[0]->id = 1;
    pairs[0]->left = shared;
    pairs[0]->right = node_at(nodes, 10);
    pairs[1]->id = 2;
    pairs[1]->left = shared;
    pairs[1]->right = 0;

    /* Page 2: items. */
    items = (struct item __arena *)(memory + PAGE);
    for (__u32 at = 0; at < 8; at++) {
        items[at].id = 500 + at;
        items[at].weight = at * 3;
    }
    middle = items + 2;

    /* Pages 7 to 9: the hall starts close to the end of the first. */
    hall = (struct hall __arena *)(memory + 7 * PAGE - 64);
    hall->number = 4;
    for (__u32 at = 0; at < 1500; at++)
        hall->walls[at] = at * 7;
    hall->door = node_at(nodes, NODES - 1);
    hall->last = 0x1a57;
    wall = &hall->walls[700];

    nowhere = (struct node __arena *)(base + 40 * PAGE);
    untyped = memory + PAGE;
    return 0;
}

/* Reads an address of the arena at which nothing may be. */
SECTION("syscall")
int touch(struct start *start)
{
    USE_ARENA();
    checksum += *(__u64 __arena *)start->address;
    return 0;
}

char terms[] SECTION("license") = "GPL";
