/* kv: durability, isolation, limits, damage, copies. */
#include "kv.h"
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[256], path[512];
static const kv_options make = {.map_max_bytes = 1 << 20, .create = true};
static const kv_options existing = {.map_max_bytes = 1 << 20};

static void put(kv *db, const char *name, const char *value)
{
    kv_txn *txn;
    CHECK_OK(kv_begin(db, true, &txn));
    CHECK_OK(kv_put(txn, bytes_str(name), bytes_str(value)));
    CHECK_OK(kv_commit(&txn));
    CHECK(txn == NULL);
}

static bool holds(kv *db, const char *name, const char *value)
{
    kv_txn *txn;
    bytes found;
    if (!is_ok(kv_begin(db, false, &txn))) return false;
    result r = kv_get(txn, bytes_str(name), &found);
    bool same = value == NULL ? r.code == E_NOT_FOUND
                              : is_ok(r) && bytes_equal(found, bytes_str(value));
    kv_abort(&txn);
    return same;
}

static void fresh(kv **db)
{
    CHECK_OK(kv_unlink(path));
    CHECK_OK(kv_open(db, path, &make));
}

static void what_was_committed_is_there_after_reopening(void)
{
    kv *db;
    CHECK_FAILS(kv_open(&db, path, &existing), E_NOT_FOUND);
    CHECK(db == NULL);
    CHECK_OK(kv_open(&db, path, &make));
    put(db, "a", "1");
    put(db, "b", "");
    put(db, "a", "2");
    kv_close(&db);
    CHECK(db == NULL);
    kv_close(&db);
    struct stat st;
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK_OK(kv_open(&db, path, &existing));
    CHECK(holds(db, "a", "2") && holds(db, "b", "") && holds(db, "c", NULL));
    kv_txn *txn;
    uint64_t count;
    CHECK_OK(kv_begin(db, true, &txn));
    CHECK_OK(kv_delete(txn, bytes_str("a")));
    CHECK_OK(kv_delete(txn, bytes_str("absent")));
    CHECK_OK(kv_commit(&txn));
    CHECK_OK(kv_begin(db, false, &txn));
    CHECK_OK(kv_count(txn, &count));
    CHECK(count == 1);
    CHECK_OK(kv_commit(&txn));
    kv_close(&db);
}

static void aborting_leaves_nothing(void)
{
    kv *db;
    kv_txn *txn;
    fresh(&db);
    put(db, "kept", "x");
    CHECK_OK(kv_begin(db, true, &txn));
    CHECK_OK(kv_put(txn, bytes_str("gone"), bytes_str("y")));
    CHECK_OK(kv_delete(txn, bytes_str("kept")));
    kv_abort(&txn);
    CHECK(txn == NULL);
    kv_abort(&txn);
    CHECK(holds(db, "kept", "x") && holds(db, "gone", NULL));
    kv_close(&db);
}

static void readers_keep_their_snapshot(void)
{
    kv *db;
    kv_txn *reader_txn;
    bytes value;
    fresh(&db);
    put(db, "k", "old");
    CHECK_OK(kv_begin(db, false, &reader_txn));
    put(db, "k", "new");
    CHECK_OK(kv_get(reader_txn, bytes_str("k"), &value));
    CHECK(bytes_equal(value, bytes_str("old")));
    kv_abort(&reader_txn);
    CHECK(holds(db, "k", "new"));
    kv_close(&db);
}

typedef struct { char keys[64]; size_t visited, stop_at; } visit_state;

static result visit(void *ctx, bytes key, bytes value)
{
    visit_state *state = ctx;
    if (state->visited == state->stop_at) return fail(E_CANCELLED, "enough");
    strncat(state->keys, (const char *)key.data, key.size);
    CHECK(value.size == 1);
    state->visited++;
    return OK;
}

static void each_goes_in_key_order_and_stops(void)
{
    kv *db;
    kv_txn *txn;
    fresh(&db);
    put(db, "c", "3");
    put(db, "a", "1");
    put(db, "b", "2");
    CHECK_OK(kv_begin(db, false, &txn));
    visit_state all = {.stop_at = 100}, some = {.stop_at = 2};
    CHECK_OK(kv_each(txn, visit, &all));
    CHECK(strcmp(all.keys, "abc") == 0);
    CHECK_FAILS(kv_each(txn, visit, &some), E_CANCELLED);
    CHECK(strcmp(some.keys, "ab") == 0);
    kv_abort(&txn);
    kv_close(&db);
}

static void keys_have_bounds(void)
{
    kv *db;
    kv_txn *txn;
    uint8_t name[512] = {1};
    bytes value;
    fresh(&db);
    CHECK_OK(kv_begin(db, true, &txn));
    CHECK_OK(kv_put(txn, bytes_of(name, 511), bytes_str("v")));
    CHECK_FAILS(kv_put(txn, bytes_of(name, 512), bytes_str("v")), E_INVALID);
    CHECK_FAILS(kv_put(txn, bytes_of(name, 0), bytes_str("v")), E_INVALID);
    CHECK_FAILS(kv_get(txn, bytes_of(name, 512), &value), E_INVALID);
    CHECK_FAILS(kv_delete(txn, bytes_of(name, 0)), E_INVALID);
    CHECK_OK(kv_get(txn, bytes_of(name, 511), &value));
    CHECK_OK(kv_commit(&txn));
    kv_close(&db);
}

static void a_full_map_loses_nothing(void)
{
    kv *db;
    kv_txn *txn;
    uint8_t *large = mem_alloc(300000);
    fresh(&db);
    put(db, "before", "x");
    CHECK_OK(kv_begin(db, true, &txn));
    result r = OK;
    for (int i = 0; i < 10 && is_ok(r); i++) {
        char name[8];
        snprintf(name, sizeof name, "k%d", i);
        r = kv_put(txn, bytes_str(name), bytes_of(large, 300000));
    }
    CHECK(r.code == E_UNAVAILABLE && strstr(r.message, "disk full") != NULL);
    kv_abort(&txn);
    CHECK(holds(db, "before", "x") && holds(db, "k0", NULL));
    put(db, "after", "y");
    CHECK(holds(db, "after", "y"));
    kv_close(&db);
    mem_free(large);
}

/* The file size limit stands in for a full disk: the write behind commit fails. */
static void a_full_disk_loses_nothing(void)
{
    kv *db;
    kv_txn *txn;
    uint8_t *large = mem_alloc(200000);
    struct rlimit old;
    fresh(&db);
    put(db, "before", "x");
    NEED(getrlimit(RLIMIT_FSIZE, &old) == 0);
    struct rlimit small = {64 * 1024, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    CHECK_OK(kv_begin(db, true, &txn));
    CHECK_OK(kv_put(txn, bytes_str("large"), bytes_of(large, 200000)));
    fflush(stdout);
    NEED(setrlimit(RLIMIT_FSIZE, &small) == 0);
    result r = kv_commit(&txn);
    NEED(setrlimit(RLIMIT_FSIZE, &old) == 0);
    CHECK(r.code == E_UNAVAILABLE && strstr(r.message, "disk full") != NULL);
    CHECK(txn == NULL);
    CHECK(holds(db, "before", "x") && holds(db, "large", NULL));
    put(db, "after", "y");
    kv_close(&db);
    CHECK_OK(kv_open(&db, path, &existing));
    CHECK(holds(db, "before", "x") && holds(db, "after", "y") && holds(db, "large", NULL));
    kv_close(&db);
    mem_free(large);
}

static void killed_while_writing(void)
{
    int ready[2];
    CHECK_OK(kv_unlink(path));
    NEED(pipe(ready) == 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        kv *db;
        kv_txn *txn;
        if (!is_ok(kv_open(&db, path, &make))) _exit(1);
        put(db, "acknowledged", "x");
        if (!is_ok(kv_begin(db, true, &txn)) ||
            !is_ok(kv_put(txn, bytes_str("unfinished"), bytes_str("y")))) _exit(1);
        if (write(ready[1], "r", 1) != 1) _exit(1);
        for (;;) pause();
    }
    char byte;
    close(ready[1]);
    NEED(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    kv *db;
    CHECK_OK(kv_open(&db, path, &existing));
    CHECK(holds(db, "acknowledged", "x") && holds(db, "unfinished", NULL));
    put(db, "after", "z");                            /* the dead writer's lock does not hold */
    kv_close(&db);
}

static void damage_is_an_error(void)
{
    kv *db;
    CHECK_OK(kv_unlink(path));
    uint8_t junk[8192];
    for (size_t i = 0; i < sizeof junk; i++) junk[i] = (uint8_t)(i * 37 + 11);
    CHECK_OK(file_write_atomic(path, bytes_of(junk, sizeof junk), 0600));
    CHECK_FAILS(kv_open(&db, path, &existing), E_DATA_LOSS);
    CHECK_FAILS(kv_open(&db, path, &make), E_DATA_LOSS);
    CHECK_OK(file_write_atomic(path, bytes_of(junk, 100), 0600));
    CHECK_FAILS(kv_open(&db, path, &existing), E_DATA_LOSS);
    CHECK_OK(file_write_atomic(path, bytes_of(junk, 0), 0600));
    CHECK_FAILS(kv_open(&db, path, &existing), E_NOT_FOUND);
    CHECK_FAILS(kv_open(&db, dir, &existing), E_INVALID);
}

static void a_shortened_file_is_no_crash(void)
{
    kv *db;
    kv_txn *txn;
    bytes value;
    fresh(&db);
    CHECK_OK(kv_begin(db, true, &txn));
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t body[500] = {0};
        CHECK_OK(kv_put(txn, bytes_of(&i, sizeof i), bytes_of(body, sizeof body)));
    }
    CHECK_OK(kv_commit(&txn));
    kv_close(&db);
    NEED(truncate(path, 2 * 4096) == 0);              /* both meta pages stay */
    result r = kv_open(&db, path, &existing);
    if (is_ok(r)) {
        uint32_t name = 100;
        CHECK_OK(kv_begin(db, false, &txn));
        CHECK_FAILS(kv_get(txn, bytes_of(&name, sizeof name), &value), E_DATA_LOSS);
        kv_abort(&txn);
        kv_close(&db);
    } else {
        CHECK(r.code == E_DATA_LOSS);
    }
}

static void copies_are_consistent(void)
{
    kv *db, *copy;
    char other[600];
    CHECK_OK(path_join(other, sizeof other, dir, "copy.mdb"));
    fresh(&db);
    put(db, "a", "1");
    CHECK_OK(kv_copy(db, other));
    CHECK_FAILS(kv_copy(db, other), E_EXISTS);
    put(db, "a", "2");
    CHECK_OK(kv_open(&copy, other, &existing));
    CHECK(holds(copy, "a", "1") && holds(db, "a", "2"));
    struct stat st;
    CHECK(stat(other, &st) == 0 && (st.st_mode & 0777) == 0600);
    kv_close(&copy);
    kv_close(&db);
    CHECK_OK(kv_unlink(other));
    CHECK(access(other, F_OK) != 0);
}

enum { THREADS = 4, ROUNDS = 25 };

static void *add_many(void *arg)
{
    kv *db = arg;
    for (int i = 0; i < ROUNDS; i++) {
        kv_txn *txn;
        bytes value;
        uint64_t n = 0;
        if (!is_ok(kv_begin(db, true, &txn))) return arg;
        if (is_ok(kv_get(txn, bytes_str("n"), &value))) memcpy(&n, value.data, sizeof n);
        n++;
        if (!is_ok(kv_put(txn, bytes_str("n"), bytes_of(&n, sizeof n)))) return arg;
        if (!is_ok(kv_commit(&txn))) return arg;
    }
    return NULL;
}

static void writers_take_turns(void)
{
    kv *db;
    kv_txn *txn;
    pthread_t threads[THREADS];
    fresh(&db);
    for (int i = 0; i < THREADS; i++) NEED(pthread_create(&threads[i], NULL, add_many, db) == 0);
    for (int i = 0; i < THREADS; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        CHECK(bad == NULL);
    }
    bytes value;
    uint64_t n = 0;
    CHECK_OK(kv_begin(db, false, &txn));
    CHECK_OK(kv_get(txn, bytes_str("n"), &value));
    if (value.size == sizeof n) memcpy(&n, value.data, sizeof n);
    CHECK(n == THREADS * ROUNDS);
    kv_abort(&txn);
    kv_close(&db);
}

int main(void)
{
    test_tmpdir(dir);
    snprintf(path, sizeof path, "%s/store.mdb", dir);
    RUN(what_was_committed_is_there_after_reopening);
    RUN(aborting_leaves_nothing);
    RUN(readers_keep_their_snapshot);
    RUN(each_goes_in_key_order_and_stops);
    RUN(keys_have_bounds);
    RUN(a_full_map_loses_nothing);
    RUN(a_full_disk_loses_nothing);
    RUN(killed_while_writing);
    RUN(damage_is_an_error);
    RUN(a_shortened_file_is_no_crash);
    RUN(copies_are_consistent);
    RUN(writers_take_turns);
    test_tmpdir_remove(dir);
    return DONE();
}
