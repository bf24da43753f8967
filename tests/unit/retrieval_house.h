/* Stores of three owners, ada, bob and their team, and what ada and bob may read, on real files. */
#ifndef LETHE_RETRIEVAL_HOUSE_H
#define LETHE_RETRIEVAL_HOUSE_H

#include "retrieval.h"
#include "store_folders.h"

typedef struct {
    store_folders f;
    retrieval *r;
    arena *a;
    id128 tenant, ada, bob, team;
    ifc_context as_ada, as_bob;
} house;

/* All but h->r, which the test opens with its own options. */
static inline void house_make(house *h, size_t arena_bytes)
{
    memset(h, 0, sizeof *h);
    store_folders_make(&h->f);
    h->tenant = id_random();
    id128 *people[] = {&h->ada, &h->bob, &h->team};
    CHECK_OK(keytree_add(h->f.keys, (keytree_node[]){keytree_tenant(h->tenant)}, 1));
    for (int i = 0; i < 3; i++) {
        *people[i] = id_random();
        keytree_node node = keytree_owner(h->tenant, *people[i]);
        CHECK_OK(keytree_add(h->f.keys, &node, 1));
    }
    CHECK_OK(ifc_context_init(&h->as_ada, h->tenant, h->ada, (id128[]){h->ada, h->team}, 2));
    CHECK_OK(ifc_context_init(&h->as_bob, h->tenant, h->bob, (id128[]){h->bob, h->team}, 2));
    arena_open(&h->a, arena_bytes);
}

static inline void house_close(house *h)
{
    arena_close(&h->a);
    retrieval_close(&h->r);
    store_folders_remove(&h->f);
}

#endif
