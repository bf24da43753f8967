#include "table.h"

#include <stdlib.h>
#include <string.h>

enum { MAP_CAPACITY_FIRST = 16 };

size_t acl_grow(size_t capacity)
{
    ASSERT(capacity <= SIZE_MAX / 4);
    return capacity == 0 ? 4 : capacity * 2;
}

/* ---- map ----------------------------------------------------------------------------------- */

static size_t map_home(const acl_map *m, id128 key)
{
    uint64_t low, high;
    memcpy(&low, key.b, sizeof low);
    memcpy(&high, key.b + sizeof low, sizeof high);
    uint64_t h = (low ^ m->seed) * 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 32) ^ high) * 0xD6E8FEB86659FD93u;
    return (size_t)(h ^ (h >> 32)) & (m->capacity - 1);
}

/* The key's slot, or the free one where it would go. At least one slot is always free. */
static size_t map_find(const acl_map *m, id128 key)
{
    size_t i = map_home(m, key);
    while (m->slots[i].value != NULL && !id_equal(m->slots[i].key, key))
        i = (i + 1) & (m->capacity - 1);
    return i;
}

static void map_alloc(acl_map *m, size_t capacity)
{
    m->slots = mem_alloc_array(capacity, sizeof *m->slots);
    m->capacity = capacity;
}

void acl_map_init(acl_map *m)
{
    m->count = 0;
    random_bytes(&m->seed, sizeof m->seed);
    map_alloc(m, MAP_CAPACITY_FIRST);
}

void acl_map_free(acl_map *m)
{
    if (m->slots != NULL)
        mem_wipe(m->slots, m->capacity * sizeof *m->slots);
    mem_free(m->slots);
    *m = (acl_map){0};
}

void *acl_map_get(const acl_map *m, id128 key)
{
    return m->slots[map_find(m, key)].value;
}

static void map_double(acl_map *m)
{
    acl_map old = *m;
    ASSERT(old.capacity <= SIZE_MAX / 4);
    map_alloc(m, old.capacity * 2);
    for (size_t i = 0; i < old.capacity; i++)
        if (old.slots[i].value != NULL)
            m->slots[map_find(m, old.slots[i].key)] = old.slots[i];
    mem_wipe(old.slots, old.capacity * sizeof *old.slots);
    mem_free(old.slots);
}

void acl_map_set(acl_map *m, id128 key, void *value)
{
    ASSERT(value != NULL);
    size_t i = map_find(m, key);
    if (m->slots[i].value == NULL) {
        if ((m->count + 1) * 4 > m->capacity * 3) {
            map_double(m);
            i = map_find(m, key);
        }
        m->count++;
    }
    m->slots[i] = (acl_slot){key, value};
}

void *acl_map_take(acl_map *m, id128 key)
{
    size_t mask = m->capacity - 1;
    size_t hole = map_find(m, key);
    void *value = m->slots[hole].value;
    if (value == NULL)
        return NULL;
    /* Whatever follows in the same run and may stand in the hole moves up, so that no probe ends
     * early. It may when its home is not cyclically after the hole. */
    for (size_t i = (hole + 1) & mask; m->slots[i].value != NULL; i = (i + 1) & mask) {
        size_t home = map_home(m, m->slots[i].key);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    mem_wipe(&m->slots[hole], sizeof m->slots[hole]);
    m->count--;
    return value;
}

void *acl_map_next(const acl_map *m, size_t *at)
{
    while (*at < m->capacity) {
        void *value = m->slots[(*at)++].value;
        if (value != NULL)
            return value;
    }
    return NULL;
}

/* ---- sorted sets --------------------------------------------------------------------------- */

/* Where id is or belongs. */
static size_t ids_place(const acl_ids *s, id128 id)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (id_compare(s->ids[middle], id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool acl_ids_has(const acl_ids *s, id128 id)
{
    size_t i = ids_place(s, id);
    return i < s->count && id_equal(s->ids[i], id);
}

static void ids_reserve_one(acl_ids *s)
{
    if (s->count < s->capacity)
        return;
    s->capacity = acl_grow(s->capacity);
    s->ids = mem_realloc(s->ids, s->capacity * sizeof *s->ids);
}

void acl_ids_push(acl_ids *s, id128 id)
{
    ids_reserve_one(s);
    s->ids[s->count++] = id;
}

void acl_ids_add(acl_ids *s, id128 id)
{
    size_t i = ids_place(s, id);
    if (i < s->count && id_equal(s->ids[i], id))
        return;
    ids_reserve_one(s);
    memmove(s->ids + i + 1, s->ids + i, (s->count - i) * sizeof *s->ids);
    s->ids[i] = id;
    s->count++;
}

bool acl_ids_remove(acl_ids *s, id128 id)
{
    size_t i = ids_place(s, id);
    if (i == s->count || !id_equal(s->ids[i], id))
        return false;
    memmove(s->ids + i, s->ids + i + 1, (s->count - i - 1) * sizeof *s->ids);
    s->count--;
    mem_wipe(&s->ids[s->count], sizeof *s->ids);
    return true;
}

void acl_ids_copy(acl_ids *out, const acl_ids *from)
{
    *out = (acl_ids){0};
    if (from->count == 0)
        return;
    out->ids = mem_alloc_array(from->count, sizeof *out->ids);
    memcpy(out->ids, from->ids, from->count * sizeof *out->ids);
    out->count = out->capacity = from->count;
}

void acl_ids_free(acl_ids *s)
{
    if (s->ids != NULL)
        mem_wipe(s->ids, s->capacity * sizeof *s->ids);
    mem_free(s->ids);
    *s = (acl_ids){0};
}

static int by_id(const void *x, const void *y)
{
    return id_compare(*(const id128 *)x, *(const id128 *)y);
}

size_t acl_ids_sort_unique(id128 *ids, size_t count)
{
    if (count == 0)
        return 0;
    qsort(ids, count, sizeof *ids, by_id);
    size_t kept = 1;
    for (size_t i = 1; i < count; i++)
        if (!id_equal(ids[i], ids[kept - 1]))
            ids[kept++] = ids[i];
    return kept;
}
