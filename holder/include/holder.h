/* holder: the keeper of the root key. RK_e, the root key of epoch e, never leaves it: the key tree
 * asks it to seal and open the tree's head, about 100 bytes, and to create and destroy keys.
 *
 * Threads: one caller at a time (the key tree's writer lock, or its opening). */
#ifndef LETHE_HOLDER_H
#define LETHE_HOLDER_H

#include "seal.h"

#include <sys/types.h>

/* ROOT_EPOCHS_MAX: an epoch change leaves two keys; a few more are told, so that they are seen. */
enum { ROOT_PLAIN_MAX_BYTES = 1024, ROOT_SEALED_MAX_BYTES = 2048, ROOT_ASSOCIATED_MAX_BYTES = 256,
       ROOT_EPOCHS_MAX = 16, ROOT_ASSURANCE_MAX_BYTES = 15, ROOT_NOTE_MAX_BYTES = 200 };

typedef struct root_holder root_holder;

/* What a medium must do. Sizes beyond the limits above are E_INVALID. */
typedef struct {
    /* A fresh random key, durable when it returns. E_EXISTS. */
    result (*create)(root_holder *h, uint64_t epoch);
    /* Appends to out. E_NOT_FOUND: no key of that epoch. open: E_DATA_LOSS for bytes that are not
     * authentic, and for a key that is no longer whole. */
    result (*seal)(root_holder *h, uint64_t epoch, bytes associated, bytes plain, buf *out);
    result (*open)(root_holder *h, uint64_t epoch, bytes associated, bytes sealed, buf *out);
    result (*destroy)(root_holder *h, uint64_t epoch);          /* absent is fine; durable */
    /* Ascending; the lowest max of them when there are more. */
    result (*epochs)(root_holder *h, uint64_t *out, size_t max, size_t *count);
    void (*close)(root_holder *h);                              /* frees h */
} root_holder_ops;

/* The head of every holder's own struct. Texts are plain ASCII without quotes or backslashes. */
struct root_holder {
    const root_holder_ops *ops;
    char assurance[ROOT_ASSURANCE_MAX_BYTES + 1];               /* "file", "hsm": on receipts */
    char note[ROOT_NOTE_MAX_BYTES + 1];                         /* what it rests on, in a sentence */
};

static inline result root_create(root_holder *h, uint64_t epoch)
{
    return h->ops->create(h, epoch);
}
static inline result root_seal(root_holder *h, uint64_t epoch, bytes associated, bytes plain,
                               buf *out)
{
    return h->ops->seal(h, epoch, associated, plain, out);
}
static inline result root_open(root_holder *h, uint64_t epoch, bytes associated, bytes sealed,
                               buf *out)
{
    return h->ops->open(h, epoch, associated, sealed, out);
}
static inline result root_destroy(root_holder *h, uint64_t epoch)
{
    return h->ops->destroy(h, epoch);
}
static inline result root_epochs(root_holder *h, uint64_t *out, size_t max, size_t *count)
{
    return h->ops->epochs(h, out, max, count);
}

void root_holder_close(root_holder **holder);                   /* NULL inside is fine */
const char *root_holder_assurance(const root_holder *holder);
const char *root_holder_note(const root_holder *holder);

/* The `file` holder: ROOT/root.<epoch>, 32 bytes, mode 0600. Creates the folder (0700) when create
 * is set. E_NOT_FOUND (no folder), E_PRECONDITION (open to other users, or in use by another
 * process). */
MUST_USE result root_file_open(root_holder **out, const char *dir, bool create);

/* The `pkcs11` holder: RK_e is an AES-256 key object on a token, sensitive and not extractable, labelled
 * "lethe root key <epoch>"; the token itself seals and opens, by AES-GCM. One data folder a token. At
 * most 2^32 seals an epoch (random 96-bit nonces). */
typedef struct {
    const char *module;                     /* path of the PKCS#11 library */
    const char *token;                      /* the token's label */
    const char *pin_file;                   /* mode 0600: the user PIN, one line; locked while open */
} root_pkcs11_options;
/* E_NOT_FOUND (no such module, token or PIN file), E_PRECONDITION (PIN wrong or locked, token not
 * initialised, mechanism missing, in use by another process): each says what to do. */
MUST_USE result root_pkcs11_open(root_holder **out, const root_pkcs11_options *options);

/* ---- the holder in a process of its own (lethe-keeper) -------------------------------------------- */
typedef struct {
    const char *program;                    /* NULL or "": lethe-keeper beside the running program */
    bool create;                            /* make the root folder */
    bool sandbox;                           /* the keeper gives up what it does not need */
    const char *root;                       /* `file`: the root folder */
    const char *module, *token, *pin_file;  /* `pkcs11`, when module is not NULL */
    const char *module_state;               /* folder that the module writes to; "": none */
} root_keeper_options;
typedef struct { int fd; pid_t pid; } root_keeper_process;      /* fd is not inherited over exec */

/* Starts the keeper; it opens its holder meanwhile. It ends with the thread that called this. */
MUST_USE result root_keeper_spawn(const root_keeper_options *options, root_keeper_process *out);
/* Waits for its hello: what opening the holder in there gave. Takes over the process, on failure too:
 * closing the holder ends it. Once it is gone every verb is E_UNAVAILABLE. */
MUST_USE result root_keeper_open(root_holder **out, const root_keeper_process *process);

#endif
