/* LMDB. Readers are not tied to threads (MDB_NOTLS); pages are written with write(2), never through
 * a writable map, so a full disk is an error code and not a signal. */
#include "kv.h"

#include "internal.h"
#include "mutant.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READERS_MAX = 510, LOCK_BYTES = 32 * 1024 };
#define MAP_DEFAULT_BYTES ((size_t)16 << 30)

struct kv {
    MDB_env *env;
    MDB_dbi dbi;
};

struct kv_txn {
    MDB_txn *txn;
    MDB_dbi dbi;
    bool write;
};

static result from_lmdb(int rc, const char *doing)
{
    switch (rc) {
    case MDB_SUCCESS: return OK;
    case MDB_NOTFOUND: return fail(E_NOT_FOUND, "no such key");
    case MDB_MAP_FULL: return fail(E_UNAVAILABLE, "%s: disk full (the store's size limit)", doing);
    case EIO:                  /* LMDB reports a short write so, and that mostly is a full disk */
        return fail(E_UNAVAILABLE, "%s: disk full or failing", doing);
    case MDB_READERS_FULL: return fail(E_UNAVAILABLE, "%s: too many readers", doing);
    case MDB_PANIC: return fail(E_UNAVAILABLE, "%s: the store must be opened again", doing);
    case MDB_BAD_VALSIZE: return fail(E_INVALID, "%s: a key has 1 to 511 bytes", doing);
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_PAGE_NOTFOUND:
    case MDB_CURSOR_FULL:
        return fail(E_DATA_LOSS, "%s: the store is damaged (%s)", doing, mdb_strerror(rc));
    default:
        if (rc > 0) {
            errno = rc;
            return fail_errno("%s", doing);
        }
        return fail(E_INTERNAL, "%s: %s", doing, mdb_strerror(rc));
    }
}

static result lock_path(const char *path, char out[PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s-lock", path);
    return n < 0 || n >= PATH_MAX ? fail(E_INVALID, "the path is too long") : OK;
}

/* LMDB writes its lock file through a map: on a full disk a sparse one would end in SIGBUS. So its
 * blocks are allocated before. */
static result lock_allocate(const char *path)
{
    char lock[PATH_MAX];
    TRY(lock_path(path, lock));
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return fail_errno("cannot open the store's lock");
    int rc = posix_fallocate(fd, 0, LOCK_BYTES);
    close(fd);
    if (rc == 0 || rc == EOPNOTSUPP || rc == EINVAL) return OK;
    errno = rc;
    return fail_errno("cannot open the store's lock");
}

/* A shortened file would end in SIGBUS at the missing pages. Padded with zero pages, LMDB reports
 * damage, and sealed values do not authenticate. (A sound file may be short as well: pages that a
 * transaction took and gave back were never written.) */
static result pad_short(MDB_env *env)
{
    MDB_envinfo info;
    MDB_stat stat_;
    struct stat st;
    int fd, rc = mdb_env_info(env, &info);
    if (rc == 0) rc = mdb_env_stat(env, &stat_);
    if (rc == 0) rc = mdb_env_get_fd(env, &fd);
    if (rc != 0) return from_lmdb(rc, "cannot open the store");
    off_t need = (off_t)((info.me_last_pgno + 1) * stat_.ms_psize);
    if (fstat(fd, &st) != 0) return fail_errno("cannot open the store");
    if (st.st_size < need && ftruncate(fd, need) != 0) return fail_errno("cannot open the store");
    return OK;
}

static result environment_open(kv *db, const char *path, size_t map_bytes)
{
    int dead, rc = mdb_env_create(&db->env);
    if (rc == 0) rc = mdb_env_set_mapsize(db->env, map_bytes);
    if (rc == 0) rc = mdb_env_set_maxreaders(db->env, READERS_MAX);
    if (rc == 0) rc = mdb_env_open(db->env, path, MDB_NOSUBDIR | MDB_NOTLS, 0600);
    if (rc == 0) rc = mdb_reader_check(db->env, &dead);
    if (rc != 0) return from_lmdb(rc, "cannot open the store");
    TRY(pad_short(db->env));
    MDB_txn *txn;
    rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0) return from_lmdb(rc, "cannot open the store");
    rc = mdb_dbi_open(txn, NULL, 0, &db->dbi);
    if (rc == 0) rc = mdb_txn_commit(txn);
    else mdb_txn_abort(txn);
    return from_lmdb(rc, "cannot open the store");
}

/* A new environment appears under its name only once its first pages are on the disk: a file that a power
 * failure left half written would look damaged for ever. */
static result environment_create(const char *path)
{
    char fresh[PATH_MAX];
    if (snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh)
        return fail(E_INVALID, "the path is too long");
    if (unlink(fresh) != 0 && errno != ENOENT) return fail_errno("cannot make the store");
    MDB_env *env;
    int rc = mdb_env_create(&env);
    if (rc != 0) return from_lmdb(rc, "cannot make the store");
    rc = mdb_env_open(env, fresh, MDB_NOSUBDIR | MDB_NOTLS | MDB_NOLOCK, 0600);
    if (rc == 0) rc = mdb_env_sync(env, 1);
    mdb_env_close(env);
    if (rc != 0) return from_lmdb(rc, "cannot make the store");
    if (rename(fresh, path) != 0) return fail_errno("cannot make the store");
    return fsync_parent(path);
}

result kv_open(kv **out, const char *path, const kv_options *options)
{
    struct stat st;
    *out = NULL;
    if (stat(path, &st) != 0) {
        if (errno != ENOENT) return fail_errno("cannot open the store");
        st.st_size = 0;
    } else if (!S_ISREG(st.st_mode)) {
        return fail(E_INVALID, "the store's path is not a regular file");
    }
    /* An empty file holds nothing. */
    if (st.st_size == 0 && !options->create) return fail(E_NOT_FOUND, "no such store");
    size_t map_bytes = options->map_max_bytes ? options->map_max_bytes : MAP_DEFAULT_BYTES;
    kv *db = mem_alloc(sizeof *db);
    result r = st.st_size == 0 && !MUTANT(store_torn) ? environment_create(path) : OK;
    if (is_ok(r)) r = lock_allocate(path);
    if (is_ok(r)) r = environment_open(db, path, (map_bytes + 4095) / 4096 * 4096);
    if (!is_ok(r)) {
        kv_close(&db);
        return r;
    }
    *out = db;
    return OK;
}

void kv_close(kv **db)
{
    if (*db == NULL) return;
    if ((*db)->env != NULL) mdb_env_close((*db)->env);
    mem_free(*db);
    *db = NULL;
}

result kv_unlink(const char *path)
{
    char lock[PATH_MAX];
    TRY(lock_path(path, lock));
    if (unlink(path) != 0 && errno != ENOENT) return fail_errno("cannot remove the store");
    if (unlink(lock) != 0 && errno != ENOENT) return fail_errno("cannot remove the store's lock");
    return fsync_parent(path);
}

result kv_copy(kv *db, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) return fail(E_EXISTS, "the copy's path exists");
    if (fd < 0) return fail_errno("cannot create the copy");
    int rc = mdb_env_copyfd2(db->env, fd, MDB_CP_COMPACT);
    /* Compaction refuses a file that leaked a page; a plain copy of it is sound. */
    if (rc == MDB_INCOMPATIBLE && ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0)
        rc = mdb_env_copyfd2(db->env, fd, 0);
    result r = from_lmdb(rc, "cannot copy the store");
    if (is_ok(r) && fsync(fd) != 0) r = fail_errno("cannot sync the copy");
    if (close(fd) != 0 && is_ok(r)) r = fail_errno("cannot close the copy");
    if (is_ok(r)) return fsync_parent(path);
    (void)unlink(path);
    return r;
}

result kv_begin(kv *db, bool write, kv_txn **out)
{
    MDB_txn *txn = NULL;
    *out = NULL;
    int rc = mdb_txn_begin(db->env, NULL, write ? 0 : MDB_RDONLY, &txn);
    if (rc != 0) return from_lmdb(rc, "cannot begin");
    kv_txn *t = mem_alloc(sizeof *t);
    *t = (kv_txn){txn, db->dbi, write};
    *out = t;
    return OK;
}

result kv_commit(kv_txn **txn)
{
    kv_txn *t = *txn;
    *txn = NULL;
    ASSERT(t != NULL);
    int rc = mdb_txn_commit(t->txn);      /* frees it, whatever it returns */
    mem_free(t);
    if (MUTANT(enospc_ignored)) return OK;
    return from_lmdb(rc, "cannot commit");
}

void kv_abort(kv_txn **txn)
{
    if (*txn == NULL) return;
    mdb_txn_abort((*txn)->txn);
    mem_free(*txn);
    *txn = NULL;
}

static MDB_val val_of(bytes b)
{
    return (MDB_val){b.size, (void *)(uintptr_t)b.data};
}

static bool key_fits(bytes key)
{
    return key.size >= 1 && key.size <= KV_KEY_MAX_BYTES;
}

result kv_get(kv_txn *txn, bytes key, bytes *value)
{
    MDB_val k = val_of(key), v;
    *value = (bytes){NULL, 0};
    if (!key_fits(key)) return from_lmdb(MDB_BAD_VALSIZE, "cannot read");
    int rc = mdb_get(txn->txn, txn->dbi, &k, &v);
    if (rc == 0) *value = bytes_of(v.mv_data, v.mv_size);
    return from_lmdb(rc, "cannot read");
}

result kv_put(kv_txn *txn, bytes key, bytes value)
{
    MDB_val k = val_of(key), v = val_of(value);
    ASSERT(txn->write);
    if (!key_fits(key)) return from_lmdb(MDB_BAD_VALSIZE, "cannot store");
    return from_lmdb(mdb_put(txn->txn, txn->dbi, &k, &v, 0), "cannot store");
}

result kv_delete(kv_txn *txn, bytes key)
{
    MDB_val k = val_of(key);
    ASSERT(txn->write);
    if (!key_fits(key)) return from_lmdb(MDB_BAD_VALSIZE, "cannot remove");
    int rc = mdb_del(txn->txn, txn->dbi, &k, NULL);
    return rc == MDB_NOTFOUND ? OK : from_lmdb(rc, "cannot remove");
}

result kv_each(kv_txn *txn, result (*visit)(void *ctx, bytes key, bytes value), void *ctx)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc = mdb_cursor_open(txn->txn, txn->dbi, &cursor);
    if (rc != 0) return from_lmdb(rc, "cannot read");
    result r = OK;
    while (is_ok(r) && (rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
        r = visit(ctx, bytes_of(k.mv_data, k.mv_size), bytes_of(v.mv_data, v.mv_size));
    if (is_ok(r) && rc != MDB_NOTFOUND) r = from_lmdb(rc, "cannot read");
    mdb_cursor_close(cursor);
    return r;
}

result kv_count(kv_txn *txn, uint64_t *count)
{
    MDB_stat st;
    int rc = mdb_stat(txn->txn, txn->dbi, &st);
    *count = rc == 0 ? st.ms_entries : 0;
    return from_lmdb(rc, "cannot read");
}
