/* What can be told by the clock: pairs of cases that must look alike, measured as dudect does (timing.h).
 *
 * usage: bench_timing [--count N] [--chunks N] [--seed N] [--csv FILE] [--only WORD] [--smoke]
 *
 * --smoke: few measurements and no verdict. Otherwise exit 1 when a pair differs (|t| > 4.5), or the control, a
 * deliberately leaky comparison, does not. */
#include "bench.h"
#include "house.h"
#include "scheduler.h"
#include "service.h"
#include "session.h"

#include "erasure.h"
#include "lethe/v1/documents.pb-c.h"
#include "message.h"
#include "receipt.h"
#include "tests/golden/random_model.h"
#include "timing.h"

#include <stdatomic.h>
#include <stdio.h>

enum { DOCUMENTS = 256, PICKS = 256, BATCH = 256, TOKENS = 4096, TOKEN_FIRST = 6, TOKEN_LAST = 48,
       SETTLE_NS = 500 };

typedef struct {
    char folder[256];
    house *h;
    arena *mem;                            /* for the long run */
    arena *call;                           /* of one measurement */
    id128 tenant, ada, bob, far;
    ifc_context context;                   /* ada's */
    retrieval_scope scope;
    id128 denied[PICKS], erased[PICKS];
    char right[ACL_TOKEN_TEXT_BYTES], revoked[TOKENS][ACL_TOKEN_TEXT_BYTES];
    ifc_label near_label, far_label, plain_label;
    char socket[300];
    rpc_client *client;
    model *engine;
    scheduler *steps;
    state_cache *states;
    session_request question, same, other;
    retrieval *quiet, *quiet_too, *busy;   /* without, without, and with another tenant's chunks */
    int tokens;
    uint64_t seed, sink;
} world;

/* ---- the cases: prepare is not measured ------------------------------------------------------------------ */
typedef struct {
    const char *name;
    void (*prepare)(world *w, int class);
    void (*run)(world *w, int class);
    double share;                          /* of --count */
    bool control;                          /* must differ */
} timing_case;

/* Inputs of both classes are copied to one place, or the clock would tell where they lie. */
static struct { id128 id; ifc_label label; char token[ACL_TOKEN_TEXT_BYTES]; } input;

static void prepare_nothing(world *w, int class)
{
    (void)class;
    arena_reset(w->call);
}

static void prepare_label(world *w, int class) { input.label = class ? w->near_label : w->far_label; }
static void run_flows(world *w, int class)
{
    (void)class;
    for (int i = 0; i < 16; i++) w->sink += ifc_context_permits(&w->context, &input.label);
}

/* An absent id stands right beside the other in the order of ids: only whether it is there differs. */
static void prepare_id(world *w, int class, const id128 *all)
{
    input.id = all[random_next(&w->seed) % PICKS];
    input.id.b[15] ^= class ? 0 : 1;
    arena_reset(w->call);
}
static void prepare_denied(world *w, int class) { prepare_id(w, class, w->denied); }
static void prepare_erased(world *w, int class) { prepare_id(w, class, w->erased); }

static void run_get(world *w, int class)
{
    const ifc_labeled *text;
    (void)class;
    result r = retrieval_get(w->h->stores, &w->scope, input.id, w->call, NULL, &text);
    ASSERT(r.code == E_NOT_FOUND);
}

/* The text with random characters from one place on. The same work for both classes: what prepare leaves behind in
 * the processor must not tell them apart. */
static void token_scramble(world *w, const char *text, size_t from)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (size_t i = 0; i < sizeof input.token; i++) {
        unsigned drawn = (unsigned char)set[random_next(&w->seed) % 64], kept = (unsigned char)text[i];
        unsigned mask = 0u - ((unsigned)(i >= from) & (unsigned)(i < TOKEN_LAST));
        input.token[i] = (char)((drawn & mask) | (kept & ~mask));
    }
}
/* Wrong from the first character on, or in the last three alone. */
static void prepare_place(world *w, int class)
{
    do token_scramble(w, w->right, class ? TOKEN_FIRST : TOKEN_LAST - 3);
    while (strcmp(input.token, w->right) == 0);
}
static void prepare_revoked(world *w, int class)
{
    token_scramble(w, w->revoked[random_next(&w->seed) % (uint64_t)w->tokens], class ? TOKEN_LAST : TOKEN_LAST - 3);
}

/* Both classes alike: what is found here is the measurement's own. */
static void prepare_null(world *w, int class)
{
    (void)class;
    prepare_place(w, 0);
}

static void run_token(world *w, int class)
{
    acl_identity who;
    (void)class;
    result r = acl_authenticate(w->h->access, input.token, &who);
    ASSERT(r.code == E_UNAUTHENTICATED);
}

/* The control: what a careless comparison of tokens would do. */
static void run_leaky(world *w, int class)
{
    (void)class;
    for (int i = 0; i < 16; i++) {
        volatile const char *a = w->right;
        size_t at = 6;
        while (at < 48 && a[at] == input.token[at]) at++;
        w->sink += at;
    }
}

/* The whole call, as a client sees it. */
static void run_remote(world *w, int class)
{
    char text[ID_TEXT_BYTES];
    buf packed, message;
    bool end;
    rpc_stream *s;
    (void)class;
    id_text(input.id, text);
    Lethe__V1__GetRequest m = LETHE__V1__GET_REQUEST__INIT;
    m.id = text;
    buf_init(&packed, 4096);
    buf_init(&message, 4096);
    message_pack(&m.base, &packed);
    must(rpc_stream_open(&s, w->client, "/lethe.v1.Documents/Get", 0));
    must(rpc_stream_send(s, buf_bytes(&packed)));
    must(rpc_stream_half_close(s));
    must(rpc_stream_receive(s, &message, &end));
    result r = rpc_stream_finish(&s);
    ASSERT(r.code == E_NOT_FOUND);
    buf_free(&packed);
    buf_free(&message);
}

/* Bob's state for the very same documents and question is in the cache, or one for others. */
static void prepare_states(world *w, int class)
{
    session_answer out;
    arena_reset(w->call);
    state_cache_drop_principal(w->states, w->ada);
    state_cache_drop_principal(w->states, w->bob);
    state_cache_figures f;
    state_cache_figures_now(w->states, &f);
    session_request *of_bob = class ? &w->same : &w->other;
    of_bob->cache_generation = w->question.cache_generation = f.generation;
    must(session_generate(w->engine, w->steps, w->states, w->h->keys, of_bob, w->call, &out));
    arena_reset(w->call);
}

static void run_first_token(world *w, int class)
{
    session_answer out;
    (void)class;
    must(session_generate(w->engine, w->steps, w->states, w->h->keys, &w->question, w->call, &out));
}

static void search(world *w, retrieval *r)
{
    retrieval_hit *hits;
    size_t count;
    must(retrieval_search(r, &w->scope, "When did the night ferry leave the harbour?", 5, SEARCH_HYBRID, w->call,
                          &hits, &count));
}
static void run_search_busy(world *w, int class) { search(w, class ? w->busy : w->quiet); }
static void run_search_quiet(world *w, int class) { search(w, class ? w->quiet_too : w->quiet); }

static const timing_case CASES[] = {
    {"control: a leaky comparison", prepare_place, run_leaky, 1, true},
    {"control: token: the same twice", prepare_null, run_token, 1, false},
    {"label check: nearly mine, far from mine", prepare_label, run_flows, 1, false},
    {"get: denied, absent", prepare_denied, run_get, 1, false},
    {"get: erased, absent", prepare_erased, run_get, 1, false},
    {"token: wrong at the first byte, at the last", prepare_place, run_token, 1, false},
    {"token: revoked, never issued", prepare_revoked, run_token, 1, false},
    {"Get over gRPC: denied, absent", prepare_denied, run_remote, 0.05, false},
    {"Get over gRPC: erased, absent", prepare_erased, run_remote, 0.05, false},
    {"first token: another's state of the same, of others", prepare_states, run_first_token, 0.01, false},
    {"search: the same twice (layout of memory)", prepare_nothing, run_search_quiet, 0.05, false},
    {"search: another tenant holds much, nothing", prepare_nothing, run_search_busy, 0.05, false},
};

/* ---- the world ------------------------------------------------------------------------------------------------ */
static void put(world *w, retrieval *r, id128 tenant, id128 owner, const ifc_label *label, uint32_t from,
                uint32_t count, retrieval_stored *stored)
{
    static const char *const words[] = {"harbour", "ferry", "ledger", "barge", "lantern", "orchard", "winter",
                                        "signal", "copper", "bridge", "market", "garden"};
    retrieval_input *inputs = mem_alloc_array(count, sizeof *inputs);
    char (*paths)[32] = mem_alloc_array(count, sizeof *paths), (*texts)[200] = mem_alloc_array(count, sizeof *texts);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(paths[i], sizeof paths[i], "%u.txt", from + i);
        snprintf(texts[i], sizeof texts[i], "The %s was seen by the %s. The night %s left the %s in the %s.",
                 words[random_next(&w->seed) % 12], words[random_next(&w->seed) % 12], words[random_next(&w->seed) % 12], words[random_next(&w->seed) % 12],
                 words[random_next(&w->seed) % 12]);
        inputs[i] = (retrieval_input){.path = paths[i], .media_type = "text/plain", .content = bytes_str(texts[i]),
                                      .label = *label};
        random_bytes(inputs[i].nonce, 16);
    }
    must(retrieval_put(r, tenant, owner, inputs, count, stored));
    for (uint32_t i = 0; i < count; i++) ASSERT(stored[i].code == E_OK);
    mem_free(inputs);
    mem_free(paths);
    mem_free(texts);
}

static void label_of(const id128 *who, size_t count, ifc_label *out)
{
    ifc_label_public(out);
    must(ifc_label_secrecy_add(out, who, count));
}

static void tokens_make(world *w)
{
    id128 id;
    acl *a = w->h->access;
    for (int i = 0; i < w->tokens; i++) {
        must(acl_token_issue(a, w->tenant, w->bob, w->revoked[i], &id));
        must(acl_token_revoke(a, w->tenant, w->bob, id));
    }
    must(acl_token_issue(a, w->tenant, w->ada, w->right, &id));
}

static void house_make(world *w)
{
    config *c = mem_alloc(sizeof *c);
    house_created made;
    char data[300];
    config_defaults(c);
    snprintf(data, sizeof data, "%s/data", w->folder);
    must(config_set(c, "data", data));
    c->quota = (acl_quota){0};
    must(config_finish(c));
    must(house_create(c, "harbour", &made));
    must(house_open(&w->h, c, NULL));
    acl *a = w->h->access;
    must(acl_tenant_find(a, "harbour", &w->tenant));
    must(acl_principal_add(a, w->tenant, ACL_USER, "ada", false, &w->ada));
    must(acl_principal_add(a, w->tenant, ACL_USER, "bob", false, &w->bob));
    tokens_make(w);
    must(ifc_context_init(&w->context, w->tenant, w->ada, &w->ada, 1));
    mem_free(c);
}

/* Bob's store is in ada's scope, for he shared something of it with her; the rest of it is denied. */
static void documents_make(world *w)
{
    retrieval_stored stored[DOCUMENTS];
    erasure_item items[PICKS];
    id128 both[] = {w->ada, w->bob};
    ifc_label of_ada, of_bob, shared;
    label_of(&w->ada, 1, &of_ada);
    label_of(&w->bob, 1, &of_bob);
    label_of(both, 2, &shared);
    put(w, w->h->stores, w->tenant, w->ada, &of_ada, 0, DOCUMENTS, stored);
    put(w, w->h->stores, w->tenant, w->bob, &shared, 0, 1, stored);
    must(acl_grant_add(w->h->access, w->tenant, (acl_grant){w->bob, stored[0].id, w->ada}));
    put(w, w->h->stores, w->tenant, w->bob, &of_bob, 1, DOCUMENTS, stored);
    for (int i = 0; i < PICKS; i++) w->denied[i] = stored[i].id;
    put(w, w->h->stores, w->tenant, w->bob, &of_bob, 1 + DOCUMENTS, PICKS, stored);
    for (int i = 0; i < PICKS; i++) {
        w->erased[i] = stored[i].id;
        items[i] = (erasure_item){w->bob, stored[i].id, stored[i].chunk_count};
    }
    const erasure_request gone = {.kind = ERASE_DOCUMENTS, .tenant = w->tenant, .items = items, .item_count = PICKS,
                                  .requester = w->bob, .target = "document:bench"};
    char salt[65];
    buf receipt;
    buf_init(&receipt, RECEIPT_MAX_BYTES);
    must(erasure_run(w->h, &gone, &receipt, salt));
    buf_free(&receipt);
    id128 *owners;
    must(acl_owners_for(w->h->access, w->tenant, &w->ada, 1, w->mem, &owners, &w->scope.owner_count));
    w->scope.owners = owners;
    w->scope.context = &w->context;
    ASSERT(w->scope.owner_count == 2);
    /* Others' labels: an id as ada's but for the last bit, and one that differs from the first on. */
    id128 near = w->ada, far = w->ada;
    near.b[15] ^= 1;
    far.b[0] ^= 1;
    label_of(&near, 1, &w->near_label);
    label_of(&far, 1, &w->far_label);
}

static void server_start(world *w)
{
    snprintf(w->socket, sizeof w->socket, "unix:%s/socket", w->folder);
    const rpc_server_options options = {.listen = w->socket, .methods = service_methods,
        .method_count = service_method_count, .handler_ctx = w->h, .message_max_bytes = 1 << 20,
        .services = service_names};
    must(rpc_server_start(&w->h->rpc, &options));
    const rpc_client_options client = {.server = w->socket, .token = w->right};
    must(rpc_client_open(&w->client, &client));
}

static result drop_piece(void *ctx, const ifc_labeled *piece)
{
    ((world *)ctx)->sink += ifc_labeled_size(piece);
    return OK;
}

static retrieval_hit *hits_make(world *w, id128 owner, const char *text)
{
    retrieval_hit *hit = arena_alloc(w->mem, sizeof *hit);
    ifc_label label;
    label_of(&owner, 1, &label);
    *hit = (retrieval_hit){.owner = owner, .document = id_random()};
    hit->text = ifc_labeled_make(w->mem, &label, bytes_str(text));
    return hit;
}

static void model_make(world *w)
{
    static const char one[] = "The mill at Osten burned in 1871; the miller was Jorn, who rebuilt it in four years.",
                      two[] = "The ferry of Osten sank in 1917; the ferryman was Karl, who raised it in five days.";
    char path[300];
    gen_config c = {.d_model = 64, .d_inner = 128, .d_state = 8, .d_conv = 4, .dt_rank = 4, .use_conv_bias = true,
                    .tied = true, .type = GEN_F32, .seed = 5, .layers = 2, .vocab = RANDOM_MODEL_TOKENS};
    snprintf(path, sizeof path, "%s/model", w->folder);
    must(dir_make(path, 0700));
    ASSERT(random_model_write(path, &c));
    must(model_open(&w->engine, path, &(model_options){.threads = 1}));
    must(scheduler_open(&w->steps, w->engine, &(scheduler_limits){4, 64, 4, 12, 128, 100}));
    state_cache_open(&w->states, 8 << 20);
    ifc_context *of_bob = arena_alloc(w->mem, sizeof *of_bob);
    must(ifc_context_init(of_bob, w->tenant, w->bob, &w->bob, 1));
    const session_request base = {.hit_count = 1, .question = "Who was it?", .repeats = 2, .tokens_max = 1,
                                  .context_tokens_max = 950, .emit = drop_piece, .emit_ctx = w};
    w->question = w->same = w->other = base;
    w->question.context = &w->context;
    w->same.context = w->other.context = of_bob;
    w->question.hits = hits_make(w, w->ada, one);
    w->same.hits = hits_make(w, w->bob, one);
    w->other.hits = hits_make(w, w->bob, two);
}

static void searches_make(world *w, uint32_t chunks)
{
    retrieval **all[] = {&w->quiet, &w->quiet_too, &w->busy};
    retrieval_stored stored[BATCH];
    ifc_label label;
    for (int i = 0; i < 3; i++) {
        char path[300];
        snprintf(path, sizeof path, "%s/search%d", w->folder, i);
        must(dir_make(path, 0700));
        const retrieval_options o = {.data_dir = path, .embedder_dir = w->h->settings.embedder, .keys = w->h->keys};
        must(retrieval_open(all[i], &o));
        label_of(&w->ada, 1, &label);
        uint64_t seed = w->seed;
        put(w, *all[i], w->tenant, w->ada, &label, 0, DOCUMENTS, stored);
        w->seed = seed;                                     /* the same texts in each */
    }
    id128 tenant, admin;
    must(acl_tenant_add(w->h->access, "island", "root", &tenant, &admin));
    label_of(&admin, 1, &label);
    for (uint32_t done = 0; done < chunks; done += BATCH)
        put(w, w->busy, tenant, admin, &label, done, BATCH, stored);
}

static void world_end(world *w)
{
    char command[400];
    rpc_client_close(&w->client);
    if (w->h->rpc) rpc_server_stop(&w->h->rpc, 1000);
    retrieval_close(&w->quiet);
    retrieval_close(&w->quiet_too);
    retrieval_close(&w->busy);
    scheduler_close(&w->steps);
    state_cache_close(&w->states);
    model_close(&w->engine);
    house_close(&w->h);
    arena_close(&w->mem);
    arena_close(&w->call);
    snprintf(command, sizeof command, "rm -rf '%s'", w->folder);
    if (system(command) != 0) fprintf(stderr, "could not remove %s\n", w->folder);
}

/* ---- measuring -------------------------------------------------------------------------------------------------- */
static timing_result measure(world *w, const timing_case *c, size_t n)
{
    timing_sample *all = mem_alloc_array(n, sizeof *all);
    size_t warm = n / 10 + 10;
    for (size_t i = 0; i < n + warm; i++) {
        int class = (int)(random_next(&w->seed) >> 63);
        c->prepare(w, class);
        /* What prepare set going (stores, mispredicted branches) is over before the clock starts. */
        for (uint64_t settled = timing_now_ns() + SETTLE_NS; timing_now_ns() < settled;)
            atomic_thread_fence(memory_order_seq_cst);
        uint64_t start = timing_now_ns();
        c->run(w, class);
        uint64_t end = timing_now_ns();
        if (i >= warm) all[i - warm] = (timing_sample){(double)(end - start), class};
    }
    timing_result r = timing_test(all, n);
    mem_free(all);
    return r;
}

typedef struct { uint64_t count, chunks, seed; const char *csv, *only; bool smoke; } options;

static options options_read(int argc, char **argv)
{
    options o = {.count = 100000, .chunks = 100000, .seed = 1};
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--smoke") == 0) o.smoke = true;
        else if (strcmp(argv[i], "--count") == 0 && more) o.count = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--chunks") == 0 && more) o.chunks = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && more) o.seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--csv") == 0 && more) o.csv = argv[++i];
        else if (strcmp(argv[i], "--only") == 0 && more) o.only = argv[++i];
        else {
            fprintf(stderr, "usage: %s [--count N] [--chunks N] [--seed N] [--csv FILE] [--only WORD] [--smoke]\n",
                    argv[0]);
            exit(2);
        }
    }
    if (o.smoke) {
        o.count = 400;
        o.chunks = 256;
    }
    return o;
}

int main(int argc, char **argv)
{
    const options o = options_read(argc, argv);
    const char *base = getenv("TMPDIR");
    world *w = mem_alloc(sizeof *w);
    w->seed = o.seed;
    w->tokens = o.smoke ? 16 : TOKENS;
    log_level_set(LOG_ERROR);
    snprintf(w->folder, sizeof w->folder, "%s/lethe-timing-XXXXXX", base ? base : "/tmp");
    if (mkdtemp(w->folder) == NULL) {
        perror("mkdtemp");
        return 2;
    }
    arena_open(&w->mem, 64 << 20);
    arena_open(&w->call, 64 << 20);
    house_make(w);
    documents_make(w);
    server_start(w);
    model_make(w);
    searches_make(w, (uint32_t)o.chunks);
    FILE *csv = o.csv ? fopen(o.csv, "w") : NULL;
    if (csv) fprintf(csv, "case,n,t,kept,mean_ns_1,mean_ns_0\n");
    printf("seed %llu, limit |t| %.1f%s\n%-52s %8s %8s %6s %11s %11s\n", (unsigned long long)o.seed, TIMING_LIMIT,
           o.smoke ? " (smoke: no verdict)" : "", "classes: 1, 0", "n", "t", "kept", "ns of 1", "ns of 0");
    int wrong = 0;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        const timing_case *c = &CASES[i];
        if (o.only && strstr(c->name, o.only) == NULL) continue;
        size_t n = (size_t)((double)o.count * c->share);
        timing_result r = measure(w, c, n < 100 ? 100 : n);
        bool differs = fabs(r.t) > TIMING_LIMIT;
        wrong += differs != c->control;
        printf("%-52s %8zu %8.2f %6.3f %11.1f %11.1f  %s\n", c->name, r.n, r.t, r.crop, r.mean[1], r.mean[0],
               o.smoke ? "" : differs ? "DIFFERENT" : "no difference found");
        fflush(stdout);
        if (csv) fprintf(csv, "\"%s\",%zu,%.3f,%.4f,%.1f,%.1f\n", c->name, r.n, r.t, r.crop, r.mean[1], r.mean[0]);
    }
    if (csv) fclose(csv);
    world_end(w);
    mem_free(w);
    return wrong && !o.smoke ? 1 : 0;
}
