/* The key tree's erasure: every side of the commit point, a root holder that fails, and that older images of the disk
 * open under the old root key (the control) and under no newer one. */
#include "keytree_house.h"

/* ---- both sides of the commit point ---- */
typedef struct { house *h; int steps; } snapper;

static void snapshot(void *ctx, int step, const char *what)
{
    snapper *s = ctx;
    char to[300];
    (void)what;
    s->steps = s->steps * 10 + step;
    snprintf(to, sizeof to, "%s.%d", s->h->base, step);
    shell("cp -a '%s' '%s'", s->h->base, to);
}

static void crash_at_each_step(void)
{
    house h;
    uint8_t before[KEY_BYTES], sibling[KEY_BYTES], now[KEY_BYTES];
    house_new(&h, true);
    CHECK_OK(add_docs(h.kt, 1, 0, 1000));
    CHECK_OK(keytree_secret(h.kt, doc(1, 1), before));
    CHECK_OK(keytree_secret(h.kt, doc(1, 2), sibling));
    snapper s = {&h, 0};
    keytree_erasure out;
    keytree_node target = doc(1, 1);
    CHECK_OK(keytree_erase(h.kt, &target, 1, snapshot, &s, &out));
    CHECK(s.steps == 456);
    for (int step = 4; step <= 6; step++) {
        house c = {0};
        snprintf(c.base, sizeof c.base, "%.240s.%d", h.base, step);
        paths(&c);
        CHECK_OK(house_open(&c, false, true));
        NEED(c.kt != NULL);
        CHECK(keytree_epoch(c.kt) == (step < 6 ? 1 : 2));
        result r = keytree_secret(c.kt, target, now);
        CHECK(step < 6 ? is_ok(r) && secure_equal(now, before, KEY_BYTES) : r.code == E_NOT_FOUND);
        CHECK_OK(keytree_secret(c.kt, doc(1, 2), now));
        CHECK(secure_equal(now, sibling, KEY_BYTES));
        /* What was discarded is gone, and the replay carries it forward. */
        char path[400];
        snprintf(path, sizeof path, "%s/root.%d", c.root, step < 6 ? 2 : 1);
        CHECK(access(path, F_OK) != 0);
        snprintf(path, sizeof path, "%s/head.%d", c.mirror, step < 6 ? 2 : 1);
        CHECK(access(path, F_OK) != 0);
        CHECK_OK(erase(c.kt, &target, 1));
        CHECK_FAILS(keytree_secret(c.kt, target, now), E_NOT_FOUND);
        house_close(&c);
        CHECK_OK(house_open(&c, false, true));
        shell("diff -r '%s' '%s'", c.dir, c.mirror);
        house_end(&c);
    }
    house_end(&h);
}

/* Power lost while the old root key was half overwritten: the newer tree counts. */
static void torn_root_key_goes_forward(void)
{
    house h;
    uint8_t secret[KEY_BYTES];
    char path[400], from[400];
    house_new(&h, false);
    CHECK_OK(add_docs(h.kt, 1, 0, 100));
    snapper s = {&h, 0};
    keytree_erasure out;
    keytree_node target = doc(1, 1);
    CHECK_OK(keytree_erase(h.kt, &target, 1, snapshot, &s, &out));
    house c = {0};
    snprintf(c.base, sizeof c.base, "%.240s.5", h.base);
    paths(&c);
    snprintf(path, sizeof path, "%s/root.1", c.root);
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0 && pwrite(fd, "half of it is gone", 16, 0) == 16);
    close(fd);
    CHECK_OK(house_open(&c, false, false));
    NEED(c.kt != NULL);
    CHECK(keytree_epoch(c.kt) == 2);
    CHECK_FAILS(keytree_secret(c.kt, target, secret), E_NOT_FOUND);
    CHECK(access(path, F_OK) != 0);
    house_end(&c);
    /* More keys than an epoch change leaves, or with a gap: nothing is guessed. */
    house_close(&h);
    snprintf(from, sizeof from, "%s/root.2", h.root);
    snprintf(path, sizeof path, "%s/root.4", h.root);
    shell("cp -a '%s' '%s'", from, path);
    CHECK_FAILS(house_open(&h, false, false), E_PRECONDITION);
    house_end(&h);
    for (int step = 4; step <= 6; step += 2) {
        snprintf(path, sizeof path, "%.240s.%d", h.base, step);
        shell("rm -rf '%s'%s", path, "");
    }
}

/* ---- older images ---- */
static void old_image_needs_the_old_root(void)
{
    house h, old = {0};
    uint8_t secret[KEY_BYTES];
    char kept_root[300];
    house_new(&h, false);
    CHECK_OK(add_docs(h.kt, 1, 0, 200));
    snprintf(old.base, sizeof old.base, "%.240s.old", h.base);
    paths(&old);
    shell("cp -a '%s' '%s'", h.base, old.base);
    snprintf(kept_root, sizeof kept_root, "%.240s.root", h.base);
    shell("cp -a '%s' '%s'", h.root, kept_root);
    CHECK_OK(erase(h.kt, (keytree_node[]){doc(1, 1)}, 1));
    house_close(&h);
    shell("rm -rf '%s'%s", old.root, "");
    shell("cp -a '%s' '%s'", h.root, old.root);
    result r = house_open(&old, false, false);
    CHECK(r.code == E_PRECONDITION && strstr(r.message, "older than the root holder") != NULL);
    house_close(&old);
    shell("rm -rf '%s'%s", old.root, "");
    shell("cp -a '%s' '%s'", kept_root, old.root);
    CHECK_OK(house_open(&old, false, false));                /* the control */
    if (old.kt != NULL) CHECK_OK(keytree_secret(old.kt, doc(1, 1), secret));
    house_end(&old);
    shell("rm -rf '%s'%s", h.root, "");
    shell("cp -a '%s' '%s'", kept_root, h.root);
    CHECK_FAILS(house_open(&h, false, false), E_PRECONDITION);   /* the holder is behind */
    house_end(&h);
    test_tmpdir_remove(kept_root);
}

typedef struct { uint8_t (*keys)[KEY_BYTES]; size_t count; } ring;

static void ring_add(ring *all, const uint8_t key[KEY_BYTES])
{
    all->keys = mem_realloc(all->keys, (all->count + 1) * KEY_BYTES);
    memcpy(all->keys[all->count++], key, KEY_BYTES);
}

/* Every key that the tree holds: of pages and of entries. */
static void ring_collect(keytree *kt, const kt_ref *ref, uint8_t level, uint8_t step, ring *all)
{
    if (ref->page == 0) return;
    ring_add(all, ref->key);
    kt_page *page = kt_page_take(kt);
    CHECK_OK(kt_page_read(kt->folders[0].fd, ref, level, step, page));
    for (uint32_t i = 0; page->kind == KT_BRANCH && i < KT_FANOUT; i++)
        ring_collect(kt, &page->children[i], level, (uint8_t)(step + 1), all);
    for (uint32_t i = 0; page->kind == KT_BUCKET && i < page->count; i++) {
        ring_add(all, page->entries[i].secret);
        ring_collect(kt, &page->entries[i].sub, (uint8_t)(level + 1), 0, all);
    }
    kt_page_give(kt, &page);
}

/* A holder that tries one key, whatever the epoch. */
typedef struct { root_holder holder; const uint8_t *key; } trial;
static result trial_open(root_holder *h, uint64_t epoch, bytes associated, bytes sealed, buf *out)
{
    (void)epoch;
    return seal_open(((trial *)h)->key, associated, sealed, out);
}
static const root_holder_ops TRIAL = {.open = trial_open};

static void root_key_of(const house *h, int epoch, uint8_t key[KEY_BYTES])
{
    char file[400];
    buf content;
    buf_init(&content, KEY_BYTES);
    snprintf(file, sizeof file, "%s/root.%d", h->root, epoch);
    CHECK_OK(file_read(file, KEY_BYTES, &content));
    CHECK(content.size == KEY_BYTES);
    if (content.size == KEY_BYTES) memcpy(key, content.data, KEY_BYTES);
    buf_free(&content);
}

/* Whoever holds the old disk, the new disk and RK_(e+1): tries every key on the old path. */
static void nothing_new_opens_the_old_path(void)
{
    house h;
    kt_ref path[64];
    uint8_t where[64][2];
    house_new(&h, false);
    CHECK_OK(add_docs(h.kt, 1, 0, 500));
    CHECK_OK(add_docs(h.kt, 2, 0, 5));
    keytree_node target = doc(1, 1);
    size_t depth = path_of(h.kt, target, path, where);
    CHECK(depth == 4);
    buf pages, head;
    char file[400];
    buf_init(&pages, 64 << 20);
    buf_init(&head, 4096);
    snprintf(file, sizeof file, "%s/pages", h.dir);
    CHECK_OK(file_read(file, 64 << 20, &pages));
    snprintf(file, sizeof file, "%s/head.1", h.dir);
    CHECK_OK(file_read(file, 4096, &head));
    kt_page *page = kt_page_take(h.kt);
    kt_head opened;
    for (size_t i = 0; i < depth; i++)                       /* the control */
        CHECK_OK(kt_page_unseal(pages.data + (path[i].page - 1) * KT_SLOT_BYTES, path[i].page,
                                where[i][0], where[i][1], path[i].key, page));
    uint8_t root_key[KEY_BYTES];
    trial one = {.holder = {.ops = &TRIAL}, .key = root_key};
    root_key_of(&h, 1, root_key);
    CHECK_OK(kt_head_unseal(buf_bytes(&head), 1, &one.holder, &opened));
    CHECK_OK(erase(h.kt, &target, 1));
    ring all = {0};
    root_key_of(&h, 2, root_key);
    ring_add(&all, root_key);
    ring_collect(h.kt, &h.kt->now->head.root, 0, 0, &all);
    CHECK(all.count > 500);
    for (size_t k = 0; k < all.count; k++) {
        one.key = all.keys[k];
        CHECK(!is_ok(kt_head_unseal(buf_bytes(&head), 1, &one.holder, &opened)));
        for (size_t i = 0; i < depth; i++) {
            const uint8_t *slot = pages.data + (path[i].page - 1) * KT_SLOT_BYTES;
            CHECK(!is_ok(kt_page_unseal(slot, path[i].page, where[i][0], where[i][1],
                                        all.keys[k], page)));
        }
    }
    mem_free(all.keys);
    kt_page_give(h.kt, &page);
    buf_free(&pages);
    buf_free(&head);
    house_end(&h);
}

/* ---- failing media ---- */
typedef struct { root_holder holder; root_holder *inner; int fail_create, fail_destroy, fail_open; } failing;

static result f_create(root_holder *h, uint64_t epoch)
{
    failing *f = (failing *)h;
    return f->fail_create ? fail(E_UNAVAILABLE, "full") : root_create(f->inner, epoch);
}
static result f_seal(root_holder *h, uint64_t epoch, bytes associated, bytes plain, buf *out)
{
    return root_seal(((failing *)h)->inner, epoch, associated, plain, out);
}
/* 3: does not come back from destroying. */
static result f_open(root_holder *h, uint64_t epoch, bytes associated, bytes sealed, buf *out)
{
    if (((failing *)h)->fail_open) return fail(E_UNAVAILABLE, "gone");
    return root_open(((failing *)h)->inner, epoch, associated, sealed, out);
}
/* 1: fails and nothing happened; 2: fails after having destroyed. */
static result f_destroy(root_holder *h, uint64_t epoch)
{
    failing *f = (failing *)h;
    uint64_t epochs[3];
    size_t count = 0;
    bool counts = f->fail_destroy && epoch == 1 &&
                  is_ok(root_epochs(f->inner, epochs, 3, &count)) && count > 0 && epochs[0] == 1;
    f->fail_open = counts && f->fail_destroy == 3;
    if (counts && f->fail_destroy != 2) return fail(E_UNAVAILABLE, "cannot");
    TRY(root_destroy(f->inner, epoch));
    return counts ? fail(E_UNAVAILABLE, "cannot tell") : OK;
}
static result f_epochs(root_holder *h, uint64_t *out, size_t max, size_t *count)
{
    return root_epochs(((failing *)h)->inner, out, max, count);
}
static void f_close(root_holder *h) { (void)h; }
static const root_holder_ops FAILING = {f_create, f_seal, f_open, f_destroy, f_epochs, f_close};

static void holder_that_fails(void)
{
    house h;
    uint8_t secret[KEY_BYTES];
    memset(&h, 0, sizeof h);
    test_tmpdir(h.base);
    paths(&h);
    failing f = {.holder = {.ops = &FAILING}};
    CHECK_OK(root_file_open(&f.inner, h.root, true));
    CHECK_OK(keytree_create(&h.kt, h.dir, NULL, &f.holder));
    NEED(h.kt != NULL);
    CHECK_OK(add_docs(h.kt, 1, 0, 100));
    f.fail_create = 1;
    CHECK_FAILS(erase(h.kt, (keytree_node[]){doc(1, 1)}, 1), E_UNAVAILABLE);
    f.fail_create = 0;
    f.fail_destroy = 1;
    CHECK_FAILS(erase(h.kt, (keytree_node[]){doc(1, 1)}, 1), E_UNAVAILABLE);
    CHECK(keytree_epoch(h.kt) == 1);
    CHECK_OK(keytree_secret(h.kt, doc(1, 1), secret));
    CHECK_OK(add_docs(h.kt, 1, 100, 101));
    keytree_close(&h.kt);
    CHECK_OK(keytree_open(&h.kt, h.dir, NULL, &f.holder));
    NEED(h.kt != NULL);
    CHECK_OK(keytree_secret(h.kt, doc(1, 100), secret));
    f.fail_destroy = 3;                                      /* nobody knows: no more writes */
    CHECK_FAILS(erase(h.kt, (keytree_node[]){doc(1, 1)}, 1), E_UNAVAILABLE);
    CHECK(!is_ok(add_docs(h.kt, 1, 101, 102)));
    f.fail_open = 0;
    keytree_close(&h.kt);
    CHECK_OK(keytree_open(&h.kt, h.dir, NULL, &f.holder));
    NEED(h.kt != NULL);
    CHECK(keytree_epoch(h.kt) == 1);
    f.fail_destroy = 2;                                      /* dead all the same: it counts */
    CHECK_OK(erase(h.kt, (keytree_node[]){doc(1, 1)}, 1));
    CHECK(keytree_epoch(h.kt) == 2);
    CHECK_FAILS(keytree_secret(h.kt, doc(1, 1), secret), E_NOT_FOUND);
    keytree_close(&h.kt);
    CHECK_OK(keytree_open(&h.kt, h.dir, NULL, &f.holder));
    keytree_close(&h.kt);
    root_holder_close(&f.inner);
    test_tmpdir_remove(h.base);
}

/* The folder of heads cannot be written: nothing acknowledged is lost, and it goes on
 * afterwards. */
/* A crash between a temporary file and its rename: the next start takes it away, and nothing else. */
static void leftovers_go(void)
{
    static const char *const LEFT[] = {"root/root.2.0011223344556677.tmp", "mirror/head.1.00aa.tmp",
                                       "keytree/head.2.8899aabbccddeeff.tmp", "keytree/notes.txt"};
    house h;
    char path[600];
    house_new(&h, true);
    house_close(&h);
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", h.base, LEFT[i]);
        CHECK_OK(file_write_atomic(path, bytes_str("left"), 0600));
    }
    CHECK_OK(house_open(&h, false, true));
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", h.base, LEFT[i]);
        CHECK((access(path, F_OK) == 0) == (i == 3));
    }
    house_end(&h);
}

static void head_that_cannot_be_written(void)
{
    house h;
    uint8_t secret[KEY_BYTES];
    char aside[400];
    house_new(&h, false);
    CHECK_OK(add_docs(h.kt, 1, 0, 100));
    snprintf(aside, sizeof aside, "%s.aside", h.dir);
    CHECK(rename(h.dir, aside) == 0);
    CHECK(!is_ok(add_docs(h.kt, 1, 100, 200)));
    CHECK_OK(keytree_secret(h.kt, doc(1, 1), secret));
    CHECK_FAILS(keytree_secret(h.kt, doc(1, 150), secret), E_NOT_FOUND);
    CHECK(!is_ok(erase(h.kt, (keytree_node[]){doc(1, 1)}, 1)));
    CHECK(rename(aside, h.dir) == 0);
    CHECK_OK(add_docs(h.kt, 1, 200, 300));
    CHECK_OK(erase(h.kt, (keytree_node[]){doc(1, 1)}, 1));
    house_close(&h);
    CHECK_OK(house_open(&h, false, false));
    NEED(h.kt != NULL);
    CHECK_OK(keytree_secret(h.kt, doc(1, 2), secret));
    CHECK_OK(keytree_secret(h.kt, doc(1, 250), secret));
    CHECK_FAILS(keytree_secret(h.kt, doc(1, 150), secret), E_NOT_FOUND);
    house_end(&h);
}

int main(void)
{
    log_level_set(LOG_ERROR);
    RUN(crash_at_each_step);
    RUN(torn_root_key_goes_forward);
    RUN(old_image_needs_the_old_root);
    RUN(nothing_new_opens_the_old_path);
    RUN(holder_that_fails);
    RUN(leftovers_go);
    RUN(head_that_cannot_be_written);
    return DONE();
}
