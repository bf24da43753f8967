/* backup: hot copies of ciphertext, and putting them back. Neither the key tree nor the root key is ever in one.
 *
 *   BACKUP_DIR/<name>/stores/<owner>.mdb    a consistent snapshot of each store
 *                     acl.mdb               likewise
 *                     log/<tenant>/...      audit logs and receipts
 *                     sign/, tls/           the sealed keys, the certificate
 *                     files                 for each file a line: hash, size, path
 *                     manifest              canonical JSON: the hash of `files`, signed by the server's key
 *
 * A backup grows under <name>.partial and gets its name when all of it is durable. */
#ifndef LETHE_BACKUP_H
#define LETHE_BACKUP_H

#include "house.h"

enum { BACKUP_NAME_MAX_BYTES = 64, BACKUP_FILES_MAX_BYTES = 256 << 20 };

typedef struct { uint64_t files, bytes, stores_left_out; char path[CONFIG_PATH_MAX]; } backup_made;

/* name: 1 to 64 of a-z 0-9 . _ -, not beginning with a dot; a new folder below the setting backup_dir, or that very
 * path. E_PRECONDITION: no backup_dir, or an erasure is unfinished. E_EXISTS. Erasures wait meanwhile; all else goes
 * on. A store that is damaged is left out, and counted. */
MUST_USE result backup_make(house *h, const char *name, backup_made *out);

typedef struct {
    uint64_t stores_restored, stores_kept, stores_erased;    /* erased: no keys, not put back */
    uint64_t shares_withdrawn;           /* documents of restored stores, now their owner's alone */
    uint64_t logs_restored, files_restored;
    bool access_restored;                /* acl.mdb was missing: all its tokens and memberships are gone */
    char operator_token[ACL_TOKEN_TEXT_BYTES];
} restore_report;

/* Offline (takes the data folder's lock). The live key tree and root stay as they are, and decide what is readable.
 * Puts back what is missing, after the whole backup was verified; what is there stays (an audit log: the longer one).
 * issued: called with each token that a restored acl.mdb gives a tenant's admins. E_DENIED: not this server's
 * backup. E_DATA_LOSS: a file of it is damaged; nothing was changed. */
typedef void restore_issued_fn(void *ctx, const char *tenant, const char *user, const char *token);
MUST_USE result backup_restore(const config *settings, const char *dir, restore_issued_fn *issued, void *ctx,
                               restore_report *out);

/* ---- for both --------------------------------------------------------------------------------------- */
/* Copies (to NULL: only reads) a file durably, must not exist, and hashes it. */
MUST_USE result backup_copy(const char *from, const char *to, uint8_t hash[HASH_BYTES], uint64_t *size);
/* "a/b/c" below a folder; makes the folders above it when make is set. */
MUST_USE result backup_below(const char *dir, const char *path, bool make, char out[CONFIG_PATH_MAX]);
/* Is this a path that a backup may hold? (manifests are signed, and yet.) */
bool backup_path_known(const char *path);

#endif
