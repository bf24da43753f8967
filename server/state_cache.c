/* Sealed snapshots by principal; least recently used goes first, within each principal's own share. */
#include "session.h"

#include <pthread.h>
#include <string.h>

enum { BUCKETS = 1024, SOURCES_MAX = 64 };

typedef struct entry {
    struct entry *next;                /* most recently used first */
    id128 principal;
    uint8_t key[HASH_BYTES];
    buf sealed;
    state_source sources[SOURCES_MAX];
    size_t source_count;
} entry;

struct state_cache {
    pthread_mutex_t lock;
    uint64_t share_bytes;
    state_cache_figures figures;
    entry *buckets[BUCKETS];           /* by principal: random ids, so their first bytes do */
};

static entry **bucket_of(state_cache *c, id128 principal)
{
    return &c->buckets[(principal.b[0] | (unsigned)principal.b[1] << 8) % BUCKETS];
}

static void entry_drop(state_cache *c, entry **place)
{
    entry *e = *place;
    *place = e->next;
    buf_free(&e->sealed);
    mem_wipe(e, sizeof *e);
    mem_free(e);
    c->figures.entries--;
}

void state_cache_open(state_cache **out, uint64_t bytes_per_principal)
{
    state_cache *c = mem_alloc(sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    c->share_bytes = bytes_per_principal;
    *out = c;
}

void state_cache_close(state_cache **c_)
{
    state_cache *c = *c_;
    if (c == NULL) return;
    for (size_t i = 0; i < BUCKETS; i++)
        while (c->buckets[i]) entry_drop(c, &c->buckets[i]);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
    *c_ = NULL;
}

static bool from_source(const entry *e, id128 owner, id128 document)
{
    for (size_t i = 0; i < e->source_count; i++)
        if (id_equal(e->sources[i].owner, owner) &&
            (id_is_zero(document) || id_equal(e->sources[i].document, document)))
            return true;
    return false;
}

void state_cache_drop_source(state_cache *c, id128 owner, id128 document)
{
    if (c == NULL) return;
    pthread_mutex_lock(&c->lock);
    c->figures.generation++;
    for (size_t i = 0; i < BUCKETS; i++)
        for (entry **at = &c->buckets[i]; *at;)
            if (from_source(*at, owner, document)) entry_drop(c, at);
            else at = &(*at)->next;
    pthread_mutex_unlock(&c->lock);
}

void state_cache_drop_principal(state_cache *c, id128 principal)
{
    if (c == NULL) return;
    pthread_mutex_lock(&c->lock);
    c->figures.generation++;
    for (entry **at = bucket_of(c, principal); *at;)
        if (id_equal((*at)->principal, principal)) entry_drop(c, at);
        else at = &(*at)->next;
    pthread_mutex_unlock(&c->lock);
}

void state_cache_figures_now(state_cache *c, state_cache_figures *out)
{
    pthread_mutex_lock(&c->lock);
    *out = c->figures;
    pthread_mutex_unlock(&c->lock);
}

/* With the lock held: the place that points to the entry, or NULL. */
static entry **entry_find(state_cache *c, id128 principal, const uint8_t key[HASH_BYTES])
{
    for (entry **at = bucket_of(c, principal); *at; at = &(*at)->next)
        if (id_equal((*at)->principal, principal) && secure_equal((*at)->key, key, HASH_BYTES))
            return at;
    return NULL;
}

result state_cache_find(state_cache *c, id128 principal, const uint8_t seal_key[KEY_BYTES],
                        const uint8_t key[HASH_BYTES], buf *out)
{
    pthread_mutex_lock(&c->lock);
    entry **at = entry_find(c, principal, key);
    result r;
    if (at == NULL) {
        c->figures.misses++;
        r = fail(E_NOT_FOUND, "no cached state");
    } else {
        entry *e = *at, **head = bucket_of(c, principal);
        *at = e->next;
        e->next = *head;
        *head = e;
        c->figures.hits++;
        r = seal_open(seal_key, bytes_of(key, HASH_BYTES), buf_bytes(&e->sealed), out);
    }
    pthread_mutex_unlock(&c->lock);
    return r;
}

/* With the lock held: drops the principal's least recently used entries until `room` fits. */
static void share_make_room(state_cache *c, id128 principal, uint64_t room)
{
    for (;;) {
        uint64_t used = 0;
        entry **last = NULL;
        for (entry **at = bucket_of(c, principal); *at; at = &(*at)->next)
            if (id_equal((*at)->principal, principal)) {
                used += (*at)->sealed.size;
                last = at;
            }
        if (last == NULL || used + room <= c->share_bytes) return;
        entry_drop(c, last);
    }
}

void state_cache_put(state_cache *c, uint64_t generation, id128 principal,
                     const uint8_t seal_key[KEY_BYTES], const uint8_t key[HASH_BYTES], bytes snapshot,
                     const state_source *sources, size_t source_count)
{
    if (source_count > SOURCES_MAX) return;
    entry *e = mem_alloc(sizeof *e);
    e->principal = principal;
    memcpy(e->key, key, HASH_BYTES);
    if (source_count) memcpy(e->sources, sources, source_count * sizeof *sources);
    e->source_count = source_count;
    buf_init(&e->sealed, snapshot.size * 2 + 4096);
    result r = seal_value(seal_key, bytes_of(key, HASH_BYTES), snapshot, &e->sealed);
    pthread_mutex_lock(&c->lock);
    bool wanted = is_ok(r) && generation == c->figures.generation &&
                  e->sealed.size <= c->share_bytes && entry_find(c, principal, key) == NULL;
    if (wanted) {
        share_make_room(c, principal, e->sealed.size);
        entry **head = bucket_of(c, principal);
        e->next = *head;
        *head = e;
        c->figures.entries++;
    }
    pthread_mutex_unlock(&c->lock);
    if (!wanted) {
        buf_free(&e->sealed);
        mem_free(e);
    }
}
