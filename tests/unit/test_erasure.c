/* Erasure as a whole, on a real house in a folder: killed at each step and opened again. Every act runs
 * in a process of its own, for a data folder is never carried over a fork. */
#include "server/erasure.h"
#include "server/house.h"
#include "server/receipt.h"
#include "server/service.h"

#include "lethe/v1/documents.pb-c.h"

#include "test.h"

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEAD_AT_STEP = 77, STEPS = 8, NAMES = 5 };

/* ---- the town: two tenants; who has which document ------------------------------------------------- */
typedef struct { id128 tenant, eves, ada, bob, oncall, eve, documents[NAMES]; } town;
static const char *const TEXTS[NAMES] = {
    "Ada keeps the brass key under the third step.", "Ada tells bob that the lock is on Rua do Sal.",
    "Bob hides the ledger behind the kiln.", "Bob tells ada that the kiln cools on Sundays.",
    "The rota of those on call begins in Porto."};
enum { ADAS, ADAS_SHARED, BOBS, BOBS_SHARED, GROUPS };
static const char EVES[] = "Eve counts the boats in the harbour.";

static char folder[256];
static config settings;
static town there;

static void settings_for(const char *name)
{
    char path[600];
    config_defaults(&settings);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ASSERT(is_ok(config_set(&settings, "keeper", LETHE_KEEPER)));
    ASSERT(is_ok(config_set(&settings, "data", path)) && is_ok(config_finish(&settings)));
    settings.log_level = 3;
    log_level_set(LOG_ERROR);
}

static result put(house *h, id128 tenant, id128 owner, const char *text, const id128 *friend, id128 *out)
{
    retrieval_input *input = mem_alloc(sizeof *input);
    retrieval_stored stored;
    const id128 readers[] = {owner, friend ? *friend : owner};
    *input = (retrieval_input){.path = "note.txt", .media_type = "", .content = bytes_str(text)};
    random_bytes(input->nonce, sizeof input->nonce);
    ifc_label_public(&input->label);
    result r = ifc_label_secrecy_add(&input->label, readers, friend ? 2 : 1);
    if (is_ok(r)) r = ifc_label_integrity_add(&input->label, &owner, 1);
    if (is_ok(r)) r = retrieval_put(h->stores, tenant, owner, input, 1, &stored);
    mem_free(input);
    TRY(r);
    if (stored.code != E_OK) return fail(stored.code, "%s", stored.reason);
    *out = stored.id;
    return friend ? acl_grant_add(h->access, tenant, (acl_grant){owner, stored.id, *friend}) : OK;
}

static void town_build(house *h)
{
    id128 admin, id;
    town *t = &there;
    CHECK_OK(acl_tenant_find(h->access, "main", &t->tenant));
    CHECK_OK(acl_tenant_add(h->access, "other", "eve", &t->eves, &t->eve));
    CHECK_OK(acl_find(h->access, t->tenant, "admin", &admin, NULL));
    CHECK_OK(acl_principal_add(h->access, t->tenant, ACL_USER, "ada", false, &t->ada));
    CHECK_OK(acl_principal_add(h->access, t->tenant, ACL_USER, "bob", false, &t->bob));
    CHECK_OK(acl_principal_add(h->access, t->tenant, ACL_GROUP, "oncall", false, &t->oncall));
    CHECK_OK(acl_member_add(h->access, t->tenant, t->oncall, t->ada));
    CHECK_OK(acl_member_add(h->access, t->tenant, t->oncall, t->bob));
    CHECK_OK(put(h, t->tenant, t->ada, TEXTS[ADAS], NULL, &t->documents[ADAS]));
    CHECK_OK(put(h, t->tenant, t->ada, TEXTS[ADAS_SHARED], &t->bob, &t->documents[ADAS_SHARED]));
    CHECK_OK(put(h, t->tenant, t->bob, TEXTS[BOBS], NULL, &t->documents[BOBS]));
    CHECK_OK(put(h, t->tenant, t->bob, TEXTS[BOBS_SHARED], &t->ada, &t->documents[BOBS_SHARED]));
    CHECK_OK(put(h, t->tenant, t->oncall, TEXTS[GROUPS], NULL, &t->documents[GROUPS]));
    CHECK_OK(put(h, t->eves, t->eve, EVES, NULL, &id));
    CHECK_OK(retrieval_tombstones_set(h->stores, t->tenant, t->ada, TOMBSTONES_REFUSE));
}

/* ---- what somebody sees ------------------------------------------------------------------------------- */
typedef struct {
    arena *mem;
    ifc_context context;
    retrieval_scope scope;
    retrieval_document info;
} eyes;

/* The clearance as a request gets it; NULL when nobody of that id lives. */
static eyes *eyes_of(house *h, id128 tenant, id128 who)
{
    id128 principals[ACL_GROUPS_MAX + 1], *owners;
    size_t count, owner_count;
    if (!is_ok(acl_principals_of(h->access, tenant, who, principals, &count))) return NULL;
    eyes *e = mem_alloc(sizeof *e);
    arena_open(&e->mem, 16 << 20);
    ASSERT(is_ok(ifc_context_init(&e->context, tenant, who, principals, count)));
    ASSERT(is_ok(acl_owners_for(h->access, tenant, principals, count, e->mem, &owners, &owner_count)));
    e->scope = (retrieval_scope){&e->context, owners, owner_count};
    return e;
}

static void eyes_close(eyes *e)
{
    if (e == NULL) return;
    arena_close(&e->mem);
    mem_free(e);
}

/* Reads the document back; its text must be exactly this one. */
static bool sees(house *h, eyes *e, id128 document, const char *text)
{
    const ifc_labeled *got;
    buf out;
    if (e == NULL || !is_ok(retrieval_get(h->stores, &e->scope, document, e->mem, &e->info, &got)))
        return false;
    buf_init(&out, 1 << 16);
    bool same = is_ok(ifc_gate_release(&e->context, got, &out)) &&
                bytes_equal(buf_bytes(&out), bytes_str(text));
    buf_free(&out);
    return same;
}

static bool finds(house *h, eyes *e, const char *query, id128 document)
{
    retrieval_hit *hits;
    size_t count;
    CHECK_OK(retrieval_search(h->stores, &e->scope, query, 10, SEARCH_HYBRID, e->mem, &hits, &count));
    for (size_t i = 0; i < count; i++)
        if (id_equal(hits[i].document, document)) return true;
    return false;
}

static size_t files_in(const char *data, const char *name)
{
    char path[CONFIG_PATH_MAX + 64];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", data, name);
    DIR *dir = opendir(path);
    if (dir == NULL) return 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        n += e->d_name[0] != '.' && strstr(e->d_name, "-lock") == NULL;
    closedir(dir);
    return n;
}

typedef struct { house *h; size_t n; } counting;

static result count_receipt(void *ctx, const erasure_summary *summary)
{
    counting *c = ctx;
    receipt_verdict verdict;
    buf receipt;
    buf_init(&receipt, RECEIPT_MAX_BYTES);
    CHECK_OK(erasure_find(c->h, there.tenant, (id128){{0}}, summary->id, &receipt));
    receipt_verify(buf_bytes(&receipt), c->h->sign_public, NULL, &verdict);
    CHECK(verdict.valid && verdict.trusted);
    buf_free(&receipt);
    c->n++;
    return OK;
}

static size_t grants_like(house *h, acl_grant pattern)
{
    arena *mem;
    acl_grant *all;
    size_t count = 0;
    arena_open(&mem, 1 << 20);
    CHECK_OK(acl_grants(h->access, there.tenant, pattern, mem, &all, &count));
    arena_close(&mem);
    return count;
}

static bool key_lives(house *h, keytree_node node)
{
    uint8_t secret[KEY_BYTES];
    return is_ok(keytree_secret(h->keys, node, secret));
}

/* ---- processes ------------------------------------------------------------------------------------------ */
/* Runs act in a process of its own; its exit code, 0 when no check of it failed. */
static int apart(void (*act)(int), int argument)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        test_case_failed_ = 0;
        act(argument);
        fflush(stdout);
        _exit(test_case_failed_);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void copy_folder(const char *from, const char *to)
{
    char command[900];
    snprintf(command, sizeof command, "cp -a '%s/%s' '%s/%s'", folder, from, folder, to);
    ASSERT(system(command) == 0);
}

static void remove_folder(const char *name)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s/%s' '%s/%s.root'", folder, name, folder, name);
    ASSERT(system(command) == 0);
}

static void town_path(char path[300]) { snprintf(path, 300, "%s/town.ids", folder); }

static void create(int unused)
{
    house_created *made = mem_alloc(sizeof *made);
    house *h;
    char path[300];
    (void)unused;
    settings_for("first");
    CHECK_OK(house_create(&settings, "main", made));
    CHECK_OK(house_open(&h, &settings, NULL));
    town_build(h);
    town_path(path);
    CHECK_OK(file_write_atomic(path, bytes_of(&there, sizeof there), 0600));
    house_close(&h);
    mem_free(made);
}

static void town_load(void)
{
    char path[300];
    buf text;
    buf_init(&text, sizeof there);
    town_path(path);
    ASSERT(is_ok(file_read(path, sizeof there, &text)) && text.size == sizeof there);
    memcpy(&there, text.data, sizeof there);
    buf_free(&text);
}

/* ---- the erasures ------------------------------------------------------------------------------------------ */
static int dies_at;

static void die_at_step(int step, const char *what)
{
    (void)what;
    if (step == dies_at) _exit(DEAD_AT_STEP);
}

static erasure_request request_of(erasure_kind kind)
{
    erasure_request q = {.kind = kind, .tenant = there.tenant, .target = "what was erased"};
    if (kind == ERASE_DOCUMENTS) {
        static erasure_item item;
        item = (erasure_item){there.ada, there.documents[ADAS_SHARED], 1};
        q.items = &item;
        q.item_count = 1;
    } else {
        q.owner = kind == ERASE_OWNER ? there.bob : there.tenant;
    }
    return q;
}

/* argument: kind * 16 + step to die at. */
static void erase(int argument)
{
    house *h;
    buf receipt;
    char salt[65];
    buf_init(&receipt, 1 << 20);
    settings_for("now");
    CHECK_OK(house_open(&h, &settings, NULL));
    erasure_step_hook = die_at_step;
    dies_at = argument % 16;
    const erasure_request q = request_of((erasure_kind)(argument / 16));
    CHECK_OK(erasure_run(h, &q, &receipt, salt));
    buf_free(&receipt);
    house_close(&h);
}

static void check_document_gone(house *h)
{
    eyes *ada = eyes_of(h, there.tenant, there.ada), *bob = eyes_of(h, there.tenant, there.bob);
    NEED(ada && bob);
    id128 gone = there.documents[ADAS_SHARED];
    CHECK(!sees(h, ada, gone, TEXTS[ADAS_SHARED]) && !sees(h, bob, gone, TEXTS[ADAS_SHARED]));
    CHECK(!finds(h, ada, "lock Rua do Sal", gone) && !finds(h, bob, "lock Rua do Sal", gone));
    CHECK(!key_lives(h, keytree_document(there.tenant, there.ada, gone)));
    CHECK(grants_like(h, (acl_grant){.document = gone}) == 0);
    /* Its owner wanted tombstones: one, whenever the erasure was cut off, and for nobody else. */
    retrieval_tombstones left;
    id128 again;
    CHECK_OK(retrieval_tombstones_get(h->stores, there.tenant, there.ada, &left));
    CHECK(left.documents == 1 && left.marks > 0);
    CHECK_FAILS(put(h, there.tenant, there.ada, TEXTS[ADAS_SHARED], NULL, &again), E_PRECONDITION);
    CHECK_OK(put(h, there.tenant, there.bob, TEXTS[ADAS_SHARED], NULL, &again));
    CHECK(sees(h, ada, there.documents[ADAS], TEXTS[ADAS]));
    CHECK(finds(h, ada, "brass key", there.documents[ADAS]));
    CHECK(sees(h, ada, there.documents[BOBS_SHARED], TEXTS[BOBS_SHARED]));
    CHECK(sees(h, bob, there.documents[BOBS], TEXTS[BOBS]));
    CHECK(sees(h, bob, there.documents[GROUPS], TEXTS[GROUPS]));
    eyes_close(ada);
    eyes_close(bob);
}

static void check_user_gone(house *h)
{
    id128 id;
    eyes *ada = eyes_of(h, there.tenant, there.ada);
    NEED(ada);
    CHECK(eyes_of(h, there.tenant, there.bob) == NULL);
    CHECK_FAILS(acl_find(h->access, there.tenant, "bob", &id, NULL), E_NOT_FOUND);
    CHECK(!key_lives(h, keytree_owner(there.tenant, there.bob)));
    CHECK(!sees(h, ada, there.documents[BOBS_SHARED], TEXTS[BOBS_SHARED]));
    CHECK(!finds(h, ada, "kiln Sundays", there.documents[BOBS_SHARED]));
    CHECK(sees(h, ada, there.documents[GROUPS], TEXTS[GROUPS]));
    /* What was shared with bob is ada's alone again: he is in no clause of it. */
    CHECK(sees(h, ada, there.documents[ADAS_SHARED], TEXTS[ADAS_SHARED]));
    CHECK(ada->info.label.secrecy.clause_count == 1 && ada->info.label.secrecy.ends[0] == 1 &&
          id_equal(ada->info.label.secrecy.principals[0], there.ada));
    CHECK(grants_like(h, (acl_grant){.grantee = there.bob}) == 0);
    CHECK(grants_like(h, (acl_grant){.owner = there.bob}) == 0);
    CHECK(files_in(settings.data, "stores") == 3);              /* ada's, the group's, eve's */
    eyes_close(ada);
}

static void check_tenant_gone(house *h)
{
    id128 id;
    CHECK_FAILS(acl_tenant_find(h->access, "main", &id), E_NOT_FOUND);
    CHECK(eyes_of(h, there.tenant, there.ada) == NULL && eyes_of(h, there.tenant, there.bob) == NULL);
    CHECK(!key_lives(h, keytree_tenant(there.tenant)));
    CHECK(files_in(settings.data, "stores") == 1);              /* eve's */
}

static void check_complete(house *h, erasure_kind kind)
{
    counting receipts = {h, 0};
    CHECK(files_in(settings.data, "intents") == 0);
    CHECK_OK(erasure_each(h, there.tenant, (id128){{0}}, count_receipt, &receipts));
    CHECK(receipts.n == 1);
    if (kind == ERASE_DOCUMENTS) check_document_gone(h);
    if (kind == ERASE_OWNER) check_user_gone(h);
    if (kind == ERASE_TENANT) check_tenant_gone(h);
    eyes *eve = eyes_of(h, there.eves, there.eve);
    CHECK(eve != NULL);
    retrieval_usage used;
    CHECK_OK(retrieval_usage_of(h->stores, there.eves, there.eve, &used));
    CHECK(used.documents == 1 && used.text_bytes == strlen(EVES));
    eyes_close(eve);
}

/* The first start carries the erasure to its end; a second finds nothing to do. */
static void check(int kind)
{
    house *h;
    settings_for("now");
    for (int start = 0; start < 2; start++) {
        result r = house_open(&h, &settings, NULL);
        CHECK_OK(r);
        if (!is_ok(r)) return;
        check_complete(h, (erasure_kind)kind);
        house_close(&h);
    }
}

/* The disk as it was before, with the root key as it is now. */
static void check_old_disk(int opens)
{
    house *h = NULL;
    settings_for("old");
    CHECK(is_ok(house_open(&h, &settings, NULL)) == (opens == 1));
    house_close(&h);
}

static void killed_at_each_step(erasure_kind kind)
{
    for (int step = 1; step <= STEPS; step++) {
        copy_folder("first", "now");
        copy_folder("first.root", "now.root");
        int died = apart(erase, (int)kind * 16 + step);
        int whole = apart(check, (int)kind);
        copy_folder("first", "old");
        copy_folder("now.root", "old.root");
        int old = apart(check_old_disk, 0);
        if (died != DEAD_AT_STEP || whole || old)
            printf("# kind %d, killed at step %d: died %d, checks %d, old disk %d\n", (int)kind, step, died,
                   whole, old);
        CHECK(died == DEAD_AT_STEP && whole == 0 && old == 0);
        remove_folder("now");
        remove_folder("old");
    }
}

static void document_killed_at_each_step(void) { killed_at_each_step(ERASE_DOCUMENTS); }
static void user_killed_at_each_step(void) { killed_at_each_step(ERASE_OWNER); }
static void tenant_killed_at_each_step(void) { killed_at_each_step(ERASE_TENANT); }

/* The control: the old disk opens with the old root. */
static void old_disk_opens_with_old_root(void)
{
    copy_folder("first", "old");
    copy_folder("first.root", "old.root");
    CHECK(apart(check_old_disk, 1) == 0);
    remove_folder("old");
}

/* ---- what comes in between ----------------------------------------------------------------------------------- */
static house *open_now(void)
{
    house *h = NULL;
    settings_for("now");
    CHECK_OK(house_open(&h, &settings, NULL));
    return h;
}

static result erase_now(house *h, erasure_kind kind)
{
    buf receipt;
    char salt[65];
    const erasure_request q = request_of(kind);
    buf_init(&receipt, 1 << 20);
    result r = erasure_run(h, &q, &receipt, salt);
    buf_free(&receipt);
    return r;
}

/* Runs act on a fresh copy of the town, in a process of its own. */
static void in_a_copy(void (*act)(int))
{
    copy_folder("first", "now");
    copy_folder("first.root", "now.root");
    CHECK(apart(act, 0) == 0);
    remove_folder("now");
}

static house *coming_to;

static void somebody_comes(int step, const char *what)
{
    id128 late, document;
    (void)what;
    if (step != 1) return;
    CHECK_OK(acl_principal_add(coming_to->access, there.tenant, ACL_USER, "late", false, &late));
    CHECK_OK(put(coming_to, there.tenant, late, "Late came after the intent.", NULL, &document));
}

/* Who comes into a tenant when its intent is written goes with it, in memory and on the disk. */
static void late_comer(int unused)
{
    (void)unused;
    house *h = coming_to = open_now();
    NEED(h);
    erasure_step_hook = somebody_comes;
    CHECK_OK(erase_now(h, ERASE_TENANT));
    check_tenant_gone(h);
    retrieval_memory memory;
    retrieval_memory_now(h->stores, &memory);
    CHECK(memory.stores_open == 0);
    house_close(&h);
}
static void tenant_takes_late_comers(void) { in_a_copy(late_comer); }

/* What fails on its way stays fenced, says so, and is carried to its end without a restart. */
static void fails_on_its_way(int unused)
{
    char log[CONFIG_PATH_MAX], aside[CONFIG_PATH_MAX + 8];
    (void)unused;
    house *h = open_now();
    NEED(h);
    CHECK_OK(house_path(&h->settings, "log", NULL, log));
    snprintf(aside, sizeof aside, "%s.aside", log);
    CHECK(rename(log, aside) == 0);
    CHECK_OK(file_write_atomic(log, bytes_str("no folder"), 0600));
    result r = erase_now(h, ERASE_DOCUMENTS);
    CHECK(!is_ok(r) && strstr(r.message, "carried to its end") != NULL);
    eyes *ada = eyes_of(h, there.tenant, there.ada);
    CHECK(!sees(h, ada, there.documents[ADAS_SHARED], TEXTS[ADAS_SHARED]));
    erasure_retry(h);                                           /* still no log */
    CHECK(files_in(settings.data, "intents") == 1);
    CHECK(unlink(log) == 0 && rename(aside, log) == 0);
    erasure_retry(h);
    check_complete(h, ERASE_DOCUMENTS);
    eyes_close(ada);
    house_close(&h);
}
static void failure_is_carried_on(void) { in_a_copy(fails_on_its_way); }

/* The same once more, when keys and records are gone: done again, with a receipt of its own. */
static void twice(int unused)
{
    (void)unused;
    house *h = open_now();
    NEED(h);
    counting receipts = {h, 0};
    CHECK_OK(erase_now(h, ERASE_DOCUMENTS));
    check_complete(h, ERASE_DOCUMENTS);
    CHECK_OK(erase_now(h, ERASE_DOCUMENTS));
    check_document_gone(h);
    CHECK_OK(erase_now(h, ERASE_OWNER));
    CHECK_OK(erase_now(h, ERASE_OWNER));
    CHECK_OK(erasure_each(h, there.tenant, (id128){{0}}, count_receipt, &receipts));
    CHECK(receipts.n == 4 && files_in(settings.data, "intents") == 0);
    house_close(&h);
}
static void erased_twice(void) { in_a_copy(twice); }

/* An intent to erase documents that names none would mean the store: refused, and nothing is touched. */
static void names_nothing(int unused)
{
    char name[] = "00112233445566778899aabbccddeeff", path[CONFIG_PATH_MAX], tenant[ID_TEXT_BYTES],
        ada[ID_TEXT_BYTES];
    (void)unused;
    house *h = NULL;
    buf text;
    buf_init(&text, 4096);
    settings_for("now");
    id_text(there.tenant, tenant);
    id_text(there.ada, ada);
    buf_printf(&text, "{\"documents\":[],\"kind\":1,\"id\":\"%s\",\"tenant\":\"%s\",\"owner\":\"%s\","
               "\"requester\":\"%s\",\"salt\":\"%s%s\",\"commitment\":\"%s%s\",\"owners\":[\"%s\"]}",
               name, tenant, ada, ada, ada, ada, ada, ada, ada);
    CHECK_OK(house_path(&settings, "intents", name, path));
    CHECK_OK(file_write_atomic(path, buf_bytes(&text), 0600));
    CHECK_FAILS(house_open(&h, &settings, NULL), E_DATA_LOSS);
    CHECK(unlink(path) == 0);
    h = open_now();
    NEED(h);
    eyes *e = eyes_of(h, there.tenant, there.ada);
    CHECK(sees(h, e, there.documents[ADAS], TEXTS[ADAS]));
    eyes_close(e);
    buf_free(&text);
    house_close(&h);
}
static void intent_that_names_nothing(void) { in_a_copy(names_nothing); }

/* ---- calls under way, over a real connection ------------------------------------------------------------------- */
typedef struct { char address[300], token[ACL_TOKEN_TEXT_BYTES]; } door;

static void door_open(house *h, door *d, id128 user)
{
    id128 id;
    snprintf(d->address, sizeof d->address, "unix:%s/socket", folder);
    const rpc_server_options options = {.listen = d->address, .methods = service_methods,
                                        .method_count = service_method_count, .handler_ctx = h};
    CHECK_OK(rpc_server_start(&h->rpc, &options));
    CHECK_OK(acl_token_issue(h->access, there.tenant, user, d->token, &id));
}

static result part_send(rpc_stream *s, Lethe__V1__PutRequest *part)
{
    buf packed;
    buf_init(&packed, 1 << 16);
    message_pack(&part->base, &packed);
    result r = rpc_stream_send(s, buf_bytes(&packed));
    buf_free(&packed);
    return r;
}

/* A put whose header is at the server and whose text is not. */
static rpc_stream *put_begin(rpc_client *client, const char *owner, char *reader_name)
{
    rpc_stream *s = NULL;
    Lethe__V1__PutHeader header = LETHE__V1__PUT_HEADER__INIT;
    header.path = (char *)"late.txt";
    header.owner = (char *)owner;
    header.share = &reader_name;
    header.n_share = reader_name ? 1 : 0;
    Lethe__V1__PutRequest part = LETHE__V1__PUT_REQUEST__INIT;
    part.part_case = LETHE__V1__PUT_REQUEST__PART_HEADER;
    part.header = &header;
    CHECK_OK(rpc_stream_open(&s, client, "/lethe.v1.Documents/Put", 0));
    CHECK_OK(part_send(s, &part));
    return s;
}

static result put_end(rpc_stream **s)
{
    static const char text[] = "This came late.";
    Lethe__V1__PutRequest part = LETHE__V1__PUT_REQUEST__INIT;
    part.part_case = LETHE__V1__PUT_REQUEST__PART_DATA;
    part.data = (ProtobufCBinaryData){sizeof text - 1, (uint8_t *)(uintptr_t)text};
    result r = part_send(*s, &part);
    if (!is_ok(r)) r = OK;                                      /* the status tells why */
    return rpc_stream_finish(s);
}

typedef struct { id128 user; bool seen; } looking;

static bool look(void *ctx, const void *mark)
{
    looking *l = ctx;
    l->seen = l->seen || id_equal(((const call_sources *)mark)->principal, l->user);
    return false;                                               /* cancels nothing */
}

/* Waits until a call of this user is under way. */
static void call_is_in(house *h, id128 user)
{
    for (looking l = {user, false}; !l.seen; usleep(1000)) rpc_server_cancel(h->rpc, look, &l);
}

/* The erased user's own put, into a store that stays: it ends with the user. */
static void own_put(int unused)
{
    retrieval_usage before, after;
    door d;
    rpc_client *client = NULL;
    (void)unused;
    house *h = open_now();
    NEED(h);
    CHECK_OK(retrieval_usage_of(h->stores, there.tenant, there.oncall, &before));
    door_open(h, &d, there.bob);
    const rpc_client_options options = {.server = d.address, .token = d.token};
    CHECK_OK(rpc_client_open(&client, &options));
    rpc_stream *s = put_begin(client, "group:oncall", NULL);
    call_is_in(h, there.bob);
    CHECK_OK(erase_now(h, ERASE_OWNER));
    CHECK_FAILS(put_end(&s), E_CANCELLED);
    CHECK_OK(retrieval_usage_of(h->stores, there.tenant, there.oncall, &after));
    CHECK(after.documents == before.documents);
    rpc_client_close(&client);
    rpc_server_stop(&h->rpc, 0);
    house_close(&h);
}
static void put_of_the_erased_ends(void) { in_a_copy(own_put); }

/* Somebody else's put, shared with the erased: stored, and shared with nobody. */
static void shared_put(int unused)
{
    door d;
    rpc_client *client = NULL;
    (void)unused;
    house *h = open_now();
    NEED(h);
    door_open(h, &d, there.ada);
    const rpc_client_options options = {.server = d.address, .token = d.token};
    CHECK_OK(rpc_client_open(&client, &options));
    rpc_stream *s = put_begin(client, "", (char *)(uintptr_t)"user:bob");
    call_is_in(h, there.ada);
    usleep(200000);             /* the header is read by now; if not, the grantee is refused, and that is well */
    CHECK_OK(erase_now(h, ERASE_OWNER));
    CHECK_OK(put_end(&s));
    id128 stored;
    if (is_ok(retrieval_find_path(h->stores, there.tenant, there.ada, "late.txt", &stored))) {
        eyes *ada = eyes_of(h, there.tenant, there.ada);
        CHECK_OK(retrieval_get(h->stores, &ada->scope, stored, ada->mem, &ada->info, NULL));
        CHECK(ada->info.label.secrecy.ends[0] == 1);
        CHECK(grants_like(h, (acl_grant){.document = stored}) == 0);
        eyes_close(ada);
    }
    CHECK(grants_like(h, (acl_grant){.grantee = there.bob}) == 0);
    rpc_client_close(&client);
    rpc_server_stop(&h->rpc, 0);
    house_close(&h);
}
static void put_shared_with_the_erased(void) { in_a_copy(shared_put); }

int main(void)
{
    test_tmpdir(folder);
    if (apart(create, 0) != 0) {
        printf("not ok 1 - the town could not be made\n1..1\n");
        return 1;
    }
    town_load();
    RUN(old_disk_opens_with_old_root);
    RUN(document_killed_at_each_step);
    RUN(user_killed_at_each_step);
    RUN(tenant_killed_at_each_step);
    RUN(tenant_takes_late_comers);
    RUN(failure_is_carried_on);
    RUN(erased_twice);
    RUN(intent_that_names_nothing);
    RUN(put_of_the_erased_ends);
    RUN(put_shared_with_the_erased);
    test_tmpdir_remove(folder);
    return DONE();
}
