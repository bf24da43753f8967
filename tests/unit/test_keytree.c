/* The key tree: what it keeps, its canonical shape, its mirror, damage, and its refusals. */
#include "keytree_house.h"

/* ---- the basics ---- */
static result count_visit(void *ctx, id128 id, const uint8_t secret[KEY_BYTES])
{
    struct { uint64_t n; id128 last; uint64_t disorder; } *c = ctx;
    if (c->n > 0 && id_compare(c->last, id) >= 0) c->disorder++;
    c->last = id;
    c->n++;
    (void)secret;
    return OK;
}

static void roundtrip_and_reopen(void)
{
    house h;
    house_new(&h, false);
    uint8_t tenant[KEY_BYTES], owner[KEY_BYTES], d[KEY_BYTES], again[KEY_BYTES];
    keytree_node missing[] = {keytree_owner(tenant_id(1), owner_id(1))};
    CHECK_FAILS(keytree_add(h.kt, missing, 1), E_NOT_FOUND);
    CHECK_FAILS(keytree_secret(h.kt, doc(1, 1), d), E_NOT_FOUND);
    CHECK_OK(add_docs(h.kt, 1, 0, 3));
    CHECK_OK(keytree_secret(h.kt, keytree_tenant(tenant_id(1)), tenant));
    CHECK_OK(keytree_secret(h.kt, keytree_owner(tenant_id(1), owner_id(1)), owner));
    CHECK_OK(keytree_secret(h.kt, doc(1, 1), d));
    CHECK(!secure_equal(tenant, owner, KEY_BYTES) && !secure_equal(owner, d, KEY_BYTES));
    CHECK_OK(add_docs(h.kt, 1, 0, 200));                     /* idempotent for 0..2 */
    CHECK_OK(keytree_secret(h.kt, doc(1, 1), again));
    CHECK(secure_equal(d, again, KEY_BYTES));
    CHECK_FAILS(keytree_secret(h.kt, doc(1, 999), again), E_NOT_FOUND);
    CHECK_FAILS(keytree_secret(h.kt, doc(2, 1), again), E_NOT_FOUND);
    CHECK_FAILS(keytree_secret(h.kt, (keytree_node){0}, again), E_INVALID);
    house_close(&h);
    CHECK_OK(house_open(&h, false, false));
    NEED(h.kt != NULL);
    CHECK_OK(keytree_secret(h.kt, doc(1, 1), again));
    CHECK(secure_equal(d, again, KEY_BYTES));
    struct { uint64_t n; id128 last; uint64_t disorder; } c = {0};
    CHECK_OK(keytree_each(h.kt, keytree_owner(tenant_id(1), owner_id(1)), count_visit, &c));
    CHECK(c.n == 200 && c.disorder == 0);
    uint64_t count = 0;
    CHECK_OK(keytree_count(h.kt, keytree_owner(tenant_id(1), owner_id(1)), &count));
    CHECK(count == 200);
    CHECK_OK(keytree_count(h.kt, (keytree_node){0}, &count));
    CHECK(count == 1);
    CHECK_FAILS(keytree_count(h.kt, doc(1, 1), &count), E_INVALID);
    CHECK_FAILS(keytree_count(h.kt, keytree_tenant(tenant_id(2)), &count), E_NOT_FOUND);
    CHECK(keytree_epoch(h.kt) == 1);
    house_end(&h);
}

static void system_tenant_and_own_records(void)
{
    house h;
    house_new(&h, false);
    id128 zero = {{0}}, t = tenant_id(1);
    keytree_node nodes[] = {keytree_owner(t, t), keytree_tenant(t), keytree_tenant(zero),
                            keytree_owner(zero, zero), keytree_document(t, t, doc_id(1))};
    uint8_t secret[KEY_BYTES];
    CHECK_OK(keytree_add(h.kt, nodes, 5));
    for (size_t i = 0; i < 5; i++) CHECK_OK(keytree_secret(h.kt, nodes[i], secret));
    house_end(&h);
}

static void ten_thousand_documents(void)
{
    house h;
    house_new(&h, false);
    for (uint32_t i = 0; i < 10000; i += 1000) CHECK_OK(add_docs(h.kt, 1, i, i + 1000));
    uint8_t (*before)[KEY_BYTES] = mem_alloc_array(10000, KEY_BYTES), now[KEY_BYTES];
    for (uint32_t i = 0; i < 10000; i++) CHECK_OK(keytree_secret(h.kt, doc(1, i), before[i]));
    keytree_node some[100];
    for (uint32_t i = 0; i < 100; i++) some[i] = doc(1, i * 97);
    keytree_erasure out;
    CHECK_OK(keytree_erase(h.kt, some, 100, NULL, NULL, &out));
    CHECK(out.epoch_before == 1 && out.epoch_after == 2 && keytree_epoch(h.kt) == 2);
    CHECK(out.pages_written > 3 && out.pages_written < 200);
    CHECK(memcmp(out.subtree_before, out.subtree_after, HASH_BYTES) != 0);
    CHECK_OK(erase(h.kt, some, 100));                        /* a replay finds nothing */
    CHECK(keytree_epoch(h.kt) == 3);
    house_close(&h);
    CHECK_OK(house_open(&h, false, false));
    NEED(h.kt != NULL);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        result r = keytree_secret(h.kt, doc(1, i), now);
        if (i % 97 == 0 && i < 9700) wrong += r.code != E_NOT_FOUND;
        else wrong += !is_ok(r) || !secure_equal(now, before[i], KEY_BYTES);
    }
    CHECK(wrong == 0);
    uint64_t count = 0;
    CHECK_OK(keytree_count(h.kt, keytree_owner(tenant_id(1), owner_id(1)), &count));
    CHECK(count == 9900);
    mem_free(before);
    house_end(&h);
}

/* ---- canonical shape ---- */
static void dump(keytree *kt, const kt_ref *ref, uint8_t level, uint8_t step, buf *out)
{
    if (ref->page == 0) return;
    kt_page *page = kt_page_take(kt);
    CHECK_OK(kt_page_read(kt->folders[0].fd, ref, level, step, page));
    buf_printf(out, "%u.%u %s %u\n", level, step, page->kind == KT_BRANCH ? "branch" : "bucket",
               page->count);
    for (uint32_t i = 0; page->kind == KT_BRANCH && i < KT_FANOUT; i++)
        dump(kt, &page->children[i], level, (uint8_t)(step + 1), out);
    for (uint32_t i = 0; page->kind == KT_BUCKET && i < page->count; i++) {
        char text[ID_TEXT_BYTES];
        id_text(page->entries[i].id, text);
        buf_printf(out, "%s\n", text);
        dump(kt, &page->entries[i].sub, (uint8_t)(level + 1), 0, out);
    }
    kt_page_give(kt, &page);
}

static void shape_of(keytree *kt, buf *out)
{
    buf_init(out, 64 << 20);
    dump(kt, &kt->now->head.root, 0, 0, out);
}

static void shape_is_canonical(void)
{
    house a, b;
    buf shape_a, shape_b;
    house_new(&a, false);
    house_new(&b, false);
    for (uint32_t o = 0; o < 70; o++) CHECK_OK(add_docs(a.kt, o, 0, o == 3 ? 1500 : 5));
    /* The other way round, one by one or in heaps, with extras that are erased again. */
    CHECK_OK(add_docs(b.kt, 3, 1000, 4500));
    for (uint32_t o = 75; o-- > 0;)
        if (o != 3) CHECK_OK(add_docs(b.kt, o, 0, 6));
    for (uint32_t i = 1000; i > 0; i -= 125) CHECK_OK(add_docs(b.kt, 3, i - 125, i));
    keytree_node *extra = mem_alloc_array(4000, sizeof *extra);
    size_t n = 0;
    for (uint32_t i = 1500; i < 4500; i++) extra[n++] = doc(3, i);
    for (uint32_t o = 0; o < 70; o++) if (o != 3) extra[n++] = doc(o, 5);
    for (uint32_t o = 70; o < 75; o++) extra[n++] = keytree_owner(tenant_id(1), owner_id(o));
    CHECK_OK(erase(b.kt, extra, n / 2));
    CHECK_OK(erase(b.kt, extra + n / 2, n - n / 2));
    shape_of(a.kt, &shape_a);
    shape_of(b.kt, &shape_b);
    CHECK(shape_a.size > 10000 && bytes_equal(buf_bytes(&shape_a), buf_bytes(&shape_b)));
    buf_free(&shape_b);
    CHECK_OK(erase(b.kt, (keytree_node[]){doc(3, 7)}, 1));   /* the comparison can fail */
    shape_of(b.kt, &shape_b);
    CHECK(!bytes_equal(buf_bytes(&shape_a), buf_bytes(&shape_b)));
    buf_free(&shape_a);
    buf_free(&shape_b);
    mem_free(extra);
    house_end(&a);
    house_end(&b);
}

/* Exactly 64 is a bucket, 65 a branch, and back. */
static void splits_and_merges_at_the_edge(void)
{
    house h;
    house_new(&h, false);
    buf at64, at65, back;
    CHECK_OK(add_docs(h.kt, 1, 0, 64));
    shape_of(h.kt, &at64);
    CHECK(strstr((char *)at64.data, "2.0 bucket 64") != NULL);
    CHECK_OK(add_docs(h.kt, 1, 64, 65));
    shape_of(h.kt, &at65);
    CHECK(strstr((char *)at65.data, "2.0 branch 65") != NULL);
    CHECK_OK(erase(h.kt, (keytree_node[]){doc(1, 64)}, 1));
    shape_of(h.kt, &back);
    CHECK(bytes_equal(buf_bytes(&at64), buf_bytes(&back)));
    keytree_node all[64];
    for (uint32_t i = 0; i < 64; i++) all[i] = doc(1, i);
    CHECK_OK(erase(h.kt, all, 64));
    uint64_t count = 9;
    CHECK_OK(keytree_count(h.kt, keytree_owner(tenant_id(1), owner_id(1)), &count));
    CHECK(count == 0);
    CHECK_OK(add_docs(h.kt, 1, 0, 2));
    buf_free(&at64);
    buf_free(&at65);
    buf_free(&back);
    house_end(&h);
}

/* Ids that share all but their last bits need the deepest branches. */
static void deep_ids(void)
{
    house h;
    house_new(&h, false);
    keytree_node nodes[600], t = keytree_tenant(tenant_id(1));
    keytree_node o = keytree_owner(t.tenant, owner_id(1));
    uint8_t secret[KEY_BYTES];
    nodes[0] = t;
    nodes[1] = o;
    for (uint32_t i = 0; i < 598; i++) {
        id128 id = {{0xab, 0xcd}};
        id.b[14] = (uint8_t)(i >> 8);
        id.b[15] = (uint8_t)i;
        nodes[i + 2] = keytree_document(t.tenant, o.owner, id);
    }
    CHECK_OK(keytree_add(h.kt, nodes, 600));
    for (size_t i = 0; i < 600; i++) CHECK_OK(keytree_secret(h.kt, nodes[i], secret));
    CHECK_OK(erase(h.kt, nodes + 2, 590));
    for (size_t i = 0; i < 600; i++)
        CHECK((keytree_secret(h.kt, nodes[i], secret).code == E_OK) == (i < 2 || i >= 592));
    house_end(&h);
}

static void slots_are_reused(void)
{
    house h;
    house_new(&h, false);
    struct stat before, after;
    CHECK_OK(add_docs(h.kt, 1, 0, 500));
    for (uint32_t i = 0; i < 40; i++) CHECK_OK(erase(h.kt, (keytree_node[]){doc(1, i)}, 1));
    CHECK(fstat(h.kt->folders[0].fd, &before) == 0);
    for (uint32_t i = 40; i < 140; i++) CHECK_OK(erase(h.kt, (keytree_node[]){doc(1, i)}, 1));
    CHECK(fstat(h.kt->folders[0].fd, &after) == 0);
    CHECK(after.st_size == before.st_size);
    CHECK_OK(erase(h.kt, (keytree_node[]){keytree_owner(tenant_id(1), owner_id(1))}, 1));
    house_close(&h);
    CHECK_OK(house_open(&h, false, false));                  /* finds the dropped subtree's slots */
    NEED(h.kt != NULL);
    CHECK_OK(add_docs(h.kt, 2, 0, 300));
    CHECK(fstat(h.kt->folders[0].fd, &after) == 0);
    CHECK(after.st_size == before.st_size);
    house_end(&h);
}

/* ---- erasing subtrees ---- */
static void owner_and_tenant(void)
{
    house h;
    house_new(&h, false);
    keytree_node other = keytree_tenant(tenant_id(2));
    uint8_t zeros[HASH_BYTES] = {0}, secret[KEY_BYTES];
    CHECK_OK(add_docs(h.kt, 1, 0, 300));
    CHECK_OK(add_docs(h.kt, 2, 0, 300));
    CHECK_OK(keytree_add(h.kt, &other, 1));
    keytree_erasure out;
    /* The owner and some of its documents at once: the deeper targets go with it. */
    keytree_node targets[] = {doc(1, 7), keytree_owner(tenant_id(1), owner_id(1)), doc(1, 8),
                              doc(2, 9)};
    CHECK_OK(keytree_erase(h.kt, targets, 4, NULL, NULL, &out));
    CHECK_FAILS(keytree_secret(h.kt, doc(1, 5), secret), E_NOT_FOUND);
    CHECK_FAILS(keytree_secret(h.kt, doc(2, 9), secret), E_NOT_FOUND);
    CHECK_OK(keytree_secret(h.kt, doc(2, 10), secret));
    CHECK_OK(add_docs(h.kt, 1, 0, 1));                       /* the same id again: a new secret */
    keytree_node tenant = keytree_tenant(tenant_id(1));
    CHECK_OK(keytree_erase(h.kt, &tenant, 1, NULL, NULL, &out));
    CHECK(memcmp(out.subtree_before, zeros, HASH_BYTES) != 0);
    CHECK(memcmp(out.subtree_after, zeros, HASH_BYTES) == 0);
    CHECK_FAILS(keytree_secret(h.kt, doc(2, 10), secret), E_NOT_FOUND);
    CHECK_OK(keytree_secret(h.kt, other, secret));
    CHECK_OK(keytree_erase(h.kt, &other, 1, NULL, NULL, &out));      /* an empty tree */
    CHECK_OK(keytree_erase(h.kt, NULL, 0, NULL, NULL, &out));
    CHECK(out.epoch_after == 5);
    house_close(&h);
    CHECK_OK(house_open(&h, false, false));
    NEED(h.kt != NULL);
    CHECK(keytree_epoch(h.kt) == 5);
    house_end(&h);
}

/* An owner's erasure must cost the same however much was stored. */
static void cost_does_not_follow_the_size(void)
{
    uint32_t written[2];
    for (int i = 0; i < 2; i++) {
        house h;
        house_new(&h, false);
        CHECK_OK(add_docs(h.kt, 1, 0, i == 0 ? 1 : 8000));
        CHECK_OK(add_docs(h.kt, 2, 0, 1));
        keytree_erasure out;
        keytree_node target = keytree_owner(tenant_id(1), owner_id(1));
        CHECK_OK(keytree_erase(h.kt, &target, 1, NULL, NULL, &out));
        written[i] = out.pages_written;
        house_end(&h);
    }
    CHECK(written[0] == written[1] && written[0] == 2);
}

/* ---- mirror ---- */
static void mirror_is_equal_and_restores(void)
{
    house h;
    uint8_t before[KEY_BYTES], now[KEY_BYTES];
    house_new(&h, true);
    CHECK_OK(add_docs(h.kt, 1, 0, 300));
    shell("diff -r '%s' '%s'", h.dir, h.mirror);
    CHECK_OK(erase(h.kt, (keytree_node[]){doc(1, 1)}, 1));
    shell("diff -r '%s' '%s'", h.dir, h.mirror);
    CHECK_OK(keytree_secret(h.kt, doc(1, 2), before));
    house_close(&h);
    shell("rm -rf '%s'%s", h.dir, "");
    result r = house_open(&h, false, true);
    CHECK(r.code == E_NOT_FOUND && strstr(r.message, "mirror") != NULL);
    house_close(&h);
    shell("cp -a '%s' '%s'", h.mirror, h.dir);
    CHECK_OK(house_open(&h, false, true));
    NEED(h.kt != NULL);
    CHECK_OK(keytree_secret(h.kt, doc(1, 2), now));
    CHECK(secure_equal(before, now, KEY_BYTES));
    /* A mirror that was away is made equal; a page that rotted is put back from it. */
    kt_ref path[64];
    uint8_t where[64][2];
    size_t depth = path_of(h.kt, doc(1, 2), path, where);
    CHECK_OK(keytree_add(h.kt, (keytree_node[]){keytree_tenant(tenant_id(9))}, 1));
    house_close(&h);
    int fd;
    char file[400];
    snprintf(file, sizeof file, "%s/pages", h.dir);
    fd = open(file, O_RDWR);
    CHECK(fd >= 0 &&
          pwrite(fd, "rot", 3, (off_t)(path[depth - 1].page - 1) * KT_SLOT_BYTES + 99) == 3);
    close(fd);
    CHECK_OK(house_open(&h, false, true));
    NEED(h.kt != NULL);
    CHECK_OK(keytree_secret(h.kt, doc(1, 2), now));
    house_close(&h);
    shell("rm -rf '%s'%s", h.mirror, "");
    CHECK_OK(house_open(&h, false, true));
    shell("diff -r '%s' '%s'", h.dir, h.mirror);
    house_end(&h);
}

/* ---- damage ---- */
static void flip(const char *file, off_t at)
{
    uint8_t byte = 0;
    int fd = open(file, O_RDWR);
    CHECK(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 0x10;
    CHECK(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

static void flipped_bits(void)
{
    house h;
    uint8_t secret[KEY_BYTES];
    char file[400];
    kt_ref path[64];
    uint8_t where[64][2];
    house_new(&h, false);
    CHECK_OK(add_docs(h.kt, 1, 0, 200));
    CHECK_OK(add_docs(h.kt, 2, 0, 2));
    size_t depth = path_of(h.kt, doc(1, 1), path, where);
    snprintf(file, sizeof file, "%s/pages", h.dir);
    house_close(&h);
    for (size_t i = 0; i < depth; i++) {
        off_t at = (off_t)(path[i].page - 1) * KT_SLOT_BYTES + (off_t)(i * 1000 % 6100);
        flip(file, at);
        CHECK_OK(house_open(&h, false, false));
        if (h.kt == NULL) continue;
        CHECK_FAILS(keytree_secret(h.kt, doc(1, 1), secret), E_DATA_LOSS);
        if (i + 1 == depth) {       /* the rest is served, added to, and the owner can be erased */
            CHECK_OK(keytree_secret(h.kt, doc(2, 1), secret));
            CHECK_OK(add_docs(h.kt, 2, 2, 100));
            CHECK_FAILS(erase(h.kt, (keytree_node[]){doc(1, 1)}, 1), E_DATA_LOSS);
            CHECK(keytree_epoch(h.kt) == 1);
            CHECK_OK(erase(h.kt, (keytree_node[]){keytree_owner(tenant_id(1), owner_id(1))}, 1));
            CHECK_OK(keytree_secret(h.kt, doc(2, 99), secret));
        }
        house_close(&h);
        flip(file, at);
    }
    snprintf(file, sizeof file, "%s/head.2", h.dir);
    struct stat st;
    CHECK(stat(file, &st) == 0);
    for (off_t at = 0; at < st.st_size; at += 13) {
        flip(file, at);
        CHECK_FAILS(house_open(&h, false, false), E_DATA_LOSS);
        house_close(&h);
        flip(file, at);
    }
    CHECK_OK(house_open(&h, false, false));
    house_close(&h);
    CHECK(truncate(file, st.st_size - 1) == 0);
    CHECK_FAILS(house_open(&h, false, false), E_DATA_LOSS);
    house_end(&h);
}

static void swapped_slots(void)
{
    house h;
    uint8_t secret[KEY_BYTES], slot[KT_SLOT_BYTES];
    kt_ref path[64];
    uint8_t where[64][2];
    house_new(&h, false);
    CHECK_OK(add_docs(h.kt, 1, 0, 200));
    size_t depth = path_of(h.kt, doc(1, 1), path, where);
    int fd = h.kt->folders[0].fd;
    off_t a = (off_t)(path[depth - 1].page - 1) * KT_SLOT_BYTES;
    off_t b = (off_t)(path[depth - 2].page - 1) * KT_SLOT_BYTES;
    CHECK(pread(fd, slot, sizeof slot, b) == KT_SLOT_BYTES);
    CHECK(pwrite(fd, slot, sizeof slot, a) == KT_SLOT_BYTES);
    CHECK_FAILS(keytree_secret(h.kt, doc(1, 1), secret), E_DATA_LOSS);
    CHECK(ftruncate(fd, a) == 0);
    CHECK_FAILS(keytree_secret(h.kt, doc(1, 1), secret), E_DATA_LOSS);
    house_end(&h);
}

/* ---- refusals ---- */
static void refusals(void)
{
    house h;
    root_holder *holder = NULL;
    keytree *second = NULL;
    char path[400];
    house_new(&h, false);
    CHECK(strcmp(root_holder_assurance(h.holder), "file") == 0);
    CHECK_FAILS(keytree_create(&second, h.dir, NULL, h.holder), E_EXISTS);
    CHECK_FAILS(keytree_open(&second, h.dir, NULL, h.holder), E_PRECONDITION);   /* in use */
    CHECK_FAILS(keytree_open(&second, "/nonexistent/keytree", NULL, h.holder), E_NOT_FOUND);
    CHECK_FAILS(root_file_open(&holder, "/nonexistent/root", false), E_NOT_FOUND);
    snprintf(path, sizeof path, "%s/other", h.base);
    CHECK_FAILS(keytree_create(&second, path, NULL, h.holder), E_PRECONDITION);
    house_close(&h);
    struct stat st;
    snprintf(path, sizeof path, "%s/root.1", h.root);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600 && st.st_size == KEY_BYTES);
    CHECK(stat(h.root, &st) == 0 && (st.st_mode & 0777) == 0700);
    CHECK(chmod(h.root, 0750) == 0);
    result r = root_file_open(&holder, h.root, false);
    CHECK(r.code == E_PRECONDITION && strstr(r.message, "chmod 700") != NULL);
    CHECK(chmod(h.root, 0700) == 0 && chmod(path, 0644) == 0);
    CHECK_FAILS(house_open(&h, false, false), E_PRECONDITION);
    house_close(&h);
    CHECK(chmod(path, 0600) == 0 && truncate(path, 31) == 0);
    CHECK_FAILS(house_open(&h, false, false), E_DATA_LOSS);
    house_close(&h);
    CHECK(unlink(path) == 0);
    CHECK_FAILS(house_open(&h, false, false), E_PRECONDITION);
    house_end(&h);
}

/* ---- threads ---- */
static void *reader_thread(void *ctx)
{
    keytree *kt = ctx;
    uint8_t secret[KEY_BYTES];
    size_t bad = 0;
    for (uint32_t i = 0; i < 400; i++) bad += !is_ok(keytree_secret(kt, doc(1, i % 50), secret));
    return (void *)bad;
}

static void readers_beside_a_writer(void)
{
    house h;
    pthread_t threads[3];
    house_new(&h, false);
    CHECK_OK(add_docs(h.kt, 1, 0, 200));
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, reader_thread, h.kt) == 0);
    for (uint32_t i = 0; i < 5; i++) {
        CHECK_OK(add_docs(h.kt, 1, 200 + i * 10, 210 + i * 10));
        CHECK_OK(erase(h.kt, (keytree_node[]){doc(1, 100 + i)}, 1));
    }
    for (int i = 0; i < 3; i++) {
        void *bad = NULL;
        CHECK(pthread_join(threads[i], &bad) == 0 && bad == NULL);
    }
    house_end(&h);
}

int main(void)
{
    log_level_set(LOG_ERROR);
    RUN(roundtrip_and_reopen);
    RUN(system_tenant_and_own_records);
    RUN(ten_thousand_documents);
    RUN(shape_is_canonical);
    RUN(splits_and_merges_at_the_edge);
    RUN(deep_ids);
    RUN(slots_are_reused);
    RUN(owner_and_tenant);
    RUN(cost_does_not_follow_the_size);
    RUN(mirror_is_equal_and_restores);
    RUN(flipped_bits);
    RUN(swapped_slots);
    RUN(refusals);
    RUN(readers_beside_a_writer);
    return DONE();
}
