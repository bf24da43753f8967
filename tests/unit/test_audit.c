/* What lethe audit is made of: its persons, its statistics, its scan, and the report as the server signs it. */
#include "server/audit_report.h"
#include "server/audit_scan.h"
#include "server/audit_stats.h"
#include "server/audit_subjects.h"

#include "test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static char folder[256];

static bool near(double a, double b) { return fabs(a - b) <= 1e-12; }

/* Worked out by hand. */
static void statistics(void)
{
    const double low[] = {1, 2, 3, 4}, high[] = {3, 4, 5, 6}, same[] = {0, 0, 0, 0};
    CHECK(near(audit_auc(high, 4, low, 4), (4 + 4 + 3.5 + 2.5) / 16));
    CHECK(near(audit_advantage(high, 4, low, 4), 0.5));
    CHECK(near(audit_auc(low, 4, high, 4), 2.0 / 16) && near(audit_advantage(low, 4, high, 4), 0));
    CHECK(near(audit_auc(same, 4, same, 4), 0.5) && near(audit_advantage(same, 4, same, 4), 0));
    const float log_probs[10] = {-1, -2, -3, -4, -5, -6, -7, -8, -9, -10};
    const float means[10] = {-2, -2, -2, -2, -2, -2, -2, -2, -2, -2};
    const float deviations[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 4};
    const token_scores t = {log_probs, means, deviations, 10};
    CHECK(near(audit_loss(&t), -5.5) && near(audit_min_k(&t), -9.5) && near(audit_min_k_plus(&t), -6.5));
    char text[1000];
    memset(text, 'a', sizeof text);
    CHECK(audit_zlib(&t, bytes_of(text, sizeof text)) < audit_zlib(&t, bytes_str("a short text, not repeated")));
}

/* The same seed, the same persons; every fact stands in a document, and only the right answer tells it. */
static void subjects(void)
{
    audit_subject *s = mem_alloc_array(3, sizeof *s);
    audit_subject_make(7, 0, &s[0]);
    audit_subject_make(7, 0, &s[1]);
    audit_subject_make(7, 1, &s[2]);
    CHECK(memcmp(&s[0], &s[1], sizeof *s) == 0 && strcmp(s[0].name, s[2].name) != 0);
    for (uint32_t f = 0; f < AUDIT_FACTS; f++) {
        bool written = false;
        for (int d = 0; d < AUDIT_DOCUMENTS; d++) written |= strstr(s[0].documents[d], s[0].sentences[f]) != NULL;
        CHECK(written && strstr(s[0].sentences[f], s[0].values[f]) && strcmp(s[0].values[f], s[2].values[f]) != 0);
        for (int c = 0; c < PROBE_CLASSES; c++) {
            char probe[AUDIT_PROBE_MAX];
            audit_probe_text(&s[0], f, (probe_class)c, probe);
            bool reverse = c == PROBE_REVERSE;
            CHECK((strstr(probe, s[0].name) == NULL) == reverse && strchr(probe, '%') == NULL);
            /* Repeating the question tells nothing. */
            CHECK(!audit_answer_tells(&s[0], f, (probe_class)c, probe));
            CHECK(audit_answer_tells(&s[0], f, (probe_class)c, s[0].sentences[f]));
            CHECK(!audit_answer_tells(&s[0], f, (probe_class)c, s[2].sentences[f]));
        }
    }
    mem_free(s);
}

static void put_file(const char *name, const void *data, size_t size)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ASSERT(is_ok(file_write_atomic(path, bytes_of(data, size), 0600)));
}

/* At a file's start, end, across the pieces it is read in, and as UTF-16 of both orders. */
static void scan(void)
{
    audit_pattern patterns[2];
    audit_residue out = {0};
    audit_pattern_make("QX7ZZKELM", patterns);
    size_t size = (4 << 20) + 1000;
    char *big = mem_alloc(size);
    put_file("none", big, size);
    CHECK_OK(audit_scan(folder, patterns, 2, &out));
    CHECK(out.files == 1 && out.bytes == size && out.found == 0 && out.first[0] == 0);
    const size_t places[] = {0, size - 9, (4 << 20) - 5, (4 << 20) + AUDIT_PATTERN_MAX - 4, 4 << 20};
    for (size_t i = 0; i < 5; i++) {
        memset(big, 0, size);
        memcpy(big + places[i], "QX7ZZKELM", 9);
        put_file("none", big, size);
        out = (audit_residue){0};
        CHECK_OK(audit_scan(folder, patterns, 2, &out));
        CHECK(out.found == 1 && strstr(out.first, "none") != NULL);
    }
    put_file("none", "Q\0X\0" "7\0Z\0Z\0K\0E\0L\0M\0", 18);
    put_file("other", "\0Q\0X\0" "7\0Z\0Z\0K\0E\0L\0M", 18);
    out = (audit_residue){0};
    CHECK_OK(audit_scan(folder, patterns, 2, &out));
    CHECK(out.files == 2 && out.found == 2);
    CHECK_FAILS(audit_scan("/nowhere/at/all", patterns, 2, &out), E_NOT_FOUND);
    mem_free(big);
}

/* ---- reports ---- */
static uint8_t public_key[SIGN_PUBLIC_BYTES], secret_key[SIGN_SECRET_BYTES];

static void sign_report(audit_log *log, id128 tenant, id128 who, const char *report, const char *recorded, buf *out)
{
    cJSON *entry;
    uint64_t index;
    audit_head head;
    merkle_hash path[MERKLE_PATH_MAX];
    size_t count;
    buf text;
    buf_init(&text, AUDIT_ENTRY_MAX_BYTES);
    CHECK_OK(audit_report_entry(bytes_str(recorded), who, &entry));
    CHECK_OK(audit_log_append(log, tenant, AUDIT_REPORT_EVENT, entry, &index));
    CHECK_OK(audit_log_entry(log, tenant, index, &text));
    CHECK_OK(audit_log_inclusion(log, tenant, index, &head, path, &count));
    const receipt_parts parts = {.entry = buf_bytes(&text), .index = index, .head = &head, .path = path,
                                 .path_count = count};
    CHECK_OK(audit_report_make(bytes_str(report), &parts, public_key, secret_key, out));
    buf_free(&text);
}

static void reports(void)
{
    char path[300];
    audit_log *log;
    const id128 tenant = id_random(), who = id_random();
    receipt_verdict v;
    cJSON *entry;
    buf out;
    buf_init(&out, 1 << 20);
    snprintf(path, sizeof path, "%s/log", folder);
    ASSERT(is_ok(dir_make(path, 0700)));
    sign_keypair(public_key, secret_key);
    audit_log_open(&log, path, public_key, secret_key);
    for (int i = 0; i < 5; i++) {
        buf_clear(&out);
        sign_report(log, tenant, who, "{\"verdict\":\"clean\"}", "{\"verdict\":\"clean\"}", &out);
        audit_report_verify(buf_bytes(&out), public_key, &v);
        CHECK(v.valid && v.trusted && audit_report_is(buf_bytes(&out)));
    }
    receipt_verify(buf_bytes(&out), public_key, NULL, &v);
    CHECK(!v.valid);                                   /* never for a receipt */
    uint32_t accepted = 0;
    for (size_t i = 0; i < out.size; i++) {
        out.data[i] ^= 1;
        audit_report_verify(buf_bytes(&out), public_key, &v);
        accepted += v.valid;
        out.data[i] ^= 1;
    }
    CHECK(accepted == 0);
    /* Signed, but another report than the one recorded. */
    buf_clear(&out);
    sign_report(log, tenant, who, "{\"verdict\":\"clean\"}", "{\"verdict\":\"leak\"}", &out);
    audit_report_verify(buf_bytes(&out), public_key, &v);
    CHECK(!v.valid && strcmp(v.reason, "the report is not in the log") == 0);
    /* The server adds some members itself, and takes nothing but canonical JSON. */
    static const char *const bad[] = {"{\"type\":\"lethe.receipt.2\"}", "{\"signer\":\"00\"}", "{\"log_size\":1}",
                                      "{ }", "", "[]", "{\"b\":1,\"a\":1}", "{\"tenant\":\"x\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_FAILS(audit_report_entry(bytes_str(bad[i]), who, &entry), E_INVALID);
    audit_log_close(&log);
    buf_free(&out);
}

int main(void)
{
    test_tmpdir(folder);
    RUN(statistics);
    RUN(subjects);
    RUN(scan);
    RUN(reports);
    test_tmpdir_remove(folder);
    return DONE();
}
