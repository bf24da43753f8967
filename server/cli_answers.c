/* Verbs: search, ask. */
#include "cli.h"

#include "lethe/v1/answers.pb-c.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- search -------------------------------------------------------------------------------------------- */
static int search_mode_of(const cli *c, Lethe__V1__SearchMode *out)
{
    const char *mode = c->mode ? c->mode : "hybrid";
    static const char *const names[] = {"hybrid", "dense", "lexical"};
    for (int i = 0; i < 3; i++)
        if (strcmp(mode, names[i]) == 0) { *out = (Lethe__V1__SearchMode)i; return CLI_DONE; }
    return cli_usage("search TEXT [-k N] [--mode hybrid|dense|lexical] [--audience group:NAME]");
}

static void passage_json(const Lethe__V1__Passage *p, cJSON *out)
{
    cJSON_AddStringToObject(out, "document", p->document);
    cJSON_AddNumberToObject(out, "chunk", p->chunk);
    cJSON_AddNumberToObject(out, "start", (double)p->start);
    cJSON_AddNumberToObject(out, "end", (double)p->end);
    cJSON_AddNumberToObject(out, "score", (double)p->score);
    cJSON_AddStringToObject(out, "path", p->path);
    cJSON_AddStringToObject(out, "text", p->text);
}

int cli_search(cli *c)
{
    Lethe__V1__SearchRequest m = LETHE__V1__SEARCH_REQUEST__INIT;
    if (!cli_args(c, 1)) return cli_usage("search TEXT [-k N] [--mode MODE] [--audience group:NAME]");
    int code = search_mode_of(c, &m.mode);
    if (code != CLI_DONE) return code;
    m.query = (char *)c->args[0];
    m.k = (uint32_t)c->k;
    if (c->audience) m.audience = (char *)c->audience;
    Lethe__V1__SearchResponse *response;
    code = cli_call(c, "/lethe.v1.Answers/Search", &m.base, &lethe__v1__search_response__descriptor,
                    &response);
    if (code != CLI_DONE) return code;
    cJSON *o = cJSON_CreateObject(), *hits = cJSON_AddArrayToObject(o, "hits");
    for (size_t i = 0; i < response->n_hits; i++) {
        const Lethe__V1__Passage *p = response->hits[i];
        cJSON *hit = cJSON_CreateObject();
        passage_json(p, hit);
        cJSON_AddItemToArray(hits, hit);
        if (!c->json)
            printf("%2zu  %.4f  %s  %s [%llu, %llu)\n    %s\n", i + 1, (double)p->score, p->document,
                   p->path, (unsigned long long)p->start, (unsigned long long)p->end, p->text);
    }
    if (!c->json && response->n_hits == 0) puts("nothing found in the documents you can read");
    if (c->json) cli_print_json(o);
    else cJSON_Delete(o);
    return CLI_DONE;
}

/* ---- ask ------------------------------------------------------------------------------------------------- */
static int ask_request(const cli *c, Lethe__V1__AskRequest *m)
{
    static const char words[] =
        "ask TEXT [--audience group:NAME] [--passages N] [--repeats N] [--seed N] [--max-tokens N]\n"
        "  [--temperature T] [--top-p P] [--stop TEXT] [--order passages-first|question-first] [--free]";
    if (!cli_args(c, 1)) return cli_usage(words);
    m->question = (char *)c->args[0];
    if (c->audience) m->audience = (char *)c->audience;
    m->passages = (uint32_t)c->passages;
    m->repeats = (uint32_t)c->repeats;
    m->seed = c->seed;
    m->max_tokens = (uint32_t)c->max_tokens;
    m->temperature = (float)c->temperature;
    m->top_p = (float)c->top_p;
    m->free_text = c->free_text;
    if (c->stop) {
        m->n_stop = 1;
        m->stop = (char **)&c->stop;
    }
    if (c->order == NULL) return CLI_DONE;
    if (strcmp(c->order, "passages-first") == 0)
        m->order = LETHE__V1__PROMPT_ORDER__PROMPT_ORDER_PASSAGES_FIRST;
    else if (strcmp(c->order, "question-first") == 0)
        m->order = LETHE__V1__PROMPT_ORDER__PROMPT_ORDER_QUESTION_FIRST;
    else return cli_usage(words);
    return CLI_DONE;
}

static void citations_json(Lethe__V1__Citation *const *cites, size_t count, cJSON *out)
{
    for (size_t i = 0; i < count; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "document", cites[i]->document);
        cJSON_AddNumberToObject(item, "chunk", cites[i]->chunk);
        cJSON_AddNumberToObject(item, "start", (double)cites[i]->start);
        cJSON_AddNumberToObject(item, "end", (double)cites[i]->end);
        cJSON_AddNumberToObject(item, "score", (double)cites[i]->score);
        cJSON_AddStringToObject(item, "path", cites[i]->path);
        cJSON_AddItemToArray(out, item);
    }
}

/* Of a generator's grounded answer: what each passage says, and what the generator makes of it. */
static void readings_json(const Lethe__V1__AskFinal *f, cJSON *o)
{
    cJSON_AddNumberToObject(o, "confidence", f->confidence);
    cJSON_AddNumberToObject(o, "log_likelihood", f->log_likelihood);
    cJSON_AddNumberToObject(o, "log_likelihood_none", f->log_likelihood_none);
    cJSON *readings = cJSON_AddArrayToObject(o, "readings");
    for (size_t i = 0; i < f->n_readings; i++) {
        const Lethe__V1__Reading *r = f->readings[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "text", r->text);
        citations_json(r->spans, r->n_spans, cJSON_AddArrayToObject(item, "spans"));
        cJSON_AddNumberToObject(item, "log_likelihood", r->log_likelihood);
        cJSON_AddBoolToObject(item, "agrees", r->agrees);
        cJSON_AddBoolToObject(item, "contradicts", r->contradicts);
        cJSON_AddItemToArray(readings, item);
    }
}

static void answer_json(const Lethe__V1__AskFinal *f)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "answer", f->answer);
    cJSON_AddStringToObject(o, "mode", f->mode);
    citations_json(f->citations, f->n_citations, cJSON_AddArrayToObject(o, "citations"));
    cJSON_AddStringToObject(o, "label", f->label);
    cJSON *usage = cJSON_AddObjectToObject(o, "usage");
    cJSON_AddNumberToObject(usage, "input_tokens", f->usage ? (double)f->usage->input_tokens : 0);
    cJSON_AddNumberToObject(usage, "output_tokens", f->usage ? (double)f->usage->output_tokens : 0);
    cJSON_AddStringToObject(o, "end_reason", f->end_reason);
    if (f->n_readings > 0) readings_json(f, o);
    if (f->notice[0]) cJSON_AddStringToObject(o, "notice", f->notice);
    cli_print_json(o);
}

static void citation_print(const char *before, const Lethe__V1__Citation *c)
{
    printf("%s%s  %s  bytes %llu to %llu\n", before, c->path, c->document, (unsigned long long)c->start,
           (unsigned long long)c->end);
}

/* Passages that contradict the answer, each with what it says instead. */
static void contradictions_print(const Lethe__V1__AskFinal *f)
{
    bool any = false;
    for (size_t i = 0; i < f->n_readings; i++) {
        const Lethe__V1__Reading *r = f->readings[i];
        if (!r->contradicts) continue;
        if (!any) puts("other passages say otherwise:");
        any = true;
        printf("    %s\n", r->text);
        for (size_t k = 0; k < r->n_spans; k++) citation_print("        ", r->spans[k]);
    }
}

/* Behind the answer's text. */
static void answer_print(const Lethe__V1__AskFinal *f)
{
    if (f->notice[0]) fprintf(stderr, "note  the question: %s\n", f->notice);
    if (strcmp(f->mode, "none") == 0) {
        puts("");
        return;
    }
    printf("\n\n(%s; label %s", f->mode, f->label);
    if (f->n_readings > 0) printf("; confidence %.2f", f->confidence);
    puts(")");
    for (size_t i = 0; i < f->n_citations; i++) {
        char number[32];
        snprintf(number, sizeof number, "[%zu] ", i + 1);
        citation_print(number, f->citations[i]);
    }
    contradictions_print(f);
}

/* Prints pieces as they come; the final frame closes. */
static result ask_frames(cli *c, rpc_stream *s)
{
    buf message;
    buf_init(&message, 64 << 20);
    bool end = false, whole = false;
    result r = OK;
    while (is_ok(r)) {
        Lethe__V1__AskFrame *frame;
        r = rpc_stream_receive(s, &message, &end);
        if (!is_ok(r) || end) break;
        r = message_unpack(c->mem, &lethe__v1__ask_frame__descriptor, buf_bytes(&message), &frame);
        if (!is_ok(r)) break;
        if (frame->frame_case == LETHE__V1__ASK_FRAME__FRAME_TOKEN && !c->json) {
            fwrite(frame->token->text.data, 1, frame->token->text.len, stdout);
            fflush(stdout);
        }
        if (frame->frame_case == LETHE__V1__ASK_FRAME__FRAME_FINAL) {
            whole = true;
            if (c->json) answer_json(frame->final);
            else answer_print(frame->final);
        }
    }
    buf_free(&message);
    /* Without a final frame the status tells why; OK without one is no answer. */
    return is_ok(r) && end && !whole ? fail(E_INTERNAL, "the answer broke off") : r;
}

int cli_ask(cli *c)
{
    Lethe__V1__AskRequest m = LETHE__V1__ASK_REQUEST__INIT;
    int code = ask_request(c, &m);
    if (code != CLI_DONE) return code;
    code = cli_connect(c);
    if (code != CLI_DONE) return code;
    rpc_stream *s;
    result r = rpc_stream_open(&s, c->client, "/lethe.v1.Answers/Ask", 0);
    if (!is_ok(r)) return cli_fail(c, r);
    r = cli_send(s, &m.base);
    if (is_ok(r)) r = rpc_stream_half_close(s);
    result frames = is_ok(r) ? ask_frames(c, s) : r;
    char words[512];
    error_code frames_code = frames.code;
    snprintf(words, sizeof words, "%s", frames.message);
    result status = rpc_stream_finish(&s);
    if (!is_ok(status)) return cli_fail(c, status);
    return frames_code == E_OK ? CLI_DONE : cli_fail(c, fail(frames_code, "%s", words));
}
