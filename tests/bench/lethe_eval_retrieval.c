/* Retrieval quality, through the same code as the server's: a temporary key tree and store,
 * documents by retrieval_put, questions by the search that retrieval_search runs.
 *
 *   lethe_eval_retrieval --embedder DIR --cranfield DIR [options]
 *       documents of docs.jsonl (title, then text), queries.jsonl, qrels.tsv; a document's rank is
 *       that of its best chunk. nDCG@10 (linear gain, all queries averaged), recall@10 (grade >= 1).
 *   lethe_eval_retrieval --embedder DIR --qa FILE.jsonl[.gz] [options]
 *       each different context once; of the answerable questions: recall@1/5/10 of the passage, its
 *       mean reciprocal rank at 10, and answer@1/3/5: the chunk with the answer is among the first.
 * Options, to try other weights than the server's: --k1 F --b F --document F (share of
 * document-level evidence), --dense F (dense share), --window F, --rarity F, --passages N (feedback; 0: none),
 * --words N, --share F, --sharpness F, --chunk BYTES, --every N (use each Nth question), --mode dense|lexical|hybrid
 * (only one), --probe-chunks-min N, --probe-percent N (as the server's settings; the former 1: always). A .gz file is
 * read through the gzip program. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "search.h"

enum { DEPTH = 10, HITS = 40, MODES = 3, GRADES_MAX = 64 };
static const char *const MODE_NAMES[MODES] = {"hybrid", "dense", "lexical"};

typedef struct { id128 id; char *name; } put_document;         /* sorted by id once all are put */
typedef struct { char *text; char *gold; size_t answer;
                 uint32_t relevant[GRADES_MAX]; float grade[GRADES_MAX];
                 uint32_t relevant_count; } question;

typedef struct {
    retrieval *r;
    keytree *keys;
    root_holder *root;
    id128 tenant, owner;
    ifc_context context;
    char dir[256];
    put_document *documents;
    size_t document_count, document_capacity;
    question *questions;
    size_t question_count, question_capacity;
    retrieval_input batch[RETRIEVAL_BATCH_MAX];
    char *names[RETRIEVAL_BATCH_MAX], *texts[RETRIEVAL_BATCH_MAX];
    size_t batch_count;
    search_weights weights;
    uint32_t every, chunk, probe_chunks_min, probe_percent;
    int only_mode;
} evaluation;

static _Noreturn void die(const char *what, result r)
{
    fprintf(stderr, "lethe_eval_retrieval: %s: %s %s\n", what, error_code_name(r.code), r.message);
    exit(1);
}

static void must(const char *what, result r)
{
    if (!is_ok(r)) die(what, r);
}

/* ---- the collection -------------------------------------------------------------------------- */

static void open_house(evaluation *e, const char *embedder)
{
    char keys[300], root[300], data[300];
    const char *base = getenv("TMPDIR");
    snprintf(e->dir, sizeof e->dir, "%s/lethe-eval-XXXXXX", base ? base : "/tmp");
    if (mkdtemp(e->dir) == NULL) die("temporary folder", fail_errno("mkdtemp"));
    snprintf(data, sizeof data, "%s/data", e->dir);
    snprintf(keys, sizeof keys, "%s/data/keytree", e->dir);
    snprintf(root, sizeof root, "%s/root", e->dir);
    must("data folder", dir_make(data, 0700));
    must("root", root_file_open(&e->root, root, true));
    must("key tree", keytree_create(&e->keys, keys, NULL, e->root));
    e->tenant = id_random();
    e->owner = id_random();
    keytree_node nodes[] = {keytree_tenant(e->tenant), keytree_owner(e->tenant, e->owner)};
    must("keys", keytree_add(e->keys, nodes, 2));
    must("context", ifc_context_init(&e->context, e->tenant, e->owner, &e->owner, 1));
    must("retrieval", retrieval_open(&e->r, &(retrieval_options){
        .data_dir = data, .embedder_dir = embedder, .keys = e->keys, .chunk_target_bytes = e->chunk,
        .probe_chunks_min = e->probe_chunks_min, .probe_percent = e->probe_percent}));
}

static void close_house(evaluation *e)
{
    char command[300];
    retrieval_close(&e->r);
    keytree_close(&e->keys);
    root_holder_close(&e->root);
    snprintf(command, sizeof command, "rm -rf '%s'", e->dir);
    if (system(command) != 0) fprintf(stderr, "could not remove %s\n", e->dir);
}

static void flush_batch(evaluation *e)
{
    static retrieval_stored stored[RETRIEVAL_BATCH_MAX];
    if (e->batch_count == 0) return;
    must("put", retrieval_put(e->r, e->tenant, e->owner, e->batch, e->batch_count, stored));
    for (size_t i = 0; i < e->batch_count; i++) {
        if (stored[i].code != E_OK)
            fprintf(stderr, "document %s is left out: %s\n", e->names[i], stored[i].reason);
        if (e->document_count == e->document_capacity) {
            e->document_capacity = e->document_capacity * 2 + 64;
            e->documents = mem_realloc(e->documents, e->document_capacity * sizeof *e->documents);
        }
        if (stored[i].code == E_OK)
            e->documents[e->document_count++] = (put_document){stored[i].id, e->names[i]};
        mem_free(e->texts[i]);
    }
    e->batch_count = 0;
}

static void put_text(evaluation *e, const char *name, const char *text)
{
    size_t i = e->batch_count++;
    e->names[i] = mem_strdup(name);
    e->texts[i] = mem_strdup(text);
    e->batch[i] = (retrieval_input){.path = e->names[i], .media_type = "text/plain",
                                    .content = bytes_str(e->texts[i])};
    random_bytes(e->batch[i].nonce, sizeof e->batch[i].nonce);
    ifc_label_public(&e->batch[i].label);
    must("label", ifc_label_secrecy_add(&e->batch[i].label, &e->owner, 1));
    if (e->batch_count == RETRIEVAL_BATCH_MAX) flush_batch(e);
}

static int by_id(const void *a, const void *b)
{
    return id_compare(((const put_document *)a)->id, ((const put_document *)b)->id);
}

static const char *name_of(const evaluation *e, id128 id)
{
    put_document key = {id, NULL};
    const put_document *d =
        bsearch(&key, e->documents, e->document_count, sizeof *e->documents, by_id);
    return d == NULL ? "" : d->name;
}

static question *add_question(evaluation *e, const char *text)
{
    if (e->question_count == e->question_capacity) {
        e->question_capacity = e->question_capacity * 2 + 64;
        e->questions = mem_realloc(e->questions, e->question_capacity * sizeof *e->questions);
    }
    question *q = &e->questions[e->question_count++];
    memset(q, 0, sizeof *q);
    q->text = mem_strdup(text);
    return q;
}

/* ---- files ----------------------------------------------------------------------------------- */

static void each_line(const char *path, void (*visit)(evaluation *e, char *line), evaluation *e)
{
    char command[4200], *line = NULL;
    size_t capacity = 0, size = strlen(path);
    bool packed = size > 3 && strcmp(path + size - 3, ".gz") == 0;
    snprintf(command, sizeof command, "exec gzip -dc '%s'", path);
    FILE *f = packed ? popen(command, "r") : fopen(path, "r");
    if (f == NULL) die(path, fail_errno("cannot open"));
    while (getline(&line, &capacity, f) > 0) visit(e, line);
    free(line);
    if (packed) pclose(f);
    else fclose(f);
}

static const char *text_of(const cJSON *row, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, name));
    return text == NULL ? "" : text;
}

static void cranfield_document(evaluation *e, char *line)
{
    cJSON *row = cJSON_Parse(line);
    buf b;
    buf_init(&b, 1 << 24);
    buf_printf(&b, "%s\n\n%s\n", text_of(row, "title"), text_of(row, "text"));
    put_text(e, text_of(row, "id"), (const char *)b.data);
    buf_free(&b);
    cJSON_Delete(row);
}

static void cranfield_query(evaluation *e, char *line)
{
    cJSON *row = cJSON_Parse(line);
    add_question(e, text_of(row, "text"));
    cJSON_Delete(row);
}

static void cranfield_judgement(evaluation *e, char *line)
{
    unsigned query, document;
    float grade;
    if (sscanf(line, "%u %u %f", &query, &document, &grade) != 3 || grade < 1) return;
    if (query == 0 || query > e->question_count) return;
    question *q = &e->questions[query - 1];
    if (q->relevant_count == GRADES_MAX) return;
    q->relevant[q->relevant_count] = document;
    q->grade[q->relevant_count++] = grade;
}

/* The same text stands under several ids: it is put once, and a question's gold is where it was
 * put. */
typedef struct { uint8_t hash[HASH_BYTES]; char *name; } context;
static context *contexts;
static size_t context_count, context_capacity;

static const char *put_context(evaluation *e, const char *name, const char *text)
{
    context c;
    hash_plain("context", bytes_str(text), c.hash);
    for (size_t i = context_count; i-- > 0;)
        if (memcmp(contexts[i].hash, c.hash, sizeof c.hash) == 0) return contexts[i].name;
    if (context_count == context_capacity) {
        context_capacity = context_capacity * 2 + 64;
        contexts = mem_realloc(contexts, context_capacity * sizeof *contexts);
    }
    c.name = mem_strdup(name);
    contexts[context_count++] = c;
    put_text(e, name, text);
    return c.name;
}

/* From a count of characters to one of bytes. */
static size_t byte_offset(const char *text, double chars)
{
    size_t at = 0;
    for (bytes b = bytes_str(text); chars >= 1 && at < b.size; chars--) (void)utf8_next(b, &at);
    return at;
}

static void qa_row(evaluation *e, char *line)
{
    cJSON *row = cJSON_Parse(line);
    const char *gold = put_context(e, text_of(row, "context_id"), text_of(row, "context"));
    const cJSON *answerable = cJSON_GetObjectItemCaseSensitive(row, "answerable");
    if (answerable == NULL || cJSON_IsTrue(answerable)) {
        question *q = add_question(e, text_of(row, "question"));
        q->gold = mem_strdup(gold);
        q->answer = byte_offset(text_of(row, "context"), cJSON_GetNumberValue(
            cJSON_GetObjectItemCaseSensitive(row, "answer_start")));
    }
    cJSON_Delete(row);
}

/* ---- measuring ------------------------------------------------------------------------------- */

typedef struct { double ndcg, recall, at1, at5, mrr, answer1, answer3,
    answer5; size_t count; } figures;

/* Where the chunk that holds the answer's beginning stands among the hits. */
static void score_answer(evaluation *e, const question *q, const retrieval_hit *hits, size_t count,
                         figures *f)
{
    for (size_t i = 0; i < count && i < 5; i++) {
        if (hits[i].start > q->answer || hits[i].end <= q->answer ||
            strcmp(name_of(e, hits[i].document), q->gold) != 0) continue;
        f->answer1 += i == 0;
        f->answer3 += i < 3;
        f->answer5 += 1;
        return;
    }
}

/* Names of the best documents, one for each document, best chunk first. */
static size_t ranked(evaluation *e, const question *q, search_mode mode, arena *a,
                     const char *names[DEPTH], figures *f)
{
    retrieval_scope scope = {&e->context, &e->owner, 1};
    retrieval_hit *hits;
    size_t count, found = 0;
    must("search", search_with(e->r, &scope, q->text, HITS, mode, &e->weights, a, &hits, &count));
    if (q->gold != NULL) score_answer(e, q, hits, count, f);
    id128 seen[DEPTH];
    for (size_t i = 0; i < count && found < DEPTH; i++) {
        size_t j = 0;
        while (j < found && !id_equal(seen[j], hits[i].document)) j++;
        if (j < found) continue;
        seen[found] = hits[i].document;
        names[found++] = name_of(e, hits[i].document);
    }
    arena_reset(a);
    return found;
}

static void score_graded(const question *q, const char *const *names, size_t found, figures *f)
{
    float ideal[GRADES_MAX];
    double gain = 0, best = 0;
    size_t hit = 0;
    for (size_t i = 0; i < found; i++)
        for (uint32_t j = 0; j < q->relevant_count; j++)
            if ((uint32_t)strtoul(names[i], NULL, 10) == q->relevant[j]) {
                gain += (double)q->grade[j] / log2((double)i + 2);
                hit++;
            }
    memcpy(ideal, q->grade, sizeof ideal);
    for (uint32_t i = 0; i < q->relevant_count; i++)
        for (uint32_t j = i + 1; j < q->relevant_count; j++)
            if (ideal[j] > ideal[i]) {
                float swap = ideal[i];
                ideal[i] = ideal[j];
                ideal[j] = swap;
            }
    for (uint32_t i = 0; i < q->relevant_count && i < DEPTH; i++)
        best += (double)ideal[i] / log2((double)i + 2);
    f->ndcg += best > 0 ? gain / best : 0;
    f->recall += q->relevant_count ? (double)hit / q->relevant_count : 0;
    f->count++;
}

static void score_gold(const question *q, const char *const *names, size_t found, figures *f)
{
    size_t rank = 0;
    while (rank < found && strcmp(names[rank], q->gold) != 0) rank++;
    f->count++;
    if (rank == found) return;
    f->at1 += rank == 0;
    f->at5 += rank < 5;
    f->recall += 1;
    f->mrr += 1 / ((double)rank + 1);
}

static void measure(evaluation *e, bool graded)
{
    arena *a;
    arena_open(&a, (size_t)256 << 20);
    if (graded) printf("%-8s %8s %10s\n", "", "nDCG@10", "recall@10");
    else printf("%-8s %8s %8s %9s %8s %8s %8s %8s\n", "", "recall@1", "recall@5", "recall@10",
                "MRR@10",
                "answer@1", "answer@3", "answer@5");
    for (int mode = MODES - 1; mode >= 0; mode--) {
        figures f = {0};
        if (e->only_mode >= 0 && e->only_mode != mode) continue;
        for (size_t i = 0; i < e->question_count; i += e->every) {
            const char *names[DEPTH];
            size_t found = ranked(e, &e->questions[i], (search_mode)mode, a, names, &f);
            if (graded) score_graded(&e->questions[i], names, found, &f);
            else score_gold(&e->questions[i], names, found, &f);
        }
        double n = (double)f.count;
        if (graded) printf("%-8s %8.4f %10.4f\n", MODE_NAMES[mode], f.ndcg / n, f.recall / n);
        else printf("%-8s %8.4f %8.4f %9.4f %8.4f %8.4f %8.4f %8.4f\n", MODE_NAMES[mode], f.at1 / n,
                    f.at5 / n, f.recall / n, f.mrr / n, f.answer1 / n, f.answer3 / n,
                        f.answer5 / n);
        fflush(stdout);
    }
    arena_close(&a);
}

static void load_cranfield(evaluation *e, const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/docs.jsonl", dir);
    each_line(path, cranfield_document, e);
    snprintf(path, sizeof path, "%s/queries.jsonl", dir);
    each_line(path, cranfield_query, e);
    snprintf(path, sizeof path, "%s/qrels.tsv", dir);
    each_line(path, cranfield_judgement, e);
}

static void set_option(evaluation *e, const char *name, const char *value)
{
    float v = strtof(value, NULL);
    if (strcmp(name, "--k1") == 0) e->weights.lexical.k1 = v;
    else if (strcmp(name, "--b") == 0) e->weights.lexical.b = v;
    else if (strcmp(name, "--document") == 0) e->weights.lexical.document_share = v;
    else if (strcmp(name, "--dense") == 0) e->weights.dense_share = v;
    else if (strcmp(name, "--window") == 0) e->weights.window_share = v;
    else if (strcmp(name, "--rarity") == 0) e->weights.rarity = v;
    else if (strcmp(name, "--passages") == 0) e->weights.feedback.passages = (uint32_t)v;
    else if (strcmp(name, "--words") == 0) e->weights.feedback.words = (uint32_t)v;
    else if (strcmp(name, "--share") == 0) e->weights.feedback.share = v;
    else if (strcmp(name, "--sharpness") == 0) e->weights.feedback.sharpness = v;
    else if (strcmp(name, "--chunk") == 0) e->chunk = (uint32_t)v;
    else if (strcmp(name, "--every") == 0) e->every = v >= 1 ? (uint32_t)v : 1;
    else if (strcmp(name, "--probe-chunks-min") == 0) e->probe_chunks_min = (uint32_t)v;
    else if (strcmp(name, "--probe-percent") == 0) e->probe_percent = (uint32_t)v;
    else if (strcmp(name, "--mode") == 0)
        for (int m = 0; m < MODES; m++)
            e->only_mode = strcmp(value, MODE_NAMES[m]) ? e->only_mode : m;
    else die(name, fail(E_INVALID, "unknown option"));
}

int main(int argc, char **argv)
{
    static evaluation e;
    const char *embedder = NULL, *cranfield = NULL, *qa = NULL;
    e.weights = SEARCH_WEIGHTS;
    e.every = 1;
    e.only_mode = -1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--embedder") == 0) embedder = argv[i + 1];
        else if (strcmp(argv[i], "--cranfield") == 0) cranfield = argv[i + 1];
        else if (strcmp(argv[i], "--qa") == 0) qa = argv[i + 1];
        else set_option(&e, argv[i], argv[i + 1]);
    }
    if (embedder == NULL || (cranfield == NULL) == (qa == NULL) || argc % 2 == 0) {
        fprintf(stderr, "usage: %s --embedder DIR (--cranfield DIR | --qa FILE) [options]\n",
                argv[0]);
        return 2;
    }
    open_house(&e, embedder);
    if (cranfield != NULL) load_cranfield(&e, cranfield);
    else each_line(qa, qa_row, &e);
    flush_batch(&e);
    qsort(e.documents, e.document_count, sizeof *e.documents, by_id);
    retrieval_usage usage;
    must("usage", retrieval_usage_of(e.r, e.tenant, e.owner, &usage));
    printf("%llu documents, %llu chunks, %zu questions\n", (unsigned long long)usage.documents,
           (unsigned long long)usage.chunks, (e.question_count + e.every - 1) / e.every);
    measure(&e, cranfield != NULL);
    close_house(&e);
    return 0;
}
