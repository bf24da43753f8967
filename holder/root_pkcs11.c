/* root_pkcs11: the root holder that keeps the root key on a PKCS#11 token (v2.40), which alone sees it.
 *
 *   sealed   u8 version 1 | nonce (12) | AES-256-GCM ciphertext and tag (16), made on the token
 *   object   CKA_ID = "lethe" | epoch, 8 bytes big-endian: what the holder goes by; the label is for people
 *
 * Destroying is C_DestroyObject, and then no object of that epoch must be found. What the token itself
 * keeps of a destroyed object is the token's affair. */
#include "holder.h"

#include "holder_lock.h"
#include "mutant.h"

#include <assert.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SLOTS_MAX = 64, PIN_MAX_BYTES = 256, NONCE_BYTES = 12, TAG_BYTES = 16, VERSION = 1,
       OVERHEAD_BYTES = 1 + NONCE_BYTES + TAG_BYTES, MATCHES_MAX = 2, OBJECTS_MAX = 256,
       OBJECT_ID_BYTES = 13 };
static_assert(ROOT_PLAIN_MAX_BYTES + OVERHEAD_BYTES <= ROOT_SEALED_MAX_BYTES, "a sealed value fits");

static const char NOTE[] =
    "root key on a PKCS#11 token, sensitive and not extractable; destroyed there, and found gone";
static const char ID_PREFIX[] = "lethe";
static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
static CK_OBJECT_CLASS secret_key = CKO_SECRET_KEY;
static CK_KEY_TYPE aes = CKK_AES;

typedef struct {
    root_holder head;
    void *library;
    CK_FUNCTION_LIST *f;                    /* NULL: not initialised by us */
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE session;              /* 0: none */
    char *pin_path, token[33];
    int pin_fd;                             /* locked */
    bool pin_refused;                       /* not tried again: some wrong ones lock a token */
} token_holder;

static token_holder *self(root_holder *h) { return (token_holder *)h; }

/* ---- what a module answers, in words ---- */
static result refused(const char *what, CK_RV rv)
{
    switch (rv) {
    case CKR_PIN_INCORRECT: case CKR_PIN_LEN_RANGE: case CKR_PIN_INVALID:
        return fail(E_PRECONDITION, "the token refuses the PIN: correct pkcs11_pin_file (a few wrong ones lock "
                    "the token)");
    case CKR_PIN_LOCKED:
        return fail(E_PRECONDITION, "the token's PIN is locked: set a new one as its security officer");
    case CKR_PIN_EXPIRED: return fail(E_PRECONDITION, "the token's PIN has expired: set a new one");
    case CKR_USER_PIN_NOT_INITIALIZED:
        return fail(E_PRECONDITION, "the token has no user PIN yet: set one as its security officer");
    case CKR_TOKEN_WRITE_PROTECTED: case CKR_ACTION_PROHIBITED:
        return fail(E_PRECONDITION, "the token does not allow that: %s (0x%lx)", what, rv);
    case CKR_DEVICE_MEMORY:
        return fail(E_UNAVAILABLE, "the token is full: %s", what);
    case CKR_DEVICE_REMOVED: case CKR_TOKEN_NOT_PRESENT:
        return fail(E_UNAVAILABLE, "the token is not there any more: plug it in, or start its service");
    default: return fail(E_UNAVAILABLE, "the token failed: %s (PKCS#11 error 0x%lx)", what, rv);
    }
}

/* ---- login ---- */
static result pin_read(const char *path, uint8_t pin[PIN_MAX_BYTES], size_t *size)
{
    buf content;
    struct stat st;
    if (stat(path, &st) != 0) return fail(E_NOT_FOUND, "pkcs11_pin_file: there is no file %s", path);
    if ((st.st_mode & 077) != 0)
        return fail(E_PRECONDITION, "%s is open to other users; run: chmod 600 %s", path, path);
    buf_init(&content, PIN_MAX_BYTES);
    result r = file_read(path, PIN_MAX_BYTES, &content);
    if (is_ok(r)) {
        const uint8_t *end = content.size ? memchr(content.data, '\n', content.size) : NULL;
        *size = end != NULL ? (size_t)(end - content.data) : content.size;
        if (*size == 0) r = fail(E_PRECONDITION, "pkcs11_pin_file: its first line is empty");
        else memcpy(pin, content.data, *size);
    }
    buf_free(&content);
    return r;
}

static result login(token_holder *t)
{
    uint8_t *pin = secure_alloc(PIN_MAX_BYTES);
    size_t size = 0;
    CK_RV rv = CKR_OK;
    result r = t->pin_refused ? refused("login", CKR_PIN_INCORRECT) : pin_read(t->pin_path, pin, &size);
    if (!is_ok(r)) goto out;
    rv = t->f->C_OpenSession(t->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &t->session);
    if (rv != CKR_OK) {
        t->session = 0;
        r = refused("a session", rv);
        goto out;
    }
    rv = t->f->C_Login(t->session, CKU_USER, pin, size);
    t->pin_refused = rv == CKR_PIN_INCORRECT;
    if (rv != CKR_OK && rv != CKR_USER_ALREADY_LOGGED_IN) r = refused("login", rv);
out:
    secure_free(pin);
    return r;
}

/* A token that went and came back has forgotten the session. */
static result ready(token_holder *t)
{
    CK_SESSION_INFO info;
    if (t->session != 0 && t->f->C_GetSessionInfo(t->session, &info) == CKR_OK &&
        info.state == CKS_RW_USER_FUNCTIONS) return OK;
    if (t->session != 0) t->f->C_CloseSession(t->session);
    t->session = 0;
    return login(t);
}

/* ---- objects ---- */
static void object_id(uint64_t epoch, uint8_t id[OBJECT_ID_BYTES])
{
    memcpy(id, ID_PREFIX, 5);
    for (int i = 0; i < 8; i++) id[5 + i] = (uint8_t)(epoch >> (56 - 8 * i));
}

static result find(token_holder *t, CK_ATTRIBUTE *wanted, size_t wanted_count, CK_OBJECT_HANDLE *out,
                   size_t max, size_t *count)
{
    CK_ULONG found = 0;
    TRY(ready(t));
    CK_RV rv = t->f->C_FindObjectsInit(t->session, wanted, wanted_count);
    if (rv != CKR_OK) return refused("finding keys", rv);
    for (*count = 0; *count < max; *count += found) {
        found = 0;
        rv = t->f->C_FindObjects(t->session, out + *count, max - *count, &found);
        if (rv != CKR_OK || found == 0) break;
    }
    t->f->C_FindObjectsFinal(t->session);
    return rv == CKR_OK ? OK : refused("finding keys", rv);
}

static result find_epoch(token_holder *t, uint64_t epoch, CK_OBJECT_HANDLE out[MATCHES_MAX], size_t *count)
{
    uint8_t id[OBJECT_ID_BYTES];
    object_id(epoch, id);
    CK_ATTRIBUTE wanted[] = {{CKA_CLASS, &secret_key, sizeof secret_key}, {CKA_TOKEN, &yes, sizeof yes},
                             {CKA_ID, id, sizeof id}};
    return find(t, wanted, 3, out, MATCHES_MAX, count);
}

static result key_of(token_holder *t, uint64_t epoch, CK_OBJECT_HANDLE *out)
{
    CK_OBJECT_HANDLE found[MATCHES_MAX];
    size_t count;
    TRY(find_epoch(t, epoch, found, &count));
    if (count == 0) return fail(E_NOT_FOUND, "the token has no root key of that epoch");
    if (count > 1)
        return fail(E_PRECONDITION, "the token has several root keys of epoch %" PRIu64 ": do two data folders "
                    "share it?", epoch);
    *out = found[0];
    return OK;
}

/* What the token says of the key, and that it does not tell it. */
static result key_is_held(token_holder *t, CK_OBJECT_HANDLE key)
{
    CK_BBOOL sensitive = CK_FALSE, extractable = CK_TRUE;
    uint8_t value[KEY_BYTES];
    CK_ATTRIBUTE says[] = {{CKA_SENSITIVE, &sensitive, sizeof sensitive},
                           {CKA_EXTRACTABLE, &extractable, sizeof extractable}};
    CK_ATTRIBUTE told = {CKA_VALUE, value, sizeof value};
    CK_RV rv = t->f->C_GetAttributeValue(t->session, key, says, 2);
    bool tells = t->f->C_GetAttributeValue(t->session, key, &told, 1) == CKR_OK;
    mem_wipe(value, sizeof value);
    if (MUTANT(token_key_readable)) return OK;
    if (rv != CKR_OK || sensitive != CK_TRUE || extractable != CK_FALSE || tells)
        return fail(E_PRECONDITION, "the token would tell its keys: take one that keeps sensitive keys");
    return OK;
}

static result t_create(root_holder *h, uint64_t epoch)
{
    token_holder *t = self(h);
    CK_OBJECT_HANDLE key, found[MATCHES_MAX];
    size_t count;
    uint8_t id[OBJECT_ID_BYTES];
    char label[48];
    CK_ULONG size = KEY_BYTES;
    TRY(find_epoch(t, epoch, found, &count));
    if (count > 0) return fail(E_EXISTS, "there is a root key of that epoch");
    object_id(epoch, id);
    int n = snprintf(label, sizeof label, "lethe root key %" PRIu64, epoch);
    CK_BBOOL *sensitive = MUTANT(token_key_readable) ? &no : &yes;
    CK_BBOOL *extractable = MUTANT(token_key_readable) ? &yes : &no;
    CK_ATTRIBUTE wanted[] = {
        {CKA_CLASS, &secret_key, sizeof secret_key}, {CKA_KEY_TYPE, &aes, sizeof aes},
        {CKA_VALUE_LEN, &size, sizeof size}, {CKA_TOKEN, &yes, sizeof yes}, {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, sensitive, sizeof yes}, {CKA_EXTRACTABLE, extractable, sizeof no},
        {CKA_MODIFIABLE, &no, sizeof no}, {CKA_ENCRYPT, &yes, sizeof yes}, {CKA_DECRYPT, &yes, sizeof yes},
        {CKA_WRAP, &no, sizeof no}, {CKA_UNWRAP, &no, sizeof no}, {CKA_SIGN, &no, sizeof no},
        {CKA_VERIFY, &no, sizeof no}, {CKA_DERIVE, &no, sizeof no}, {CKA_ID, id, sizeof id},
        {CKA_LABEL, label, (CK_ULONG)n},
    };
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_RV rv = t->f->C_GenerateKey(t->session, &mechanism, wanted, sizeof wanted / sizeof *wanted, &key);
    if (rv != CKR_OK) return refused("making a key", rv);
    result r = key_is_held(t, key);
    if (!is_ok(r)) (void)t->f->C_DestroyObject(t->session, key);
    return r;
}

/* ---- sealing ---- */
static CK_MECHANISM gcm(CK_GCM_PARAMS *params, uint8_t nonce[NONCE_BYTES], bytes associated)
{
    *params = (CK_GCM_PARAMS){nonce, NONCE_BYTES, NONCE_BYTES * 8, (uint8_t *)associated.data, associated.size,
                              TAG_BYTES * 8};
    return (CK_MECHANISM){CKM_AES_GCM, params, sizeof *params};
}

static result seal_with(token_holder *t, CK_OBJECT_HANDLE key, bytes associated, bytes plain, buf *out)
{
    uint8_t sealed[ROOT_SEALED_MAX_BYTES], nonce[NONCE_BYTES];
    CK_GCM_PARAMS params;
    CK_ULONG size = sizeof sealed;
    random_bytes(nonce, sizeof nonce);
    CK_MECHANISM mechanism = gcm(&params, nonce, associated);
    CK_RV rv = t->f->C_EncryptInit(t->session, &mechanism, key);
    if (rv == CKR_OK) rv = t->f->C_Encrypt(t->session, (uint8_t *)plain.data, plain.size, sealed, &size);
    if (rv != CKR_OK) return refused("sealing", rv);
    if (size != plain.size + TAG_BYTES)
        return fail(E_PRECONDITION, "the token's AES-GCM gives sealed values of another size");
    buf_append_u8(out, VERSION);
    buf_append(out, nonce, sizeof nonce);
    buf_append(out, sealed, size);
    return buf_check(out);
}

static CK_RV open_with(token_holder *t, CK_OBJECT_HANDLE key, bytes associated, bytes sealed, buf *out)
{
    uint8_t plain[ROOT_SEALED_MAX_BYTES], nonce[NONCE_BYTES];
    CK_GCM_PARAMS params;
    CK_ULONG size = sizeof plain;
    memcpy(nonce, sealed.data + 1, sizeof nonce);
    CK_MECHANISM mechanism = gcm(&params, nonce, associated);
    const uint8_t *body = sealed.data + 1 + NONCE_BYTES;
    CK_RV rv = t->f->C_DecryptInit(t->session, &mechanism, key);
    if (rv == CKR_OK)
        rv = t->f->C_Decrypt(t->session, (uint8_t *)body, sealed.size - 1 - NONCE_BYTES, plain, &size);
    if (rv == CKR_OK) buf_append(out, plain, size);
    mem_wipe(plain, sizeof plain);
    return rv;
}

static result t_seal(root_holder *h, uint64_t epoch, bytes associated, bytes plain, buf *out)
{
    CK_OBJECT_HANDLE key;
    if (plain.size > ROOT_PLAIN_MAX_BYTES || associated.size > ROOT_ASSOCIATED_MAX_BYTES)
        return fail(E_INVALID, "too long for the root key to seal");
    TRY(key_of(self(h), epoch, &key));
    return seal_with(self(h), key, associated, plain, out);
}

/* Modules do not agree on what a wrong tag is called, and "not authentic" counts as proof that a key is
 * gone: it is said only of a key that opens what it has just sealed. */
static result t_open(root_holder *h, uint64_t epoch, bytes associated, bytes sealed, buf *out)
{
    static const char WORD[] = "lethe root probe";
    token_holder *t = self(h);
    CK_OBJECT_HANDLE key;
    buf probe, opened;
    if (sealed.size > ROOT_SEALED_MAX_BYTES || associated.size > ROOT_ASSOCIATED_MAX_BYTES)
        return fail(E_INVALID, "too long for the root key to open");
    TRY(key_of(t, epoch, &key));
    if (sealed.size < OVERHEAD_BYTES || sealed.data[0] != VERSION)
        return fail(E_DATA_LOSS, "a sealed value is not one of this holder");
    CK_RV rv = open_with(t, key, associated, sealed, out);
    if (rv == CKR_OK) return buf_check(out);
    buf_init(&probe, ROOT_SEALED_MAX_BYTES);
    buf_init(&opened, ROOT_SEALED_MAX_BYTES);
    result r = ready(t);
    if (is_ok(r)) r = seal_with(t, key, associated, bytes_str(WORD), &probe);
    if (is_ok(r) && open_with(t, key, associated, buf_bytes(&probe), &opened) == CKR_OK &&
        bytes_equal(buf_bytes(&opened), bytes_str(WORD)))
        r = fail(E_DATA_LOSS, "a sealed value is not authentic");
    else if (is_ok(r))
        r = refused("opening", rv);
    buf_free(&probe);
    buf_free(&opened);
    return r;
}

/* ---- destroying, listing ---- */
static result t_destroy(root_holder *h, uint64_t epoch)
{
    token_holder *t = self(h);
    CK_OBJECT_HANDLE found[MATCHES_MAX];
    size_t count;
    if (MUTANT(token_keeps_key)) return OK;
    for (int round = 0; round < 4; round++) {
        TRY(find_epoch(t, epoch, found, &count));
        if (count == 0) return OK;
        for (size_t i = 0; i < count; i++) {
            CK_RV rv = t->f->C_DestroyObject(t->session, found[i]);
            if (rv != CKR_OK) return refused("destroying a key", rv);
        }
    }
    return fail(E_UNAVAILABLE, "the token still has a key that it said it destroyed");
}

static result t_epochs(root_holder *h, uint64_t *out, size_t max, size_t *count)
{
    token_holder *t = self(h);
    CK_OBJECT_HANDLE found[OBJECTS_MAX];
    size_t n;
    CK_ATTRIBUTE wanted[] = {{CKA_CLASS, &secret_key, sizeof secret_key}, {CKA_TOKEN, &yes, sizeof yes},
                             {CKA_KEY_TYPE, &aes, sizeof aes}};
    *count = 0;
    TRY(find(t, wanted, 3, found, OBJECTS_MAX, &n));
    if (n == OBJECTS_MAX)
        return fail(E_PRECONDITION, "the token has too many AES keys (%d or more): give Lethe its own",
                    OBJECTS_MAX);
    for (size_t i = 0; i < n; i++) {
        uint8_t id[OBJECT_ID_BYTES];
        uint64_t epoch = 0;
        CK_ATTRIBUTE asked = {CKA_ID, id, sizeof id};
        CK_RV rv = t->f->C_GetAttributeValue(t->session, found[i], &asked, 1);
        if (rv == CKR_BUFFER_TOO_SMALL) continue;                   /* another's, with a longer id */
        if (rv != CKR_OK) return refused("reading a key's id", rv);
        if (asked.ulValueLen != sizeof id || memcmp(id, ID_PREFIX, 5) != 0) continue;
        for (int b = 0; b < 8; b++) epoch = epoch << 8 | id[5 + b];
        numbers_keep(out, max, count, epoch);
    }
    return OK;
}

static void t_close(root_holder *h)
{
    token_holder *t = self(h);
    if (t->session != 0) {
        t->f->C_Logout(t->session);
        t->f->C_CloseSession(t->session);
    }
    if (t->f != NULL) t->f->C_Finalize(NULL);
    if (t->library != NULL) dlclose(t->library);
    if (t->pin_fd >= 0) close(t->pin_fd);
    mem_free(t->pin_path);
    mem_free(t);
}

static const root_holder_ops TOKEN_OPS = {t_create, t_seal, t_open, t_destroy, t_epochs, t_close};

/* ---- opening ---- */
static result module_load(token_holder *t, const char *path)
{
    CK_FUNCTION_LIST *f = NULL;
    if (access(path, R_OK) != 0) return fail(E_NOT_FOUND, "pkcs11_module: there is no library %s", path);
    t->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (t->library == NULL) return fail(E_PRECONDITION, "pkcs11_module: %.200s cannot be loaded", path);
    CK_RV (*list)(CK_FUNCTION_LIST **) = NULL;
    *(void **)(void *)&list = dlsym(t->library, "C_GetFunctionList");
    if (list == NULL || list(&f) != CKR_OK || f == NULL)
        return fail(E_PRECONDITION, "pkcs11_module: %.200s is not a PKCS#11 module", path);
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_RV rv = f->C_Initialize(&args);
    if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return fail(E_PRECONDITION, "pkcs11_module: in use already in this process");
    if (rv != CKR_OK)
        return fail(E_PRECONDITION, "pkcs11_module: %.200s does not start (PKCS#11 error 0x%lx): is its "
                    "configuration there and readable?", path, rv);
    t->f = f;
    return OK;
}

/* A label is 32 bytes padded with blanks. */
static bool labelled(const CK_TOKEN_INFO *info, const char *label)
{
    uint8_t padded[32];
    size_t n = strlen(label);
    memset(padded, ' ', sizeof padded);
    memcpy(padded, label, n < sizeof padded ? n : sizeof padded);
    return memcmp(padded, info->label, sizeof padded) == 0;
}

static result token_find(token_holder *t)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX, matches = 0;
    CK_TOKEN_INFO info;
    CK_RV rv = t->f->C_GetSlotList(CK_TRUE, slots, &count);
    if (rv != CKR_OK) return refused("listing the slots", rv);
    for (CK_ULONG i = 0; i < count; i++) {
        if (t->f->C_GetTokenInfo(slots[i], &info) != CKR_OK || !(info.flags & CKF_TOKEN_INITIALIZED) ||
            !labelled(&info, t->token)) continue;
        t->slot = slots[i];
        matches++;
    }
    if (matches == 0)
        return fail(E_NOT_FOUND, "pkcs11_token: none of the %lu tokens there is labelled '%s': initialise one "
                    "(softhsm2-util --init-token, pkcs11-tool --init-token), or correct the setting", count,
                    t->token);
    if (matches > 1) return fail(E_PRECONDITION, "pkcs11_token: %lu tokens are labelled '%s'", matches, t->token);
    return OK;
}

static result mechanism_ask(const token_holder *t, CK_MECHANISM_TYPE type, CK_FLAGS needed, const char *name)
{
    CK_MECHANISM_INFO info;
    if (t->f->C_GetMechanismInfo(t->slot, type, &info) != CKR_OK || (info.flags & needed) != needed)
        return fail(E_PRECONDITION, "the token '%s' has no %s: take another, or `root_holder = file`", t->token,
                    name);
    return OK;
}

/* The PIN file is what two processes of one configuration share. */
static result pin_lock(token_holder *t)
{
    t->pin_fd = open(t->pin_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (t->pin_fd < 0) return fail(E_NOT_FOUND, "pkcs11_pin_file: cannot open %s", t->pin_path);
    if (!holder_lock(t->pin_fd))
        return fail(E_PRECONDITION, "the token is in use by another process (it locks pkcs11_pin_file)");
    return OK;
}

static result token_open(token_holder *t, const char *module)
{
    TRY(pin_lock(t));
    TRY(module_load(t, module));
    TRY(token_find(t));
    TRY(mechanism_ask(t, CKM_AES_GCM, CKF_ENCRYPT | CKF_DECRYPT, "AES-GCM"));
    TRY(mechanism_ask(t, CKM_AES_KEY_GEN, CKF_GENERATE, "AES key generation"));
    return ready(t);
}

result root_pkcs11_open(root_holder **out, const root_pkcs11_options *options)
{
    *out = NULL;
    size_t n = strlen(options->token);
    if (options->module[0] == 0 || n == 0 || options->pin_file[0] == 0)
        return fail(E_INVALID, "the pkcs11 holder needs pkcs11_module, pkcs11_token and pkcs11_pin_file");
    if (n > 32 || !utf8_valid(bytes_str(options->token)))
        return fail(E_INVALID, "pkcs11_token: a label has at most 32 bytes of UTF-8");
    token_holder *t = mem_alloc(sizeof *t);
    t->head.ops = &TOKEN_OPS;
    snprintf(t->head.assurance, sizeof t->head.assurance, "hsm");
    snprintf(t->head.note, sizeof t->head.note, "%s", NOTE);
    memcpy(t->token, options->token, n);
    t->pin_path = mem_strdup(options->pin_file);
    t->pin_fd = -1;
    result r = token_open(t, options->module);
    if (is_ok(r)) *out = &t->head;
    else t_close(&t->head);
    return r;
}
