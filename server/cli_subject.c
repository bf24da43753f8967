/* The verb erase subject: what is found is shown, and erased when confirmed. */
#include "cli.h"

#include "lethe/v1/erasure.pb-c.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CONFIRMED_MAX = 1024 };

static const char *reason_name(Lethe__V1__SubjectReason reason)
{
    static const char *const names[] = {"", "neighbour", "identifier", "alias", "name"};
    return reason >= 0 && reason <= 4 ? names[reason] : "";
}

static cJSON *candidate_json(const Lethe__V1__SubjectCandidate *f)
{
    cJSON *o = cJSON_CreateObject(), *spans = cJSON_CreateArray();
    cJSON_AddStringToObject(o, "document", f->document);
    cJSON_AddStringToObject(o, "path", f->path);
    cJSON_AddStringToObject(o, "owner", f->owner);
    cJSON_AddStringToObject(o, "reason", reason_name(f->reason));
    cJSON_AddStringToObject(o, "words", f->words);
    cJSON_AddNumberToObject(o, "score", (double)f->score);
    cJSON_AddBoolToObject(o, "likely", f->likely);
    for (size_t i = 0; i < f->n_spans; i++) {
        cJSON *span = cJSON_CreateArray();
        cJSON_AddItemToArray(span, cJSON_CreateNumber((double)f->spans[i]->start));
        cJSON_AddItemToArray(span, cJSON_CreateNumber((double)f->spans[i]->end));
        cJSON_AddItemToArray(spans, span);
    }
    cJSON_AddItemToObject(o, "spans", spans);
    return o;
}

static void candidates_print(const cli *c, const Lethe__V1__FindSubjectResponse *found)
{
    cJSON *o = cJSON_CreateObject(), *all = cJSON_AddArrayToObject(o, "candidates");
    bool weak = false;
    for (size_t i = 0; i < found->n_candidates; i++) {
        const Lethe__V1__SubjectCandidate *f = found->candidates[i];
        cJSON_AddItemToArray(all, candidate_json(f));
        if (c->json) continue;
        if (!weak && !f->likely) printf("perhaps (erased with --include-similar only):\n");
        weak = !f->likely;
        printf("%s  %.2f  %-10s  %s  %s\n", f->document, (double)f->score, reason_name(f->reason), f->path, f->words);
    }
    cJSON_AddBoolToObject(o, "truncated", found->truncated);
    if (c->json) {
        cli_print_json(o);
        return;
    }
    cJSON_Delete(o);
    if (found->n_candidates == 0) printf("nothing found\n");
    if (found->truncated) printf("there are more: erase these, then ask again\n");
}

static bool answered(const char *question)
{
    char line[16] = "";
    fprintf(stderr, "%s [y/N] ", question);
    return fgets(line, sizeof line, stdin) != NULL && (line[0] == 'y' || line[0] == 'Y');
}

static int erase_confirmed(cli *c, Lethe__V1__ConfirmedSubject *subject, const Lethe__V1__FindSubjectResponse *found)
{
    Lethe__V1__EraseRequest m = LETHE__V1__ERASE_REQUEST__INIT;
    Lethe__V1__EraseResponse *done;
    m.target_case = LETHE__V1__ERASE_REQUEST__TARGET_SUBJECT;
    m.subject = subject;
    int code = cli_call(c, "/lethe.v1.Erasure/Erase", &m.base, &lethe__v1__erase_response__descriptor, &done);
    if (code != CLI_DONE) return code;
    if (c->json) {
        puts(done->receipt);
        fprintf(stderr, "salt %s target %s\n", done->salt, done->target);
    } else {
        printf("erased: COMPLETE (%zu documents)\n%s\n\nThe receipt's commitment opens with (kept nowhere else):\n"
               "salt    %s\ntarget  %s\n", done->n_documents, done->receipt, done->salt, done->target);
    }
    for (size_t i = 0; i < done->n_remaining; i++) {
        bool shown = false;
        for (size_t s = 0; s < found->n_candidates; s++)
            shown = shown || strcmp(found->candidates[s]->document, done->remaining[i]) == 0;
        if (!shown) fprintf(stderr, "lethe: new since it was shown, and not erased: %s\n", done->remaining[i]);
    }
    if (c->receipt == NULL) return CLI_DONE;
    result r = cli_receipt_write(c->receipt, done->receipt, done->salt, done->target);
    return is_ok(r) ? CLI_DONE : cli_fail(c, r);
}

int cli_erase_subject(cli *c)
{
    Lethe__V1__FindSubjectRequest ask = LETHE__V1__FIND_SUBJECT_REQUEST__INIT;
    Lethe__V1__ConfirmedSubject subject = LETHE__V1__CONFIRMED_SUBJECT__INIT;
    Lethe__V1__FindSubjectResponse *found;
    char *ids[CONFIRMED_MAX];
    ask.text = subject.text = (char *)c->args[1];
    subject.documents = ids;
    int code = cli_call(c, "/lethe.v1.Erasure/FindSubject", &ask.base,
                        &lethe__v1__find_subject_response__descriptor, &found);
    if (code != CLI_DONE) return code;
    bool asks = !c->yes && !c->json && isatty(STDIN_FILENO);
    if (!c->yes || !c->json) candidates_print(c, found);
    size_t weak = 0;
    for (size_t i = 0; i < found->n_candidates && subject.n_documents < CONFIRMED_MAX; i++) {
        weak += !found->candidates[i]->likely;
        if (found->candidates[i]->likely || c->include_similar)
            ids[subject.n_documents++] = found->candidates[i]->document;
    }
    if (!c->yes && !asks) return CLI_DONE;
    if (asks && weak > 0 && !c->include_similar && answered("Erase the weaker ones as well?")) {
        subject.n_documents = 0;
        for (size_t i = 0; i < found->n_candidates && i < CONFIRMED_MAX; i++)
            ids[subject.n_documents++] = found->candidates[i]->document;
    }
    if (subject.n_documents == 0)
        return c->json ? cli_fail(c, fail(E_NOT_FOUND, "nothing likely was found; nothing was erased")) : CLI_DONE;
    char question[64];
    snprintf(question, sizeof question, "Erase %zu documents for ever?", subject.n_documents);
    if (asks && !answered(question)) return CLI_REFUSED;
    return erase_confirmed(c, &subject, found);
}
