/* keytree_page: the bytes of pages and heads. The decoders run on authenticated plaintext and check
 * everything all the same: a writer's bug must not become a reader's. */
#include "keytree_private.h"

#include <string.h>

static const char PAGE_DOMAIN[] = "lethe keytree page 2";
static const char HEAD_DOMAIN[] = "lethe keytree head 2";
enum { PAGE_HEAD_BYTES = 8, AD_MAX_BYTES = 64, HEAD_BYTES = 8 * 3 + KT_REF_BYTES };

_Static_assert(PAGE_HEAD_BYTES + KT_FANOUT * KT_ENTRY_BYTES <= KT_PLAIN_BYTES, "a bucket fits");
_Static_assert(PAGE_HEAD_BYTES + KT_FANOUT * KT_REF_BYTES <= KT_PLAIN_BYTES, "a branch fits");
_Static_assert(KT_STEP_BITS * KT_STEPS_MAX >= ID_BYTES * 8, "the steps cover the id");

uint32_t kt_slot_of(id128 id, uint32_t step)
{
    ASSERT(step < KT_STEPS_MAX);
    uint32_t slot = 0;
    for (uint32_t i = 0; i < KT_STEP_BITS; i++) {
        uint32_t bit = step * KT_STEP_BITS + i;
        uint32_t value = bit < ID_BYTES * 8 ? (uint32_t)(id.b[bit / 8] >> (7 - bit % 8)) & 1u : 0;
        slot = slot << 1 | value;
    }
    return slot;
}

static bool key_is_zero(const uint8_t key[KEY_BYTES])
{
    uint8_t any = 0;
    for (size_t i = 0; i < KEY_BYTES; i++) any = (uint8_t)(any | key[i]);
    return any == 0;
}

bool kt_ref_equal(const kt_ref *a, const kt_ref *b)
{
    return a->page == b->page && a->count == b->count && secure_equal(a->key, b->key, KEY_BYTES) &&
           memcmp(a->hash, b->hash, HASH_BYTES) == 0;
}

/* ---- numbers in fixed memory: the plaintext must not pass through a growing buffer ---- */
static uint8_t *put_number(uint8_t *at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) at[i] = (uint8_t)(value >> (8 * i));
    return at + size;
}

static uint8_t *put_ref(uint8_t *at, const kt_ref *ref)
{
    at = put_number(at, ref->page, 8);
    at = put_number(at, ref->count, 4);
    memcpy(at, ref->key, KEY_BYTES);
    memcpy(at + KEY_BYTES, ref->hash, HASH_BYTES);
    return at + KEY_BYTES + HASH_BYTES;
}

/* Empty in one field is empty in all. */
static bool take_ref(reader *in, kt_ref *ref)
{
    ref->page = reader_u64(in);
    ref->count = reader_u32(in);
    const uint8_t *key = reader_take(in, KEY_BYTES), *hash = reader_take(in, HASH_BYTES);
    if (key == NULL || hash == NULL) return false;
    memcpy(ref->key, key, KEY_BYTES);
    memcpy(ref->hash, hash, HASH_BYTES);
    bool empty = ref->page == 0;
    return (ref->count == 0) == empty && key_is_zero(ref->key) == empty && key_is_zero(ref->hash) == empty;
}

void kt_page_encode(kt_page *page)
{
    ASSERT(page->kind == KT_BUCKET || page->kind == KT_BRANCH);
    ASSERT(page->level < KT_LEVELS && page->step < KT_STEPS_MAX);
    memset(page->plain, 0, sizeof page->plain);
    uint8_t *at = page->plain;
    *at++ = page->kind;
    *at++ = page->level;
    *at++ = page->step;
    at = put_number(at, 0, 1);
    at = put_number(at, page->count, 4);
    if (page->kind == KT_BRANCH) {
        ASSERT(page->count > KT_FANOUT);
        for (size_t i = 0; i < KT_FANOUT; i++) at = put_ref(at, &page->children[i]);
        return;
    }
    ASSERT(page->count >= 1 && page->count <= KT_FANOUT);
    for (size_t i = 0; i < page->count; i++) {
        const kt_entry *entry = &page->entries[i];
        memcpy(at, entry->id.b, ID_BYTES);
        memcpy(at + ID_BYTES, entry->secret, KEY_BYTES);
        at = put_ref(at + ID_BYTES + KEY_BYTES, &entry->sub);
    }
}

static bool decode_branch(reader *in, kt_page *page)
{
    uint64_t total = 0;
    for (size_t i = 0; i < KT_FANOUT; i++) {
        if (!take_ref(in, &page->children[i])) return false;
        total += page->children[i].count;
    }
    return total == page->count && page->count > KT_FANOUT && page->step + 1 < KT_STEPS_MAX;
}

static bool decode_bucket(reader *in, kt_page *page)
{
    if (page->count < 1 || page->count > KT_FANOUT) return false;
    for (size_t i = 0; i < page->count; i++) {
        kt_entry *entry = &page->entries[i];
        const uint8_t *id = reader_take(in, ID_BYTES);
        const uint8_t *secret = reader_take(in, KEY_BYTES);
        if (id == NULL || secret == NULL || !take_ref(in, &entry->sub)) return false;
        memcpy(entry->id.b, id, ID_BYTES);
        memcpy(entry->secret, secret, KEY_BYTES);
        if (i > 0 && id_compare(page->entries[i - 1].id, entry->id) >= 0) return false;
        if (page->level + 1 == KT_LEVELS && entry->sub.page != 0) return false;
    }
    return true;
}

result kt_page_decode(bytes plain, uint8_t level, uint8_t step, kt_page *page)
{
    if (plain.size != KT_PLAIN_BYTES) return fail(E_DATA_LOSS, "a key page has the wrong size");
    reader in = reader_of(plain);
    page->kind = reader_u8(&in);
    page->level = reader_u8(&in);
    page->step = reader_u8(&in);
    uint8_t zero = reader_u8(&in);
    page->count = reader_u32(&in);
    if (zero != 0 || page->level != level || page->step != step || level >= KT_LEVELS ||
        step >= KT_STEPS_MAX)
        return fail(E_DATA_LOSS, "a key page is not the one expected");
    bool good = page->kind == KT_BRANCH ? decode_branch(&in, page)
              : page->kind == KT_BUCKET ? decode_bucket(&in, page) : false;
    if (!good || in.bad) return fail(E_DATA_LOSS, "a key page is malformed");
    for (size_t i = in.at; i < plain.size; i++)
        if (plain.data[i] != 0) return fail(E_DATA_LOSS, "a key page has bytes behind its end");
    return OK;
}

static bytes page_associated(uint8_t ad[AD_MAX_BYTES], uint64_t number, uint8_t level, uint8_t step)
{
    memcpy(ad, PAGE_DOMAIN, sizeof PAGE_DOMAIN);
    uint8_t *at = put_number(ad + sizeof PAGE_DOMAIN, number, 8);
    *at++ = level;
    *at++ = step;
    return bytes_of(ad, (size_t)(at - ad));
}

/* nonce, padded plaintext, tag: the same for every page. */
static size_t sealed_bytes(void)
{
    size_t size = 24 + seal_padded_size(KT_PLAIN_BYTES) + 16;
    ASSERT(size <= KT_SLOT_BYTES);
    return size;
}

result kt_page_seal(kt_page *page, uint64_t number, const uint8_t key[KEY_BYTES],
                    uint8_t slot[KT_SLOT_BYTES])
{
    uint8_t ad[AD_MAX_BYTES];
    buf sealed;
    buf_init(&sealed, KT_SLOT_BYTES);
    kt_page_encode(page);
    result r;
    TRY_TO(r, seal_value(key, page_associated(ad, number, page->level, page->step),
                         bytes_of(page->plain, KT_PLAIN_BYTES), &sealed), out);
    ASSERT(sealed.size == sealed_bytes());
    memset(slot, 0, KT_SLOT_BYTES);
    memcpy(slot, sealed.data, sealed.size);
out:
    mem_wipe(page->plain, sizeof page->plain);
    buf_free(&sealed);
    return r;
}

result kt_page_unseal(const uint8_t slot[KT_SLOT_BYTES], uint64_t number, uint8_t level,
                      uint8_t step, const uint8_t key[KEY_BYTES], kt_page *page)
{
    uint8_t ad[AD_MAX_BYTES];
    buf plain;
    buf_init(&plain, KT_SLOT_BYTES);
    result r;
    TRY_TO(r, seal_open(key, page_associated(ad, number, level, step),
                        bytes_of(slot, sealed_bytes()), &plain), out);
    r = kt_page_decode(buf_bytes(&plain), level, step, page);
out:
    buf_free(&plain);
    return r;
}

/* ---- heads ---- */
static bytes head_associated(uint8_t ad[AD_MAX_BYTES], uint64_t epoch)
{
    memcpy(ad, HEAD_DOMAIN, sizeof HEAD_DOMAIN);
    uint8_t *at = put_number(ad + sizeof HEAD_DOMAIN, epoch, 8);
    return bytes_of(ad, (size_t)(at - ad));
}

result kt_head_seal(const kt_head *head, root_holder *holder, buf *out)
{
    uint8_t plain[HEAD_BYTES], ad[AD_MAX_BYTES];
    uint8_t *at = put_number(plain, head->epoch, 8);
    at = put_number(at, head->page_count, 8);
    at = put_number(at, head->commit, 8);
    at = put_ref(at, &head->root);
    ASSERT(at == plain + HEAD_BYTES);
    result r = root_seal(holder, head->epoch, head_associated(ad, head->epoch),
                         bytes_of(plain, HEAD_BYTES), out);
    mem_wipe(plain, sizeof plain);
    return r;
}

result kt_head_unseal(bytes sealed, uint64_t epoch, root_holder *holder, kt_head *head)
{
    uint8_t ad[AD_MAX_BYTES];
    kt_head read = {0};
    buf plain;
    buf_init(&plain, 4096);
    result r;
    TRY_TO(r, root_open(holder, epoch, head_associated(ad, epoch), sealed, &plain), out);
    reader in = reader_of(buf_bytes(&plain));
    read.epoch = reader_u64(&in);
    read.page_count = reader_u64(&in);
    read.commit = reader_u64(&in);
    bool good = take_ref(&in, &read.root);
    TRY_TO(r, reader_done(&in, "key tree head"), out);
    if (good && read.epoch == epoch && read.root.page <= read.page_count) *head = read;
    else r = fail(E_DATA_LOSS, "the key tree's head is malformed");
out:
    mem_wipe(&read, sizeof read);
    buf_free(&plain);
    return r;
}
