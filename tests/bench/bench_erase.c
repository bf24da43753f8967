/* How long erasing takes, step by step (server/erasure.c), against how much is erased.
 *
 * usage: bench_erase [--chunks N] [--documents N] [--repeat R] [--seed N] [--folder DIR] [--csv FILE] [--keep]
 *        bench_erase ... --start DIR [--case users|documents]
 *        bench_erase --beside DIR [--chunks N] [--seed N]      (bench_erase.py: see beside_make)
 *
 * One: a user of N chunks (1,000,000) and one of 1,000, both held in memory, erased in one copy of one folder, in
 * turn the one and the other first; R copies (20). Two: 500 of an owner's 100,000 documents (--documents; one small
 * chunk each) as one request, neighbours in the key tree, and scattered. Medians. What fsync, fdatasync and LMDB's
 * synchronous write of its head take is counted here, by defining them, and told apart.
 *
 * Each copy is opened in a process of its own, and written out before (sync), so that none of its pages are waited
 * for. --folder: where the copies go (default: a new one in TMPDIR or /tmp); on the disk that is to be measured. --keep leaves
 * the start folders there; --start measures with what such a run left. */
#include "bench.h"
#include "house.h"

#include "erasure.h"
#include "receipt.h"

#include "chunker.h"
#include "slots.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SMALL_CHUNKS = 1000, DOCUMENT_CHUNKS = 100, CHUNK_WORDS = 64, NOTE_WORDS = 12, WORDS = 1 << 18,
       ERASED_AT_ONCE = 500, STEPS = 8, REPEAT_MAX = 1000, BATCH_CHUNKS = 20000, BATCH_NOTES = RETRIEVAL_BATCH_MAX };

/* ---- what synchronous writing takes ---------------------------------------------------------------------- */
static uint64_t sync_ns;
static unsigned sync_count;

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static long synced(uint64_t since, long rc)
{
    sync_ns += now_ns() - since;
    sync_count++;
    return rc;
}

int fsync(int fd) { uint64_t t = now_ns(); return (int)synced(t, syscall(SYS_fsync, fd)); }
int fdatasync(int fd) { uint64_t t = now_ns(); return (int)synced(t, syscall(SYS_fdatasync, fd)); }

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    bool waits = (fcntl(fd, F_GETFL) & (O_DSYNC | O_SYNC)) != 0;
    uint64_t t = now_ns();
    long rc = syscall(SYS_pwrite64, fd, data, size, at);
    return waits ? synced(t, rc) : rc;
}

/* mem_wipe's means, as the C library has it, and how much it was. */
static uint64_t wiped_bytes;

void explicit_bzero(void *p, size_t size)
{
    memset(p, 0, size);
    __asm__ volatile("" : : "r"(p) : "memory");
    wiped_bytes += size;
}

/* What it is called where the compiler knows the size (_FORTIFY_SOURCE). */
void __explicit_bzero_chk(void *p, size_t size, size_t known);
void __explicit_bzero_chk(void *p, size_t size, size_t known)
{
    ASSERT(size <= known);
    explicit_bzero(p, size);
}

/* ---- the start folders ---------------------------------------------------------------------------------------- */
typedef struct {
    uint32_t chunks, documents;
    int repeat;
    uint64_t seed;
    const char *csv, *under, *start, *beside, *only;
    bool keep;
} options;

typedef struct { char folder[300]; uint64_t seed; id128 tenant; FILE *dump; uint32_t dumped_user; } world;

/* A made-up word; the k-th most frequent has a share of about 1 / k, as in a language. */
static void word_add(world *w, buf *out)
{
    static const char *const syllables[] = {"ba", "do", "ke", "lin", "mor", "na", "pel", "ri",
                                            "sta", "tor", "ul", "ven", "wa", "xi", "yor", "zen"};
    double u = (double)(random_next(&w->seed) >> 11) / 9007199254740992.0;
    uint32_t rank = (uint32_t)pow(WORDS, u);
    do {
        buf_append(out, syllables[rank % 16], strlen(syllables[rank % 16]));
        rank /= 16;
    } while (rank > 0);
}

/* count sentences of so many words each: one chunk each, where two do not fit into one. */
static void text_make(world *w, uint32_t count, uint32_t words, buf *out)
{
    buf_clear(out);
    for (uint32_t s = 0; s < count; s++) {
        buf_append(out, "The", 3);
        for (uint32_t i = 1; i < words; i++) {
            buf_append(out, " ", 1);
            word_add(w, out);
        }
        buf_append(out, ". ", 2);
    }
}

static void settings_for(const char *folder, const char *name, config *c)
{
    char data[CONFIG_PATH_MAX];
    snprintf(data, sizeof data, "%s/%s", folder, name);
    config_defaults(c);
    must(config_set(c, "data", data));
    c->quota = (acl_quota){0};
    must(config_finish(c));
}

static house *house_make(world *w, const char *name)
{
    static house_created made;
    config *c = mem_alloc(sizeof *c);
    house *h;
    settings_for(w->folder, name, c);
    must(house_create(c, "harbour", &made));
    must(house_open(&h, c, NULL));
    must(acl_tenant_find(h->access, "harbour", &w->tenant));
    mem_free(c);
    return h;
}

/* Its chunks as the store holds them: user u32, size u32, the text, the vector. */
static void text_dump(const world *w, house *h, bytes text)
{
    size_t *ends, from = 0;
    uint32_t count, dimensions = embedder_dimensions(h->stores->embedder);
    float *vector = mem_alloc_array(dimensions, sizeof *vector);
    chunker_cut(text, h->stores->chunk_target_bytes, &ends, &count);
    for (uint32_t i = 0; i < count; from = ends[i++]) {
        uint32_t head[2] = {w->dumped_user, (uint32_t)(ends[i] - from)};
        (void)embedder_embed(h->stores->embedder, bytes_of(text.data + from, head[1]), vector);
        fwrite(head, sizeof head, 1, w->dump);
        fwrite(text.data + from, head[1], 1, w->dump);
        fwrite(vector, sizeof *vector, dimensions, w->dump);
    }
    mem_free(ends);
    mem_free(vector);
}

static uint64_t put(world *w, house *h, id128 owner, const ifc_label *label, uint32_t first, uint32_t count,
                    uint32_t chunks, uint32_t words)
{
    static retrieval_input inputs[RETRIEVAL_BATCH_MAX];
    static retrieval_stored stored[RETRIEVAL_BATCH_MAX];
    static char paths[RETRIEVAL_BATCH_MAX][32];
    static buf texts[RETRIEVAL_BATCH_MAX];
    uint64_t made = 0;
    for (uint32_t i = 0; i < count; i++) {
        buf_init(&texts[i], (size_t)1 << 30);
        text_make(w, chunks, words, &texts[i]);
        if (w->dump) text_dump(w, h, buf_bytes(&texts[i]));
        snprintf(paths[i], sizeof paths[i], "%u.txt", first + i);
        inputs[i] = (retrieval_input){.path = paths[i], .media_type = "text/plain", .content = buf_bytes(&texts[i]),
                                      .label = *label};
        random_bytes(inputs[i].nonce, 16);
    }
    must(retrieval_put(h->stores, w->tenant, owner, inputs, count, stored));
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(stored[i].code == E_OK);
        made += stored[i].chunk_count;
        buf_free(&texts[i]);
    }
    return made;
}

static void user_make(world *w, house *h, const char *name, uint32_t documents, uint32_t chunks, uint32_t words)
{
    id128 user;
    ifc_label label;
    uint64_t made = 0, since = now_ns();
    uint32_t batch = BATCH_CHUNKS / chunks;
    if (batch > BATCH_NOTES) batch = BATCH_NOTES;
    must(acl_principal_add(h->access, w->tenant, ACL_USER, name, false, &user));
    ifc_label_public(&label);
    must(ifc_label_secrecy_add(&label, &user, 1));
    for (uint32_t d = 0; d < documents; d += batch)
        made += put(w, h, user, &label, d, documents - d < batch ? documents - d : batch, chunks, words);
    printf("# %s: %u documents, %llu chunks of %u words, made in %.0f s\n", name, documents,
           (unsigned long long)made, words, (double)(now_ns() - since) / 1e9);
    fflush(stdout);
    ASSERT(made == (uint64_t)documents * chunks);
}

static bool is_wanted(const options *o, const char *which) { return o->only == NULL || strcmp(o->only, which) == 0; }

static void start_make(world *w, const options *o)
{
    house *h;
    if (is_wanted(o, "users")) {
        h = house_make(w, "users");
        user_make(w, h, "small", SMALL_CHUNKS / DOCUMENT_CHUNKS, DOCUMENT_CHUNKS, CHUNK_WORDS);
        user_make(w, h, "big", o->chunks / DOCUMENT_CHUNKS, DOCUMENT_CHUNKS, CHUNK_WORDS);
        house_close(&h);
    }
    if (is_wanted(o, "documents")) {
        h = house_make(w, "notes");
        user_make(w, h, "big", o->documents, 1, NOTE_WORDS);
        house_close(&h);
    }
}

/* ---- one erasure ------------------------------------------------------------------------------------------------- */
/* Behind each step, 0: at the call. sync: what of it was waiting for the disk. cpu: what this thread computed, which
 * other load on the machine does not lengthen as it does the clock. */
typedef struct { double ms[STEPS + 1], sync_ms[STEPS + 1], cpu_ms[STEPS + 1], wiped[STEPS + 1]; unsigned syncs[STEPS + 1]; } sample;

static sample *taking;

static void step_taken(int step, const char *what)
{
    (void)what;
    taking->ms[step] = (double)now_ns() / 1e6;
    taking->cpu_ms[step] = (double)clock_ns(CLOCK_THREAD_CPUTIME_ID) / 1e6;
    taking->sync_ms[step] = (double)sync_ns / 1e6;
    taking->syncs[step] = sync_count;
    taking->wiped[step] = (double)wiped_bytes;
}

static void erase(house *h, const erasure_request *q, sample *out)
{
    char salt[65];
    buf receipt;
    buf_init(&receipt, RECEIPT_MAX_BYTES);
    sync_ns = 0;
    sync_count = 0;
    taking = out;
    erasure_step_hook = step_taken;
    step_taken(0, "");
    must(erasure_run(h, q, &receipt, salt));
    buf_free(&receipt);
}

static id128 user_of(house *h, id128 tenant, const char *name)
{
    id128 user;
    retrieval_usage used;
    must(acl_find(h->access, tenant, name, &user, NULL));
    must(retrieval_usage_of(h->stores, tenant, user, &used));      /* into memory */
    return user;
}

typedef struct { erasure_item *items; size_t count; } found;

static result item_add(void *ctx, const retrieval_document *d)
{
    found *f = ctx;
    f->items[f->count++] = (erasure_item){d->owner, d->id, d->chunk_count};
    return OK;
}

/* Case 0 and 1: the small user, the big one. */
static void erase_user(world *w, house *h, int which, sample *out)
{
    const erasure_request q = {.kind = ERASE_OWNER, .tenant = w->tenant,
        .owner = user_of(h, w->tenant, which ? "big" : "small"), .target = "user:bench"};
    erase(h, &q, out);
}

/* Case 0 and 1: neighbours, scattered. */
static void erase_documents(world *w, house *h, uint32_t documents, int which, sample *out)
{
    id128 owner = user_of(h, w->tenant, "big");
    ifc_context *context = mem_alloc(sizeof *context);
    must(ifc_context_init(context, w->tenant, owner, &owner, 1));
    const retrieval_scope scope = {context, &owner, 1};
    found all = {mem_alloc_array(documents, sizeof *all.items), 0};
    must(retrieval_list(h->stores, &scope, item_add, &all));       /* ascending ids */
    size_t from = random_next(&w->seed) % (all.count - ERASED_AT_ONCE + 1);
    for (size_t i = 0; i < ERASED_AT_ONCE; i++) {                  /* scattered: any 500 */
        size_t pick = which ? i + random_next(&w->seed) % (all.count - i) : from + i;
        erasure_item taken = all.items[pick];
        all.items[pick] = all.items[i];
        all.items[i] = taken;
    }
    const erasure_request q = {.kind = ERASE_DOCUMENTS, .tenant = w->tenant, .items = all.items,
                               .item_count = ERASED_AT_ONCE, .requester = owner, .target = "document:bench"};
    erase(h, &q, out);
    mem_free(context);
    mem_free(all.items);
}

static void shell(const char *format, const char *folder, const char *name)
{
    char command[1200];
    snprintf(command, sizeof command, format, folder, name, folder, folder, name, folder, folder, name);
    if (system(command) != 0) exit(2);
}

/* A copy of a start folder, opened in a process of its own: both cases, in turn this and the other first. */
static void both(world *w, const options *o, const char *name, int first, sample out[2])
{
    int ends[2];
    shell("cp -a '%s/%s' '%s/now' && cp -a '%s/%s.root' '%s/now.root' && sync -f '%s/%s'", w->folder, name);
    uint64_t seed = random_next(&w->seed);
    if (pipe(ends) != 0) exit(2);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        house *h;
        config *c = mem_alloc(sizeof *c);
        w->seed = seed;
        settings_for(w->folder, "now", c);
        must(house_open(&h, c, NULL));
        must(acl_tenant_find(h->access, "harbour", &w->tenant));
        bool users = strcmp(name, "users") == 0;
        for (int i = 0; users && i < 2; i++) (void)user_of(h, w->tenant, i ? "big" : "small");
        for (int i = 0; i < 2; i++) {
            int which = first ^ i;
            if (users) erase_user(w, h, which, &out[which]);
            else erase_documents(w, h, o->documents, which, &out[which]);
        }
        bool sent = write(ends[1], out, 2 * sizeof *out) == (ssize_t)(2 * sizeof *out);
        house_close(&h);
        _exit(sent ? 0 : 2);
    }
    close(ends[1]);
    bool got = read(ends[0], out, 2 * sizeof *out) == (ssize_t)(2 * sizeof *out);
    int status = 1;
    close(ends[0]);
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0 || !got) {
        fprintf(stderr, "an erasure failed\n");
        exit(2);
    }
    shell("rm -rf '%s/now' '%s/now.root'", w->folder, w->folder);
}

static void all_of(world *w, const options *o, const char *name, sample *all)
{
    for (int i = 0; i < o->repeat; i++) {
        both(w, o, name, i % 2, all + 2 * i);
        fprintf(stderr, "# %s: %d of %d\n", name, i + 1, o->repeat);
    }
}

/* ---- figures ---------------------------------------------------------------------------------------------------- */
static const char *const STEP_NAMES[] = {"", "intent", "fence", "wipe", "new root", "tree", "commit", "unlink",
                                         "receipt"};

static int by_value(const void *a_, const void *b_)
{
    double a = *(const double *)a_, b = *(const double *)b_;
    return (a > b) - (a < b);
}

typedef double figure_fn(const sample *s, int step);
static double step_ms(const sample *s, int step) { return s->ms[step] - s->ms[step - 1]; }
static double step_sync_ms(const sample *s, int step) { return s->sync_ms[step] - s->sync_ms[step - 1]; }
static double step_cpu_ms(const sample *s, int step) { return s->cpu_ms[step] - s->cpu_ms[step - 1]; }
static double step_syncs(const sample *s, int step) { return s->syncs[step] - s->syncs[step - 1]; }
/* From the fence's beginning to the commit point, but for the wipe. */
static double commit_ms(const sample *s, int step)
{
    (void)step;
    return s->ms[6] - s->ms[1] - step_ms(s, 3);
}
static double commit_sync_ms(const sample *s, int step)
{
    (void)step;
    return s->sync_ms[6] - s->sync_ms[1] - step_sync_ms(s, 3);
}
static double commit_rest_ms(const sample *s, int step) { return commit_ms(s, step) - commit_sync_ms(s, step); }
static double commit_cpu_ms(const sample *s, int step)
{
    (void)step;
    return s->cpu_ms[6] - s->cpu_ms[1] - step_cpu_ms(s, 3);
}
static double whole_ms(const sample *s, int step) { (void)step; return s->ms[8] - s->ms[0]; }
static double whole_sync_ms(const sample *s, int step) { (void)step; return s->sync_ms[8] - s->sync_ms[0]; }
static double whole_rest_ms(const sample *s, int step) { return whole_ms(s, step) - whole_sync_ms(s, step); }
static double whole_cpu_ms(const sample *s, int step) { (void)step; return s->cpu_ms[8] - s->cpu_ms[0]; }
static double wipe_bytes(const sample *s, int step) { (void)step; return s->wiped[3] - s->wiped[2]; }
static double wipe_gb_s(const sample *s, int step) { return wipe_bytes(s, step) / step_ms(s, 3) / 1e6; }

static double wipe_cpu_gb_s(const sample *s, int step) { return wipe_bytes(s, step) / step_cpu_ms(s, 3) / 1e6; }

static double median(const sample *all, int n, int which, figure_fn *f, int step)
{
    static double sorted[REPEAT_MAX];
    for (int i = 0; i < n; i++) sorted[i] = f(&all[2 * i + which], step);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

static void table_line(const sample *all, int n, const char *name, int step, figure_fn *ms, figure_fn *sync,
                       figure_fn *cpu)
{
    printf("%-34s", name);
    for (int which = 0; which < 2; which++)
        printf(" %11.3f %9.3f %9.3f", median(all, n, which, ms, step), median(all, n, which, sync, step),
               median(all, n, which, cpu, step));
    if (step) printf(" %6.0f", median(all, n, 1, step_syncs, step));
    printf("\n");
}

static void table(const sample *all, int n, const char *one, const char *other)
{
    printf("%-34s %11s %9s %9s %11s %9s %9s %6s\n", "ms (median)", one, "sync", "cpu", other, "sync", "cpu", "syncs");
    for (int step = 1; step <= STEPS; step++)
        table_line(all, n, STEP_NAMES[step], step, step_ms, step_sync_ms, step_cpu_ms);
    table_line(all, n, "fence to commit, without the wipe", 0, commit_ms, commit_sync_ms, commit_cpu_ms);
    table_line(all, n, "whole", 0, whole_ms, whole_sync_ms, whole_cpu_ms);
}

static void csv_write(FILE *csv, const sample *all, int n, const char *one, const char *other)
{
    for (int i = 0; csv && i < 2 * n; i++) {
        fprintf(csv, "%s,%d,%.0f", i % 2 ? other : one, i / 2, wipe_bytes(&all[i], 3));
        for (int step = 1; step <= STEPS; step++)
            fprintf(csv, ",%.4f,%.4f,%.4f", step_ms(&all[i], step), step_sync_ms(&all[i], step),
                    step_cpu_ms(&all[i], step));
        fprintf(csv, "\n");
    }
}

static FILE *csv_open(const options *o)
{
    FILE *csv = o->csv ? fopen(o->csv, "w") : NULL;
    if (o->csv && !csv) must(fail_errno("cannot write the figures"));
    if (csv) fprintf(csv, "case,repetition,wiped_bytes");
    for (int step = 1; csv && step <= STEPS; step++)
        fprintf(csv, ",%s_ms,%s_sync_ms,%s_cpu_ms", STEP_NAMES[step], STEP_NAMES[step], STEP_NAMES[step]);
    if (csv) fprintf(csv, "\n");
    return csv;
}

/* True: within the limit. */
static bool verdict(const char *what, double value, const char *unit, bool good, const char *limit)
{
    printf("%-64s %9.3f %-5s (%s) %s\n", what, value, unit, limit, good ? "ok" : "MISSED");
    return good;
}

static bool users_measure(world *w, const options *o, FILE *csv, sample *all)
{
    all_of(w, o, "users", all);
    char name[32];
    snprintf(name, sizeof name, "%u chunks", o->chunks);
    printf("\na user of 1,000 chunks, of %u chunks; %d each\n", o->chunks, o->repeat);
    table(all, o->repeat, "1000 chunks", name);
    csv_write(csv, all, o->repeat, "user small", "user big");
    double ratio = median(all, o->repeat, 1, commit_ms, 0) / median(all, o->repeat, 0, commit_ms, 0),
           rest = median(all, o->repeat, 1, commit_rest_ms, 0) / median(all, o->repeat, 0, commit_rest_ms, 0),
           speed = median(all, o->repeat, 1, wipe_gb_s, 0);
    printf("wiped of the big user: %.1f MB\n", wipe_bytes(&all[1], 3) / 1e6);
    bool good = verdict("fence to commit, big over small", ratio, "", ratio <= 1.5, "<= 1.5");
    printf("%-64s %9.3f\n", "the same without waiting for the disk", rest);
    printf("%-64s %9.3f\n", "the same in processor time", median(all, o->repeat, 1, commit_cpu_ms, 0) /
           median(all, o->repeat, 0, commit_cpu_ms, 0));
    printf("%-64s %9.3f GB/s\n", "wiping memory, by processor time", median(all, o->repeat, 1, wipe_cpu_gb_s, 0));
    return verdict("wiping memory", speed, "GB/s", speed >= 5, ">= 5") && good;
}

static bool notes_measure(world *w, const options *o, FILE *csv, sample *all)
{
    all_of(w, o, "notes", all);
    printf("\n%d documents of %u of one owner as one request; %d each\n", ERASED_AT_ONCE, o->documents, o->repeat);
    table(all, o->repeat, "neighbours", "scattered");
    csv_write(csv, all, o->repeat, "documents neighbours", "documents scattered");
    double near = median(all, o->repeat, 0, commit_rest_ms, 0), far = median(all, o->repeat, 1, commit_rest_ms, 0);
    printf("%-64s %9.3f ms\n", "neighbours, whole (unlinking and the receipt too), beyond the syncs",
           median(all, o->repeat, 0, whole_rest_ms, 0));
    printf("%-64s %9.3f ms\n", "scattered, whole, beyond the syncs", median(all, o->repeat, 1, whole_rest_ms, 0));
    bool good = verdict("neighbours, fence to commit, beyond the syncs", near, "ms", near <= 10, "<= 10");
    return verdict("scattered, fence to commit, beyond the syncs", far, "ms", far <= 100, "<= 100") && good;
}

/* ---- beside another database (bench_erase.py) ----------------------------------------------------------------- */
/* First: two users of half the chunks each in DIR/house, and in DIR/chunks what they are: dimensions u32, and chunks
 * as text_dump writes them, 0: of the user who is erased then. The second call erases, and tells how long it took. */
static void beside_make(world *w, const options *o)
{
    char path[400];
    house *h = house_make(w, "house");
    uint32_t dimensions = embedder_dimensions(h->stores->embedder);
    snprintf(path, sizeof path, "%s/chunks", w->folder);
    w->dump = fopen(path, "wb");
    if (w->dump == NULL) must(fail_errno("cannot write the chunks"));
    fwrite(&dimensions, sizeof dimensions, 1, w->dump);
    user_make(w, h, "erased", o->chunks / 2 / DOCUMENT_CHUNKS, DOCUMENT_CHUNKS, CHUNK_WORDS);
    w->dumped_user = 1;
    user_make(w, h, "kept", o->chunks / 2 / DOCUMENT_CHUNKS, DOCUMENT_CHUNKS, CHUNK_WORDS);
    if (fclose(w->dump) != 0) must(fail_errno("cannot write the chunks"));
    w->dump = NULL;
    house_close(&h);
}

static void beside_erase(world *w)
{
    house *h;
    sample taken = {0};
    config *c = mem_alloc(sizeof *c);
    settings_for(w->folder, "house", c);
    must(house_open(&h, c, NULL));
    must(acl_tenant_find(h->access, "harbour", &w->tenant));
    const erasure_request q = {.kind = ERASE_OWNER, .tenant = w->tenant,
        .owner = user_of(h, w->tenant, "erased"), .target = "user:bench"};
    erase(h, &q, &taken);
    printf("fence_to_commit_ms %.3f\nwhole_ms %.3f\nwhole_sync_ms %.3f\n", taken.ms[6] - taken.ms[1],
           whole_ms(&taken, 0), whole_sync_ms(&taken, 0));
    house_close(&h);
    mem_free(c);
}

static int beside(world *w, const options *o)
{
    char path[400];
    snprintf(w->folder, sizeof w->folder, "%s", o->beside);
    snprintf(path, sizeof path, "%s/house", w->folder);
    if (access(path, F_OK) == 0) beside_erase(w);
    else beside_make(w, o);
    mem_free(w);
    return 0;
}

static options parse(int argc, char **argv)
{
    options o = {.chunks = 1000000, .documents = 100000, .repeat = 20, .seed = 1};
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(flag, "--keep") == 0) {
            o.keep = true;
            continue;
        }
        if (value == NULL) goto usage;
        if (strcmp(flag, "--chunks") == 0) o.chunks = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(flag, "--documents") == 0) o.documents = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(flag, "--repeat") == 0) o.repeat = atoi(value);
        else if (strcmp(flag, "--seed") == 0) o.seed = strtoull(value, NULL, 10);
        else if (strcmp(flag, "--csv") == 0) o.csv = value;
        else if (strcmp(flag, "--folder") == 0) o.under = value;
        else if (strcmp(flag, "--start") == 0) o.start = value;
        else if (strcmp(flag, "--case") == 0) o.only = value;
        else if (strcmp(flag, "--beside") == 0) o.beside = value;
        else goto usage;
        i++;
    }
    if (o.chunks % DOCUMENT_CHUNKS == 0 && o.chunks >= SMALL_CHUNKS && o.documents >= 2 * ERASED_AT_ONCE &&
        o.repeat > 0 && o.repeat <= REPEAT_MAX)
        return o;
usage:
    fprintf(stderr, "usage: bench_erase [--chunks N (by 100)] [--documents N] [--repeat R] [--seed N] [--folder DIR] "
                    "[--csv FILE] [--keep] [--start DIR] [--case users|documents] [--beside DIR]\n");
    exit(2);
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    log_level_set(LOG_WARN);
    world *w = mem_alloc(sizeof *w);
    w->seed = o.seed;
    if (o.beside) return beside(w, &o);
    if (o.start) snprintf(w->folder, sizeof w->folder, "%s", o.start);
    else snprintf(w->folder, sizeof w->folder, "%s/bench_erase.XXXXXX", o.under ? o.under : getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!o.start && mkdtemp(w->folder) == NULL) must(fail_errno("cannot make a folder"));
    printf("# seed %llu, %ld processors, in %s\n", (unsigned long long)o.seed, sysconf(_SC_NPROCESSORS_ONLN),
           w->folder);
    if (!o.start) start_make(w, &o);
    FILE *csv = csv_open(&o);
    sample *all = mem_alloc_array(2 * (size_t)o.repeat, sizeof *all);
    bool good = true;
    if (is_wanted(&o, "documents")) good = notes_measure(w, &o, csv, all);
    if (is_wanted(&o, "users")) good = users_measure(w, &o, csv, all) && good;
    if (csv) fclose(csv);
    if (!o.keep && !o.start) shell("rm -rf '%s%s'", w->folder, "");
    mem_free(all);
    mem_free(w);
    return good ? 0 : 1;
}
