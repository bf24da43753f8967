#include "audit_client.h"

#include "lethe/v1/answers.pb-c.h"
#include "lethe/v1/documents.pb-c.h"
#include "lethe/v1/erasure.pb-c.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PAUSE_MS = 100, PAUSES_MAX = 900, ANSWER_TOKENS = 16, HITS = 10 };
const char *const AUDIT_ATTACK_NAMES[AUDIT_ATTACKS] = {"dense", "lexical", "loss", "zlib", "min-k", "min-k++"};

/* ---- calls ---- */
/* Messages go into a buffer as u32 size and bytes, again and again. */

static result stream_read(rpc_stream *s, buf *raw)
{
    buf message;
    buf_init(&message, 64 << 20);
    result r = OK;
    for (bool end = false; is_ok(r);) {
        r = rpc_stream_receive(s, &message, &end);
        if (!is_ok(r) || end) break;
        buf_append_u32(raw, (uint32_t)message.size);
        buf_append(raw, message.data, message.size);
    }
    buf_free(&message);
    return r;
}

/* The status is what the server says; messages until then are in raw. */
static result exchange_once(audit_client *a, const char *path, const ProtobufCMessage *const *messages, size_t count,
                            buf *raw)
{
    rpc_stream *s;
    TRY(rpc_stream_open(&s, a->c->client, path, 0));
    result r = OK;
    for (size_t i = 0; i < count && is_ok(r); i++) r = cli_send(s, messages[i]);
    if (is_ok(r)) r = rpc_stream_half_close(s);
    if (is_ok(r)) r = stream_read(s, raw);
    return rpc_stream_finish(&s);
}

static result exchange_run(audit_client *a, const char *path, const ProtobufCMessage *const *messages, size_t count,
                           buf *raw)
{
    const struct timespec pause = {0, PAUSE_MS * 1000000L};
    for (int i = 0;; i++) {
        buf_clear(raw);
        result r = exchange_once(a, path, messages, count, raw);
        if (r.code != E_EXHAUSTED || i == PAUSES_MAX) return r;
        nanosleep(&pause, NULL);
    }
}

static result call(audit_client *a, const char *path, const ProtobufCMessage *message,
                   const ProtobufCMessageDescriptor *type, void *out)
{
    buf raw;
    buf_init(&raw, 64 << 20);
    result r = exchange_run(a, path, &message, 1, &raw);
    reader read = reader_of(buf_bytes(&raw));
    size_t size = is_ok(r) ? reader_u32(&read) : 0;
    const uint8_t *data = is_ok(r) ? reader_take(&read, size) : NULL;
    if (is_ok(r) && (data == NULL || read.bad)) r = fail(E_INTERNAL, "the server sent no response");
    if (is_ok(r)) r = message_unpack(a->mem, type, bytes_of(data, size), out);
    buf_free(&raw);
    return r;
}

/* ---- documents ---- */
result audit_put(audit_client *a, const char *path, const char *text, char id[ID_TEXT_BYTES])
{
    uint8_t nonce[16];
    random_bytes(nonce, sizeof nonce);
    Lethe__V1__PutHeader header = LETHE__V1__PUT_HEADER__INIT;
    Lethe__V1__PutRequest first = LETHE__V1__PUT_REQUEST__INIT, second = LETHE__V1__PUT_REQUEST__INIT;
    Lethe__V1__PutResponse *done;
    header.path = (char *)path;
    header.nonce = (ProtobufCBinaryData){sizeof nonce, nonce};
    if (a->c->owner) header.owner = (char *)a->c->owner;
    first.part_case = LETHE__V1__PUT_REQUEST__PART_HEADER;
    first.header = &header;
    second.part_case = LETHE__V1__PUT_REQUEST__PART_DATA;
    second.data = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
    const ProtobufCMessage *const both[] = {&first.base, &second.base};
    arena_reset(a->mem);
    buf raw;
    buf_init(&raw, 1 << 20);
    result r = exchange_run(a, "/lethe.v1.Documents/Put", both, 2, &raw);
    if (is_ok(r) && raw.size < 4) r = fail(E_INTERNAL, "the server sent no response");
    if (is_ok(r))
        r = message_unpack(a->mem, &lethe__v1__put_response__descriptor, bytes_of(raw.data + 4, raw.size - 4), &done);
    buf_free(&raw);
    TRY(r);
    if (done->n_documents != 1 || strlen(done->documents[0]->id) + 1 != ID_TEXT_BYTES)
        return fail(E_PRECONDITION, "a document of the audit could not be stored: %s",
                    done->n_failed ? done->failed[0]->reason : "no reason given");
    memcpy(id, done->documents[0]->id, ID_TEXT_BYTES);
    return OK;
}

result audit_erase(audit_client *a, const char *id)
{
    Lethe__V1__EraseRequest m = LETHE__V1__ERASE_REQUEST__INIT;
    Lethe__V1__EraseResponse *done;
    m.target_case = LETHE__V1__ERASE_REQUEST__TARGET_DOCUMENT;
    m.document = (char *)id;
    return call(a, "/lethe.v1.Erasure/Erase", &m.base, &lethe__v1__erase_response__descriptor, &done);
}

static result list_page(audit_client *a, char **token, char (*ids)[ID_TEXT_BYTES], uint32_t max, uint32_t *count)
{
    Lethe__V1__ListRequest m = LETHE__V1__LIST_REQUEST__INIT;
    Lethe__V1__ListResponse *page;
    m.page_token = *token;
    TRY(call(a, "/lethe.v1.Documents/List", &m.base, &lethe__v1__list_response__descriptor, &page));
    for (size_t i = 0; i < page->n_documents; i++)
        if (strncmp(page->documents[i]->path, a->prefix, strlen(a->prefix)) == 0 && *count < max &&
            strlen(page->documents[i]->id) + 1 == ID_TEXT_BYTES)
            memcpy(ids[(*count)++], page->documents[i]->id, ID_TEXT_BYTES);
    *token = page->next_page_token;
    return OK;
}

result audit_clean(audit_client *a, uint32_t *count)
{
    enum { MAX = 4096 };
    char (*ids)[ID_TEXT_BYTES] = mem_alloc_array(MAX, sizeof *ids);
    char *token = (char *)"";
    result r = OK;
    *count = 0;
    arena_reset(a->mem);
    do r = list_page(a, &token, ids, MAX, count);
    while (is_ok(r) && token[0]);
    for (uint32_t i = 0; i < *count && is_ok(r); i++) {
        r = audit_erase(a, ids[i]);
        if (r.code == E_NOT_FOUND) r = OK;
    }
    mem_free(ids);
    return r;
}

/* ---- looking ---- */
typedef struct { const audit_subject *s; uint32_t fact; probe_class class; char (*planted)[ID_TEXT_BYTES];
                 size_t planted_count; } looked_for;

static bool is_planted(const looked_for *l, const char *id)
{
    for (size_t i = 0; i < l->planted_count; i++)
        if (strcmp(l->planted[i], id) == 0) return true;
    return false;
}

static void passages_look(const looked_for *l, Lethe__V1__Passage **all, size_t count, audit_seen *out)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_planted(l, all[i]->document) && !strcasestr(all[i]->text, l->s->name) &&
            !strcasestr(all[i]->text, l->s->values[l->fact]))
            continue;
        out->retrieved = true;
        if (out->rank != 0 && out->rank <= i + 1) continue;
        out->rank = (uint32_t)i + 1;
        out->score = all[i]->score;
    }
}

static void final_look(const looked_for *l, const Lethe__V1__AskFinal *f, audit_seen *out)
{
    if (audit_answer_tells(l->s, l->fact, l->class, f->answer)) out->answered = true;
    for (size_t i = 0; i < f->n_citations; i++)
        if (is_planted(l, f->citations[i]->document)) out->cited = true;
}

static result ask_look(audit_client *a, const looked_for *l, bytes raw, audit_seen *out)
{
    for (reader read = reader_of(raw); read.at < read.size;) {
        Lethe__V1__AskFrame *frame;
        size_t size = reader_u32(&read);
        const uint8_t *data = reader_take(&read, size);
        if (data == NULL) return fail(E_INTERNAL, "the answer broke off");
        TRY(message_unpack(a->mem, &lethe__v1__ask_frame__descriptor, bytes_of(data, size), &frame));
        if (frame->frame_case == LETHE__V1__ASK_FRAME__FRAME_PASSAGES)
            passages_look(l, frame->passages->passages, frame->passages->n_passages, out);
        if (frame->frame_case == LETHE__V1__ASK_FRAME__FRAME_FINAL) final_look(l, frame->final, out);
    }
    return OK;
}

static result search_look(audit_client *a, const looked_for *l, bytes raw, audit_seen *out)
{
    Lethe__V1__SearchResponse *response;
    if (raw.size < 4) return OK;
    TRY(message_unpack(a->mem, &lethe__v1__search_response__descriptor, bytes_of(raw.data + 4, raw.size - 4),
                       &response));
    passages_look(l, response->hits, response->n_hits, out);
    return OK;
}

/* One call into the transcript: its messages and its status. */
static result look(audit_client *a, const char *path, const ProtobufCMessage *message, bool must, buf *raw, buf *all)
{
    result r = exchange_run(a, path, &message, 1, raw);
    if (must) TRY(r);
    buf_append_u64(all, raw->size);
    buf_append(all, raw->data, raw->size);
    buf_append_u32(all, (uint32_t)r.code);
    buf_append_str(all, r.message);
    return buf_check(all);
}

result audit_look(audit_client *a, const audit_subject *s, uint32_t fact, probe_class class, bool must,
                  char (*planted)[ID_TEXT_BYTES], size_t planted_count, audit_seen *out)
{
    char text[AUDIT_PROBE_MAX];
    const looked_for l = {s, fact, class, planted, planted_count};
    Lethe__V1__AskRequest ask = LETHE__V1__ASK_REQUEST__INIT;
    Lethe__V1__SearchRequest search = LETHE__V1__SEARCH_REQUEST__INIT;
    buf raw, all;
    audit_probe_text(s, fact, class, text);
    memset(out, 0, sizeof *out);
    arena_reset(a->mem);
    buf_init(&raw, 64 << 20);
    buf_init(&all, 128 << 20);
    ask.question = search.query = text;
    ask.max_tokens = ANSWER_TOKENS;
    ask.free_text = a->generative;         /* grounded answers would not show what the weights know */
    search.k = HITS;
    if (a->c->audience) ask.audience = search.audience = (char *)a->c->audience;
    result r = look(a, "/lethe.v1.Answers/Ask", &ask.base, must, &raw, &all);
    if (is_ok(r)) r = ask_look(a, &l, buf_bytes(&raw), out);
    if (is_ok(r)) r = look(a, "/lethe.v1.Answers/Search", &search.base, must, &raw, &all);
    if (is_ok(r)) r = search_look(a, &l, buf_bytes(&raw), out);
    if (is_ok(r)) hash_plain("audit seen", buf_bytes(&all), out->hash);
    buf_free(&raw);
    buf_free(&all);
    return r;
}

/* ---- membership ---- */
static result best_score(audit_client *a, const char *text, Lethe__V1__SearchMode mode, double *out)
{
    Lethe__V1__SearchRequest m = LETHE__V1__SEARCH_REQUEST__INIT;
    Lethe__V1__SearchResponse *response;
    m.query = (char *)text;
    m.k = 1;
    m.mode = mode;
    if (a->c->audience) m.audience = (char *)a->c->audience;
    result r = call(a, "/lethe.v1.Answers/Search", &m.base, &lethe__v1__search_response__descriptor, &response);
    *out = is_ok(r) && response->n_hits ? (double)response->hits[0]->score : 0;
    return r;
}

static result score_call(audit_client *a, const char *question, const char *text, Lethe__V1__ScoreResponse **out)
{
    Lethe__V1__ScoreRequest m = LETHE__V1__SCORE_REQUEST__INIT;
    m.question = (char *)question;
    m.continuation = (char *)text;
    if (a->c->audience) m.audience = (char *)a->c->audience;
    TRY(call(a, "/lethe.v1.Answers/Score", &m.base, &lethe__v1__score_response__descriptor, out));
    const Lethe__V1__ScoreResponse *s = *out;
    if (s->n_log_probs == 0 || s->n_means != s->n_log_probs || s->n_deviations != s->n_log_probs)
        return fail(E_INTERNAL, "the scores are not whole");
    return OK;
}

result audit_signals(audit_client *a, const audit_subject *s, uint32_t fact, double out[AUDIT_ATTACKS])
{
    Lethe__V1__ScoreResponse *scores;
    const char *text = s->sentences[fact];
    memset(out, 0, AUDIT_ATTACKS * sizeof *out);
    arena_reset(a->mem);
    TRY(best_score(a, text, LETHE__V1__SEARCH_MODE__SEARCH_MODE_DENSE, &out[0]));
    TRY(best_score(a, text, LETHE__V1__SEARCH_MODE__SEARCH_MODE_LEXICAL, &out[1]));
    if (!a->generative) return OK;
    TRY(score_call(a, s->name, text, &scores));
    const token_scores t = {scores->log_probs, scores->means, scores->deviations, scores->n_log_probs};
    out[2] = audit_loss(&t);
    out[3] = audit_zlib(&t, bytes_str(text));
    out[4] = audit_min_k(&t);
    out[5] = audit_min_k_plus(&t);
    return OK;
}

result audit_generator(audit_client *a, bool *out)
{
    Lethe__V1__ScoreRequest m = LETHE__V1__SCORE_REQUEST__INIT;
    Lethe__V1__ScoreResponse *scores;
    m.question = m.continuation = (char *)"audit";
    m.closed_book = true;
    arena_reset(a->mem);
    result r = call(a, "/lethe.v1.Answers/Score", &m.base, &lethe__v1__score_response__descriptor, &scores);
    *out = is_ok(r);
    return r.code == E_PRECONDITION ? OK : r;
}

result audit_record(audit_client *a, const char *report, char **signed_report)
{
    Lethe__V1__RecordAuditRequest m = LETHE__V1__RECORD_AUDIT_REQUEST__INIT;
    Lethe__V1__RecordAuditResponse *done;
    m.report = (char *)report;
    arena_reset(a->mem);
    TRY(call(a, "/lethe.v1.Erasure/RecordAudit", &m.base, &lethe__v1__record_audit_response__descriptor, &done));
    *signed_report = arena_strndup(a->c->mem, done->report, strlen(done->report));
    return *signed_report ? OK : arena_check(a->c->mem);
}
