/* The holders of the root key: one table of cases over each of them, the key tree's erasure over each
 * with a crash before the commit point, and what a token says when it is not as it should be.
 * The token is SoftHSM's; without it its cases are skipped. */
#include "holder.h"
#include "holder/keeper.h"
#include "holder/keeper_wire.h"
#include "keytree.h"
#include "test.h"

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const MODULES[] = {"/usr/lib/softhsm/libsofthsm2.so",
                                      "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"};
static char base[256], root[320], tree[320], pin[320];
static const char *module;

typedef struct { const char *name, *assurance; bool token, keeper; } kind;
static const kind KINDS[] = {{"file", "file", false, false}, {"pkcs11", "hsm", true, false},
                             {"keeper, file", "file", false, true}, {"keeper, pkcs11", "hsm", true, true}};
static const kind *now;
static pid_t keeper_pid;

static result open_token(root_holder **out, const char *library, const char *token, const char *pin_file)
{
    const root_pkcs11_options options = {.module = library, .token = token, .pin_file = pin_file};
    char state[400];
    snprintf(state, sizeof state, "%s/tokens", base);
    const root_keeper_options keeper = {.program = LETHE_KEEPER, .sandbox = true, .module = library,
                                        .token = token, .pin_file = pin_file, .module_state = state};
    root_keeper_process process;
    *out = NULL;
    if (!now->keeper) return root_pkcs11_open(out, &options);
    TRY(root_keeper_spawn(&keeper, &process));
    keeper_pid = process.pid;
    return root_keeper_open(out, &process);
}

static result open_now(root_holder **out)
{
    const root_keeper_options options = {.program = LETHE_KEEPER, .create = true, .sandbox = true, .root = root};
    root_keeper_process process;
    *out = NULL;
    if (now->token) return open_token(out, module, "lethe", pin);
    if (!now->keeper) return root_file_open(out, root, true);
    TRY(root_keeper_spawn(&options, &process));
    keeper_pid = process.pid;
    return root_keeper_open(out, &process);
}

static bool text_write(const char *path, const char *text, unsigned mode)
{
    result r = file_write_atomic(path, bytes_str(text), mode);
    return is_ok(r);
}

/* A fresh place and a fresh token. */
static void place_new(void)
{
    char path[400], text[600], command[600];
    test_tmpdir(base);
    snprintf(root, sizeof root, "%s/root", base);
    snprintf(tree, sizeof tree, "%s/keytree", base);
    snprintf(pin, sizeof pin, "%s/pin", base);
    if (!now->token) return;
    snprintf(path, sizeof path, "%s/tokens", base);
    CHECK(mkdir(path, 0700) == 0);
    snprintf(text, sizeof text, "directories.tokendir = %s\nlog.level = ERROR\n", path);
    snprintf(path, sizeof path, "%s/softhsm2.conf", base);
    CHECK(text_write(path, text, 0600) && text_write(pin, "1234\n", 0600));
    setenv("SOFTHSM2_CONF", path, 1);
    snprintf(command, sizeof command, "softhsm2-util --init-token --free --label lethe --pin 1234 --so-pin 12345678"
             " >'%s/out' 2>&1", base);
    CHECK(system(command) == 0);
}

static void place_end(void) { test_tmpdir_remove(base); }

static result seal_text(root_holder *h, uint64_t epoch, const char *ad, const char *text, buf *out)
{
    buf_init(out, ROOT_SEALED_MAX_BYTES);
    return root_seal(h, epoch, bytes_str(ad), bytes_str(text), out);
}

static result open_text(root_holder *h, uint64_t epoch, const char *ad, bytes sealed, const char *wanted)
{
    buf out;
    buf_init(&out, ROOT_PLAIN_MAX_BYTES);
    result r = root_open(h, epoch, bytes_str(ad), sealed, &out);
    if (is_ok(r) && !bytes_equal(buf_bytes(&out), bytes_str(wanted))) r = fail(E_INTERNAL, "another text");
    if (!is_ok(r) && out.size > 0) r = fail(E_INTERNAL, "a failed opening gives nothing");
    buf_free(&out);
    return r;
}

/* ---- the table ---- */
static void seals_and_opens(void)
{
    root_holder *h = NULL;
    CHECK_OK(open_now(&h));
    NEED(h != NULL);
    CHECK(strcmp(root_holder_assurance(h), now->assurance) == 0 && root_holder_note(h)[0] != 0);
    buf a, b, big;
    CHECK_FAILS(seal_text(h, 1, "ad", "text", &a), E_NOT_FOUND);
    CHECK_OK(root_create(h, 1));
    CHECK_FAILS(root_create(h, 1), E_EXISTS);
    CHECK_OK(seal_text(h, 1, "ad", "text", &a));
    CHECK_OK(seal_text(h, 1, "ad", "text", &b));
    CHECK(!bytes_equal(buf_bytes(&a), buf_bytes(&b)));
    CHECK_OK(open_text(h, 1, "ad", buf_bytes(&a), "text"));
    CHECK_OK(open_text(h, 1, "ad", buf_bytes(&b), "text"));
    CHECK_FAILS(open_text(h, 1, "da", buf_bytes(&a), "text"), E_DATA_LOSS);
    CHECK_FAILS(open_text(h, 2, "ad", buf_bytes(&a), "text"), E_NOT_FOUND);
    for (size_t i = 0; i < a.size; i++) {
        a.data[i] ^= 1;
        CHECK_FAILS(open_text(h, 1, "ad", buf_bytes(&a), "text"), E_DATA_LOSS);
        a.data[i] ^= 1;
    }
    for (size_t n = 0; n < a.size; n += 5)
        CHECK_FAILS(open_text(h, 1, "ad", bytes_of(a.data, n), "text"), E_DATA_LOSS);
    uint8_t block[ROOT_SEALED_MAX_BYTES + 1] = {0}, ad[ROOT_ASSOCIATED_MAX_BYTES + 1] = {0};
    buf_init(&big, ROOT_SEALED_MAX_BYTES);
    CHECK_FAILS(root_seal(h, 1, bytes_str(""), bytes_of(block, ROOT_PLAIN_MAX_BYTES + 1), &big), E_INVALID);
    CHECK_FAILS(root_seal(h, 1, bytes_of(ad, sizeof ad), bytes_str(""), &big), E_INVALID);
    CHECK_FAILS(root_open(h, 1, bytes_str(""), bytes_of(block, sizeof block), &big), E_INVALID);
    CHECK_OK(root_seal(h, 1, bytes_of(ad, ROOT_ASSOCIATED_MAX_BYTES), bytes_of(block, ROOT_PLAIN_MAX_BYTES), &big));
    root_holder_close(&h);
    CHECK_OK(open_now(&h));
    NEED(h != NULL);
    CHECK_OK(open_text(h, 1, "ad", buf_bytes(&b), "text"));
    buf_free(&a);
    buf_free(&b);
    buf_free(&big);
    root_holder_close(&h);
}

static void destroys_for_good(void)
{
    root_holder *h = NULL;
    uint64_t epochs[4];
    size_t count = 9;
    CHECK_OK(open_now(&h));
    NEED(h != NULL);
    CHECK_OK(root_epochs(h, epochs, 4, &count));
    CHECK(count == 0);
    static const uint64_t MADE[] = {3, 1, 256, 2};
    for (size_t i = 0; i < 4; i++) CHECK_OK(root_create(h, MADE[i]));
    CHECK_OK(root_epochs(h, epochs, 4, &count));
    CHECK(count == 4 && epochs[0] == 1 && epochs[1] == 2 && epochs[2] == 3 && epochs[3] == 256);
    CHECK_OK(root_epochs(h, epochs, 2, &count));
    CHECK(count == 2 && epochs[0] == 1 && epochs[1] == 2);
    buf a, b;
    CHECK_OK(seal_text(h, 1, "", "one", &a));
    CHECK_OK(seal_text(h, 2, "", "two", &b));
    CHECK_OK(root_destroy(h, 1));
    CHECK_FAILS(open_text(h, 1, "", buf_bytes(&a), "one"), E_NOT_FOUND);
    CHECK_OK(root_destroy(h, 1));
    CHECK_OK(open_text(h, 2, "", buf_bytes(&b), "two"));
    CHECK_FAILS(open_text(h, 2, "", buf_bytes(&a), "one"), E_DATA_LOSS);
    CHECK_OK(root_create(h, 1));                             /* the same number, another key */
    CHECK_FAILS(open_text(h, 1, "", buf_bytes(&a), "one"), E_DATA_LOSS);
    buf_free(&a);
    buf_free(&b);
    root_holder_close(&h);
}

static void one_process_at_a_time(void)
{
    root_holder *h = NULL, *second = NULL;
    CHECK_OK(open_now(&h));
    NEED(h != NULL);
    CHECK_FAILS(open_now(&second), E_PRECONDITION);
    root_holder_close(&h);
    CHECK_OK(open_now(&second));
    root_holder_close(&second);
}

static id128 id_of(uint8_t n) { return (id128){{n, 1, 2, 3}}; }

static void die_at(void *ctx, int step, const char *what)
{
    (void)what;
    if (step == *(const int *)ctx) kill(getpid(), SIGKILL);
}

static result erase_one(keytree *kt, keytree_step_fn *on_step, int *step)
{
    keytree_erasure out;
    keytree_node target = keytree_tenant(id_of(1));
    return keytree_erase(kt, &target, 1, on_step, step, &out);
}

/* Killed between the new key and the old one's end: the next start has one key, and it fits the tree. */
static void crash_between_create_and_destroy(void)
{
    for (int step = 4; step <= 6; step++) {
        pid_t child = fork();
        if (child == 0) {
            root_holder *h = NULL;
            keytree *kt = NULL;
            keytree_node nodes[] = {keytree_tenant(id_of(1)), keytree_tenant(id_of(2))};
            result r = open_now(&h);
            if (is_ok(r)) r = step == 4 ? keytree_create(&kt, tree, NULL, h) : keytree_open(&kt, tree, NULL, h);
            if (is_ok(r)) r = keytree_add(kt, nodes, 2);
            if (is_ok(r)) r = erase_one(kt, die_at, &step);
            printf("# child: %s\n", r.message);
            _exit(1);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        root_holder *h = NULL;
        keytree *kt = NULL;
        uint64_t epochs[4], expected = step == 4 ? 1 : step == 5 ? 2 : 4;
        size_t count;
        uint8_t secret[KEY_BYTES];
        CHECK_OK(open_now(&h));
        NEED(h != NULL);
        CHECK_OK(root_epochs(h, epochs, 4, &count));
        CHECK(count == (step < 6 ? 2u : 1u));                /* the control: there was something to settle */
        CHECK_OK(keytree_open(&kt, tree, NULL, h));
        NEED(kt != NULL);
        CHECK(keytree_epoch(kt) == expected);
        CHECK_OK(root_epochs(h, epochs, 4, &count));
        CHECK(count == 1 && epochs[0] == expected);
        CHECK((keytree_secret(kt, keytree_tenant(id_of(1)), secret).code == E_OK) == (step < 6));
        CHECK_OK(erase_one(kt, NULL, NULL));
        CHECK_FAILS(keytree_secret(kt, keytree_tenant(id_of(1)), secret), E_NOT_FOUND);
        CHECK_OK(keytree_secret(kt, keytree_tenant(id_of(2)), secret));
        CHECK_OK(root_epochs(h, epochs, 4, &count));
        CHECK(count == 1 && epochs[0] == expected + 1);
        keytree_close(&kt);
        root_holder_close(&h);
    }
}

/* ---- tokens only ---- */
/* The control: a public attribute of the same object is told, so that the question is well put. */
static void token_does_not_tell_its_key(void)
{
    root_holder *h = NULL;
    CHECK_OK(open_now(&h));
    NEED(h != NULL);
    CHECK_OK(root_create(h, 7));
    void *library = dlopen(module, RTLD_NOW | RTLD_LOCAL);
    NEED(library != NULL);
    CK_RV (*list)(CK_FUNCTION_LIST **) = NULL;
    CK_FUNCTION_LIST *f = NULL;
    *(void **)(void *)&list = dlsym(library, "C_GetFunctionList");
    CHECK(list(&f) == CKR_OK);
    CK_SLOT_ID slots[8];
    CK_ULONG count = 8, found = 0;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE key;
    CHECK(f->C_GetSlotList(CK_TRUE, slots, &count) == CKR_OK);
    CHECK(f->C_OpenSession(slots[0], CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session) == CKR_OK);
    CK_ATTRIBUTE label = {CKA_LABEL, "lethe root key 7", 16};
    CHECK(f->C_FindObjectsInit(session, &label, 1) == CKR_OK);
    CHECK(f->C_FindObjects(session, &key, 1, &found) == CKR_OK && found == 1);
    f->C_FindObjectsFinal(session);
    uint8_t value[64];
    CK_ATTRIBUTE id = {CKA_ID, value, sizeof value}, secret = {CKA_VALUE, value, sizeof value};
    CHECK(f->C_GetAttributeValue(session, key, &id, 1) == CKR_OK && id.ulValueLen == 13);
    CHECK(f->C_GetAttributeValue(session, key, &secret, 1) == CKR_ATTRIBUTE_SENSITIVE);
    CK_BBOOL no = CK_FALSE, yes = CK_TRUE;
    CK_ATTRIBUTE weaken[] = {{CKA_SENSITIVE, &no, 1}, {CKA_EXTRACTABLE, &yes, 1}};
    CHECK(f->C_SetAttributeValue(session, key, &weaken[0], 1) != CKR_OK);
    CHECK(f->C_SetAttributeValue(session, key, &weaken[1], 1) != CKR_OK);
    f->C_CloseSession(session);
    dlclose(library);
    root_holder_close(&h);
}

static void says_what_to_do(void)
{
    char other[400];
    snprintf(other, sizeof other, "%s/other", base);
    const struct { const char *module, *token, *pin; unsigned mode; error_code code; const char *word; } bad[] = {
        {module, "lethe", "9999\n", 0600, E_PRECONDITION, "correct pkcs11_pin_file"},
        {module, "lethe", "\n", 0600, E_PRECONDITION, "empty"},
        {module, "lethe", "1234\n", 0644, E_PRECONDITION, "chmod 600"},
        {module, "lethe", NULL, 0, E_NOT_FOUND, "pkcs11_pin_file"},
        {module, "elsewhere", "1234\n", 0600, E_NOT_FOUND, "softhsm2-util --init-token"},
        {module, "", "1234\n", 0600, E_INVALID, "pkcs11_token"},
        {module, "a label of more than thirty-two bytes", "1234\n", 0600, E_INVALID, "32"},
        {"/nonexistent/module.so", "lethe", "1234\n", 0600, E_NOT_FOUND, "no library"},
        {pin, "lethe", "1234\n", 0600, E_PRECONDITION, "cannot be loaded"},
        {"/lib/x86_64-linux-gnu/libm.so.6", "lethe", "1234\n", 0600, E_PRECONDITION, "not a PKCS#11 module"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        root_holder *h = NULL;
        (void)unlink(other);
        if (bad[i].pin != NULL) CHECK(text_write(other, bad[i].pin, bad[i].mode));
        result r = open_token(&h, bad[i].module, bad[i].token, other);
        CHECK(r.code == bad[i].code && strstr(r.message, bad[i].word) != NULL && h == NULL);
        if (r.code != bad[i].code || strstr(r.message, bad[i].word) == NULL)
            printf("# case %zu: %s %s\n", i, error_code_name(r.code), r.message);
    }
    root_holder *h = NULL;
    CHECK_OK(open_now(&h));                                 /* nothing of that did harm */
    root_holder_close(&h);
    char path[400];
    snprintf(path, sizeof path, "%s/missing.conf", base);
    setenv("SOFTHSM2_CONF", path, 1);
    result r = open_now(&h);
    CHECK(!is_ok(r) && h == NULL);
}

/* ---- keepers only ---- */
/* It is another process, and nothing takes its place. */
static void keeper_that_dies(void)
{
    root_holder *h = NULL;
    uint64_t epochs[4];
    size_t count;
    CHECK_OK(open_now(&h));
    NEED(h != NULL);
    CHECK_OK(root_create(h, 1));
    CHECK(keeper_pid != getpid() && kill(keeper_pid, SIGKILL) == 0);
    CHECK_FAILS(root_epochs(h, epochs, 4, &count), E_UNAVAILABLE);
    CHECK_FAILS(root_create(h, 2), E_UNAVAILABLE);
    CHECK_FAILS(root_destroy(h, 1), E_UNAVAILABLE);
    root_holder_close(&h);
    CHECK_OK(open_now(&h));
    NEED(h != NULL);
    CHECK_OK(root_epochs(h, epochs, 4, &count));
    CHECK(count == 1 && epochs[0] == 1);
    root_holder_close(&h);
    CHECK(kill(keeper_pid, 0) != 0);                         /* closing ends it */
}

/* What the other side may not say: nothing of it is done, and it is not asked again. */
static void malformed_messages(void)
{
    static const char *const REQUESTS[] = {
        "", "00", "4b5351310100000000000000000000",                               /* HELLO is not for the server */
        "4b53513102" "0000000000000000" "00000000",                               /* CREATE of epoch 0 */
        "4b53513102" "0100000000000000" "00000100" "aa",                          /* CREATE with a body */
        "4b53513103" "0100000000000000" "00000200" "aa",                          /* SEAL, cut off */
        "4b53513103" "0100000000000000" "00000100" "aabb",                        /* SEAL, too much */
        "4b53513106" "0100000000000000" "00000000", "4b53513109" "0000000000000000" "00000000",
    };
    for (size_t i = 0; i < sizeof REQUESTS / sizeof *REQUESTS; i++) {
        uint8_t bytes_[64], answer[64];
        size_t n = strlen(REQUESTS[i]) / 2;
        int pair[2];
        root_holder *h = NULL;
        CHECK(hex_decode(REQUESTS[i], 2 * n, bytes_));
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
        CHECK_OK(root_file_open(&h, root, true));
        NEED(h != NULL);
        CHECK(n == 0 || send(pair[0], bytes_, n, 0) == (ssize_t)n);
        if (n == 0) shutdown(pair[0], SHUT_WR);
        CHECK(keeper_serve(pair[1], h, OK).code == (n == 0 ? E_OK : E_DATA_LOSS));
        CHECK(recv(pair[0], answer, sizeof answer, MSG_DONTWAIT) > 0);           /* hello */
        CHECK(recv(pair[0], answer, sizeof answer, MSG_DONTWAIT) < 0);
        close(pair[0]);
        close(pair[1]);
        root_holder_close(&h);
    }
    static const char *const REPLIES[] = {
        "4b5250310100" "0500" "0466696c65", NULL, "4b52503102000000", "4b5250310600" "0700" "01020304050607",
        "4b5250310600" "0000" "00", "4b52503106" "0a" "0000", "0000", "4b5250310600" "8800",
    };
    for (size_t i = 1; i < sizeof REPLIES / sizeof *REPLIES; i++) {
        uint8_t said[64];
        uint64_t epochs[4];
        size_t count;
        int pair[2];
        root_holder *h = NULL;
        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
        for (size_t k = 0; k <= i; k += i) {
            size_t n = REPLIES[k] ? strlen(REPLIES[k]) / 2 : 0;
            CHECK(n == 0 || (hex_decode(REPLIES[k], 2 * n, said) && send(pair[1], said, n, 0) == (ssize_t)n));
        }
        shutdown(pair[1], SHUT_WR);
        const root_keeper_process process = {.fd = pair[0]};
        CHECK_OK(root_keeper_open(&h, &process));
        NEED(h != NULL);
        CHECK_FAILS(root_epochs(h, epochs, 4, &count), E_UNAVAILABLE);
        CHECK_FAILS(root_epochs(h, epochs, 4, &count), E_UNAVAILABLE);
        root_holder_close(&h);
        close(pair[1]);
    }
}

typedef enum { EACH, TOKENS, TOKEN_HERE, KEEPERS, KEEPER_FILE } whom;
typedef struct { const char *name; void (*run)(void); whom whom; } holder_case;

static bool concerns(whom w)
{
    return w == EACH || (w == TOKENS && now->token) || (w == TOKEN_HERE && now->token && !now->keeper) ||
           (w == KEEPERS && now->keeper) || (w == KEEPER_FILE && now->keeper && !now->token);
}

static const holder_case CASES[] = {
    {"seals and opens", seals_and_opens, EACH}, {"destroys for good", destroys_for_good, EACH},
    {"one process at a time", one_process_at_a_time, EACH},
    {"a crash between the new key and the old one's end", crash_between_create_and_destroy, EACH},
    {"the key is not told", token_does_not_tell_its_key, TOKEN_HERE},
    {"errors say what to do", says_what_to_do, TOKENS}, {"a keeper that dies", keeper_that_dies, KEEPERS},
    {"malformed messages", malformed_messages, KEEPER_FILE},
};

int main(void)
{
    for (size_t i = 0; i < 2 && module == NULL; i++)
        if (access(MODULES[i], R_OK) == 0) module = MODULES[i];
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++)
        for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
            now = &KINDS[k];
            bool skip = now->token && module == NULL;
            if (!concerns(CASES[i].whom)) continue;
            test_case_failed_ = 0;
            if (!skip) place_new();
            if (!skip && !test_case_failed_) CASES[i].run();
            if (!skip) place_end();
            test_failed_ += test_case_failed_;
            printf("%s %d - %s: %s%s\n", test_case_failed_ ? "not ok" : "ok", ++test_count_, now->name,
                   CASES[i].name, skip ? " # SKIP no softhsm2 here" : "");
            fflush(stdout);
        }
    return DONE();
}
