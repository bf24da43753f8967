/* The small containers that acl is built on: a hash map from ids to pointers and a sorted id set.
 * Neither locks: the owner does. */
#ifndef LETHE_ACL_TABLE_H
#define LETHE_ACL_TABLE_H

#include "ifc.h"

/* Open addressing with linear probing, removal by shifting back: no graves, so that what is kept
 * does not tell what was removed. Keys are ids or keyed hashes; a seed spreads them all. */
typedef struct { id128 key; void *value; } acl_slot;       /* value NULL: free */
typedef struct { acl_slot *slots; size_t capacity, count; uint64_t seed; } acl_map;

void acl_map_init(acl_map *m);
void acl_map_free(acl_map *m);                             /* wipes; the values are the caller's */
void *acl_map_get(const acl_map *m, id128 key);            /* NULL when absent */
void acl_map_set(acl_map *m, id128 key, void *value);      /* adds or replaces; value not NULL */
void *acl_map_take(acl_map *m, id128 key);                 /* removes; NULL when it was absent */
/* Iterates in no useful order: start with *at = 0; NULL at the end. The map must not change. */
void *acl_map_next(const acl_map *m, size_t *at);

/* Sorted, unique. */
typedef struct { id128 *ids; size_t count, capacity; } acl_ids;

bool acl_ids_has(const acl_ids *s, id128 id);
void acl_ids_add(acl_ids *s, id128 id);                    /* present is fine */
void acl_ids_push(acl_ids *s, id128 id);                   /* at the end: then a plain list */
bool acl_ids_remove(acl_ids *s, id128 id);                 /* false when it was absent */
void acl_ids_copy(acl_ids *out, const acl_ids *from);      /* out is overwritten, not freed */
void acl_ids_free(acl_ids *s);                             /* wipes */

/* Sorts in place and drops repetitions; returns the new count. */
size_t acl_ids_sort_unique(id128 *ids, size_t count);
/* The capacity to grow to so that one more fits. */
size_t acl_grow(size_t capacity);

#endif
