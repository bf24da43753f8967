/* kv: an ordered byte store on disk, one file an environment. The only file that sees LMDB's header
 * is base/kv.c. One environment is opened at most once in a process and never carried over fork.
 *
 * Threads: a kv may be used by many threads; a transaction belongs to the thread that began it.
 * There is one writer at a time (begin blocks). Keep readers short: they pin deleted pages. */
#ifndef LETHE_KV_H
#define LETHE_KV_H

#include "base.h"

typedef struct kv kv;
typedef struct kv_txn kv_txn;

enum { KV_KEY_MAX_BYTES = 511 };

typedef struct {
    size_t map_max_bytes;     /* the file never grows past it; 0: 16 GiB. Address space, not disk */
    bool create;              /* else E_NOT_FOUND when the file is absent */
} kv_options;

/* Opens path (one file, and path-lock beside it), mode 0600. Disk full: E_UNAVAILABLE. A damaged
 * file: E_DATA_LOSS. */
MUST_USE result kv_open(kv **out, const char *path, const kv_options *options);
void kv_close(kv **db);
/* Removes the file and its lock; the environment must be closed. Absent is fine. */
MUST_USE result kv_unlink(const char *path);
/* Writes a consistent copy of a live environment to path (which must not exist). */
MUST_USE result kv_copy(kv *db, const char *path);

MUST_USE result kv_begin(kv *db, bool write, kv_txn **out);
/* Durable when it returns OK. On error the transaction is gone and nothing of it is stored;
 * map or disk full: E_UNAVAILABLE. *txn becomes NULL either way. */
MUST_USE result kv_commit(kv_txn **txn);
void kv_abort(kv_txn **txn);                             /* NULL is fine */

/* value: borrowed until the transaction ends or next writes. E_NOT_FOUND. */
MUST_USE result kv_get(kv_txn *txn, bytes key, bytes *value);
MUST_USE result kv_put(kv_txn *txn, bytes key, bytes value);
MUST_USE result kv_delete(kv_txn *txn, bytes key);       /* absent is fine */
/* Visits every pair in key order; stops at the first error, which it returns. */
MUST_USE result kv_each(kv_txn *txn, result (*visit)(void *ctx, bytes key, bytes value), void *ctx);
MUST_USE result kv_count(kv_txn *txn, uint64_t *count);

#endif
