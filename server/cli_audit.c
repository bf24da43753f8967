/* audit: is what was erased gone? Invented persons are asked about before their documents are put, while they are
 * there, and after they are erased; others, asked about alike, are never put. After the erasure everything that the
 * server sends must be what it sent before, bit for bit.
 *
 * While they are there the probes must find them, or the audit could not see a leak: that is its own control. */
#include "cli.h"

#include "audit_client.h"
#include "audit_scan.h"
#include "canonical.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BEFORE, PLANTED, AFTER, PHASES };
enum { SUBJECTS_DEFAULT = 2, SUBJECTS_MAX = 100, RUN_BYTES = 4 };
static const char *const phase_names[PHASES] = {"before planting", "planted", "after erasure"};

typedef struct {
    audit_client client;
    bool bar;
    uint64_t seed;
    uint32_t members, people;            /* the members come first, then as many others, then one bystander */
    audit_subject *who;                  /* (people + 1) */
    char (*ids)[ID_TEXT_BYTES];          /* (members, AUDIT_DOCUMENTS), while planted and after */
    audit_seen *seen[PHASES];            /* (people, AUDIT_FACTS, PROBE_CLASSES) */
    double *signals[PHASES];             /* (people, AUDIT_FACTS, AUDIT_ATTACKS) */
    audit_residue residue;
    bool scanned;
} audit;

static volatile sig_atomic_t interrupted;
static void on_interrupt(int number) { interrupted = number; }

static result going_on(void)
{
    return interrupted ? fail(E_CANCELLED, "interrupted; what was planted is being erased") : OK;
}

static audit_seen *seen_at(const audit *a, int phase, uint32_t person, uint32_t fact, int class)
{
    return &a->seen[phase][(person * AUDIT_FACTS + fact) * PROBE_CLASSES + (uint32_t)class];
}

/* ---- the three phases ---- */
static result plant(audit *a, uint32_t person, char (*ids)[ID_TEXT_BYTES])
{
    for (uint32_t d = 0; d < AUDIT_DOCUMENTS; d++) {
        char path[256];
        TRY(going_on());
        snprintf(path, sizeof path, "%s%u/%s", a->client.prefix, person, AUDIT_DOCUMENT_NAMES[d]);
        TRY(audit_put(&a->client, path, a->who[person].documents[d], ids[d]));
    }
    return OK;
}

static result probe(audit *a, int phase)
{
    size_t total = (size_t)a->people * AUDIT_FACTS, done = 0;
    for (uint32_t person = 0; person < a->people; person++)
        for (uint32_t fact = 0; fact < AUDIT_FACTS; fact++) {
            bool member = person < a->members && phase != BEFORE;
            if (a->bar) fprintf(stderr, "\r%-16s %4zu of %zu", phase_names[phase], ++done, total);
            for (int class = 0; class < PROBE_CLASSES; class++) {
                TRY(going_on());
                TRY(audit_look(&a->client, &a->who[person], fact, (probe_class)class, phase == BEFORE,
                               member ? &a->ids[person * AUDIT_DOCUMENTS] : NULL, member ? AUDIT_DOCUMENTS : 0,
                               seen_at(a, phase, person, fact, class)));
            }
            double *signals = &a->signals[phase][(person * AUDIT_FACTS + fact) * AUDIT_ATTACKS];
            result r = audit_signals(&a->client, &a->who[person], fact, signals);
            if (is_ok(r)) continue;
            if (phase != AFTER) return r;
            /* A call that fails where it did not before is a difference like any other. */
            for (int i = 0; i < AUDIT_ATTACKS; i++) signals[i] = -HUGE_VAL;
        }
    if (a->bar) fputs("\r\33[K", stderr);
    return OK;
}

static result residue_scan(audit *a)
{
    const cli *c = a->client.c;
    if (c->data == NULL && c->log == NULL) return OK;
    enum { PER = 2 * (1 + AUDIT_FACTS) };
    audit_pattern *patterns = mem_alloc_array((size_t)a->members * PER, sizeof *patterns);
    for (uint32_t m = 0; m < a->members; m++) {
        audit_pattern *at = &patterns[m * PER];
        audit_pattern_make(a->who[m].name, at);
        for (uint32_t f = 0; f < AUDIT_FACTS; f++) audit_pattern_make(a->who[m].values[f], at + 2 + 2 * f);
    }
    result r = OK;
    if (c->data) r = audit_scan(c->data, patterns, (size_t)a->members * PER, &a->residue);
    if (is_ok(r) && c->log) r = audit_scan(c->log, patterns, (size_t)a->members * PER, &a->residue);
    mem_free(patterns);
    a->scanned = is_ok(r);
    return r;
}

static result run_phases(audit *a)
{
    char bystander[AUDIT_DOCUMENTS][ID_TEXT_BYTES];
    TRY(audit_generator(&a->client, &a->client.generative));
    TRY(plant(a, a->people, bystander));
    TRY(probe(a, BEFORE));
    for (uint32_t m = 0; m < a->members; m++) TRY(plant(a, m, &a->ids[m * AUDIT_DOCUMENTS]));
    TRY(probe(a, PLANTED));
    for (uint32_t d = 0; d < a->members * AUDIT_DOCUMENTS; d++) {
        TRY(going_on());
        TRY(audit_erase(&a->client, a->ids[d]));
    }
    TRY(probe(a, AFTER));
    return residue_scan(a);
}

/* ---- what came out ---- */
typedef struct { uint32_t n, leaks[PHASES], answered, cited, retrieved, equal; double score, rank; } class_figures;

static bool leaks(const audit_seen *s) { return s->answered || s->cited || s->retrieved; }

/* Of the members; equal counts the others, too. answered, cited, retrieved: while planted. */
static class_figures class_count(const audit *a, int class)
{
    class_figures f = {0};
    for (uint32_t person = 0; person < a->people; person++)
        for (uint32_t fact = 0; fact < AUDIT_FACTS; fact++) {
            const audit_seen *before = seen_at(a, BEFORE, person, fact, class);
            const audit_seen *planted = seen_at(a, PLANTED, person, fact, class);
            const audit_seen *after = seen_at(a, AFTER, person, fact, class);
            f.equal += memcmp(before->hash, after->hash, HASH_BYTES) == 0;
            if (person >= a->members) continue;
            f.n++;
            f.leaks[BEFORE] += leaks(before);
            f.leaks[PLANTED] += leaks(planted);
            f.leaks[AFTER] += leaks(after);
            f.answered += planted->answered;
            f.cited += planted->cited;
            f.retrieved += planted->retrieved;
            f.rank += planted->rank ? 1.0 / planted->rank : 0;
        }
    f.rank /= f.n;
    return f;
}

typedef struct { double auc_before, auc_planted, gain_planted, auc_after, gain_after, delta; uint32_t n; } attack_figures;

/* How far each text's signal moved from what it was before planting: so a text's own difficulty cancels. */
static void moved(const audit *a, int phase, int attack, double *out)
{
    for (uint32_t i = 0; i < a->people * AUDIT_FACTS; i++) {
        double now = a->signals[phase][i * AUDIT_ATTACKS + (uint32_t)attack];
        out[i] = phase == BEFORE ? now : now - a->signals[BEFORE][i * AUDIT_ATTACKS + (uint32_t)attack];
    }
}

static attack_figures attack_count(const audit *a, int attack)
{
    uint32_t n = a->members * AUDIT_FACTS;
    double *all = mem_alloc_array((size_t)a->people * AUDIT_FACTS, sizeof *all);
    attack_figures f = {.n = n};
    moved(a, BEFORE, attack, all);
    f.auc_before = audit_auc(all, n, all + n, n);
    moved(a, PLANTED, attack, all);
    f.auc_planted = audit_auc(all, n, all + n, n);
    f.gain_planted = audit_advantage(all, n, all + n, n);
    moved(a, AFTER, attack, all);
    f.auc_after = audit_auc(all, n, all + n, n);
    f.gain_after = audit_advantage(all, n, all + n, n);
    for (uint32_t i = 0; i < 2 * n; i++)
        if (!(fabs(all[i]) <= f.delta)) f.delta = fabs(all[i]);
    mem_free(all);
    return f;
}

/* ---- report ---- */
static int attack_number(const audit *a) { return a->client.generative ? AUDIT_ATTACKS : 2; }

/* "clean", or the first thing that is not. */
static const char *verdict(const audit *a)
{
    uint32_t found = 0;
    for (int class = 0; class < PROBE_CLASSES; class++) {
        const class_figures f = class_count(a, class);
        if (f.leaks[AFTER] > f.leaks[BEFORE]) return "leak";
        if (f.equal != 2 * f.n) return "different";
        found += f.leaks[PLANTED];
    }
    for (int i = 0; i < attack_number(a); i++)
        if (!(attack_count(a, i).delta <= 0)) return "different";
    if (a->residue.found) return "residue";
    return found ? "clean" : "blind";
}

static void add_text(cJSON *o, const char *prefix, const char *name, const char *text)
{
    char key[64];
    snprintf(key, sizeof key, "%s%s", prefix, name);
    cJSON_AddStringToObject(o, key, text);
}

static result report_make(const audit *a, buf *out)
{
    char text[256];
    cJSON *o = cJSON_CreateObject();
    snprintf(text, sizeof text, "%llu", (unsigned long long)a->seed);
    cJSON_AddStringToObject(o, "seed", text);
    cJSON_AddNumberToObject(o, "subjects", a->members);
    cJSON_AddStringToObject(o, "first_subject", a->who[0].name);
    cJSON_AddStringToObject(o, "answers", a->client.generative ? "generative" : "extractive");
    cJSON_AddStringToObject(o, "verdict", verdict(a));
    for (int class = 0; class < PROBE_CLASSES; class++) {
        const class_figures f = class_count(a, class);
        snprintf(text, sizeof text, "n=%u leaks_before=%u leaks_planted=%u (answered=%u cited=%u retrieved=%u "
                 "mean_reciprocal_rank=%.3f) leaks_after=%u equal=%u of %u", f.n, f.leaks[BEFORE], f.leaks[PLANTED],
                 f.answered, f.cited, f.retrieved, f.rank, f.leaks[AFTER], f.equal, 2 * f.n);
        add_text(o, "probe_", PROBE_NAMES[class], text);
    }
    for (int i = 0; i < attack_number(a); i++) {
        const attack_figures f = attack_count(a, i);
        snprintf(text, sizeof text, "n=%u+%u auc_before=%.3f auc_planted=%.3f advantage_planted=%.3f auc_after=%.3f "
                 "advantage_after=%.3f max_difference_after=%.9g", f.n, f.n, f.auc_before, f.auc_planted,
                 f.gain_planted, f.auc_after, f.gain_after, f.delta);
        add_text(o, "attack_", AUDIT_ATTACK_NAMES[i], text);
    }
    if (a->scanned) {
        snprintf(text, sizeof text, "files=%llu bytes=%llu found=%llu", (unsigned long long)a->residue.files,
                 (unsigned long long)a->residue.bytes, (unsigned long long)a->residue.found);
        cJSON_AddStringToObject(o, "residue", text);
    }
    canonical_sort(o);
    bool good = canonical_write(o, NULL, out);
    cJSON_Delete(o);
    buf_append_u8(out, 0);
    return good ? buf_check(out) : fail(E_INTERNAL, "the report has no canonical form");
}

static void table_print(const audit *a)
{
    printf("%u invented persons, %u of whom nothing was ever put; seed %llu; %s answers\n\n", a->people,
           a->people - a->members, (unsigned long long)a->seed, a->client.generative ? "generative" : "extractive");
    printf("%-20s %5s %14s %14s %14s %12s\n", "probe", "n", "leaks before", "while there", "after erasure",
           "bit-equal");
    for (int class = 0; class < PROBE_CLASSES; class++) {
        const class_figures f = class_count(a, class);
        printf("%-20s %5u %14u %14u %14u %7u/%u\n", PROBE_NAMES[class], f.n, f.leaks[BEFORE], f.leaks[PLANTED],
               f.leaks[AFTER], f.equal, 2 * f.n);
    }
    printf("\n%-20s %5s %14s %14s %14s %12s\n", "membership by", "n", "AUC there", "advantage", "AUC after",
           "difference");
    for (int i = 0; i < attack_number(a); i++) {
        const attack_figures f = attack_count(a, i);
        printf("%-20s %5u %14.3f %14.3f %14.3f %12.9g\n", AUDIT_ATTACK_NAMES[i], 2 * f.n, f.auc_planted,
               f.gain_planted, f.auc_after, f.delta);
    }
    if (a->scanned)
        printf("\nresidue: %llu found in %llu files, %.1f MB%s%s\n", (unsigned long long)a->residue.found,
               (unsigned long long)a->residue.files, (double)a->residue.bytes / 1e6,
               a->residue.found ? ", first in " : "", a->residue.first);
    const char *v = verdict(a);
    printf("\n%s\n", strcmp(v, "clean") == 0 ? "clean: nothing leaked, and all is as before planting, bit for bit"
                   : strcmp(v, "leak") == 0 ? "LEAK: something erased can still be seen"
                   : strcmp(v, "different") == 0 ? "DIFFERENT: not as before planting (did somebody write meanwhile?)"
                   : strcmp(v, "residue") == 0 ? "RESIDUE: something erased stands in a file"
                   : "BLIND: the probes found nothing even while it was there; this shows nothing");
}

/* ---- the verb ---- */
static int report_give(audit *a)
{
    cli *c = a->client.c;
    char *signed_report;
    buf report;
    buf_init(&report, 1 << 20);
    result r = report_make(a, &report);
    if (is_ok(r)) r = audit_record(&a->client, (const char *)report.data, &signed_report);
    if (is_ok(r) && c->report) r = file_write_atomic(c->report, bytes_str(signed_report), 0600);
    if (is_ok(r) && c->json) puts(signed_report);
    buf_free(&report);
    if (!c->json) table_print(a);
    if (!is_ok(r)) return cli_fail(c, r);
    return strcmp(verdict(a), "clean") == 0 ? CLI_DONE : CLI_REFUSED;
}

static void audit_begin(audit *a, cli *c)
{
    uint8_t run[RUN_BYTES];
    char hex[2 * RUN_BYTES + 1];
    random_bytes(run, sizeof run);
    hex_encode(run, sizeof run, hex);
    snprintf(a->client.prefix, sizeof a->client.prefix, "audit/%s/", hex);
    a->client.c = c;
    arena_open(&a->client.mem, 256 << 20);
    a->bar = isatty(STDERR_FILENO) && !c->json;
    a->seed = c->seed;
    if (a->seed == 0) random_bytes(&a->seed, sizeof a->seed);
    a->members = c->subjects ? (uint32_t)c->subjects : SUBJECTS_DEFAULT;
    a->people = 2 * a->members;
    a->who = mem_alloc_array(a->people + 1, sizeof *a->who);
    for (uint32_t i = 0; i <= a->people; i++) audit_subject_make(a->seed, i, &a->who[i]);
    a->ids = mem_alloc_array((size_t)a->members * AUDIT_DOCUMENTS, sizeof *a->ids);
    for (int p = 0; p < PHASES; p++) {
        a->seen[p] = mem_alloc_array((size_t)a->people * AUDIT_FACTS * PROBE_CLASSES, sizeof *a->seen[p]);
        a->signals[p] = mem_alloc_array((size_t)a->people * AUDIT_FACTS * AUDIT_ATTACKS, sizeof *a->signals[p]);
    }
}

static void audit_end(audit *a)
{
    for (int p = 0; p < PHASES; p++) {
        mem_free(a->seen[p]);
        mem_free(a->signals[p]);
    }
    mem_free(a->ids);
    mem_free(a->who);
    arena_close(&a->client.mem);
}

int cli_audit(cli *c)
{
    if (!cli_args(c, 0) || c->subjects > SUBJECTS_MAX)
        return cli_usage("audit [--subjects N] [--seed N] [--report FILE] [--owner group:NAME] [--data DIR] "
                         "[--log FILE]   N: 1 to 100");
    int code = cli_connect(c);
    if (code != CLI_DONE) return code;
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    audit a = {.bar = false};
    uint32_t left = 0;
    audit_begin(&a, c);
    result r = run_phases(&a);
    if (a.bar) fputs("\r\33[K", stderr);
    /* fail()'s sentence lasts until the next one. */
    error_code failed = r.code;
    char words[512];
    snprintf(words, sizeof words, "%s", r.message);
    result cleaned = audit_clean(&a.client, &left);
    if (failed == E_OK) code = report_give(&a);
    else code = cli_fail(c, fail(failed, "%s", words));
    if (!is_ok(cleaned)) {
        fprintf(stderr, "lethe: documents below %s may be left: erase them\n", a.client.prefix);
        if (code == CLI_DONE) code = CLI_REFUSED;
    }
    audit_end(&a);
    return code;
}
