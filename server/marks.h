/* marks: answers of a generator that marks spans of what it reads (model_marks), instead of writing them. The other way to
 * a grounded answer (promise G6) than grounded.c's; the answer has the same form. Label-blind: session.c gives it bytes
 * and labels what comes out.
 *
 * What is read (model/train/README.md): "Question: " Q gap, then pieces (sentences, best first, or whole passages), each with
 * a gap behind it; read twice, then the words of the same from last to first, and a gap. Behind each token the engine gives
 * the logits of start, stop and none; those of both readings are added, and the model's bias to none's. With s and e as
 * logarithms of the softmax over the places where a span may start (stop), none's beside them, a span's likelihood is s + e;
 * that of no answer, none's two.
 * The answer is the likeliest span; each passage's own, the likeliest in it. Agreement, contradiction and confidence are
 * grounded.h's. No token is sampled or spent: sampling and the prompt's order have no part in it. */
#ifndef LETHE_MARKS_H
#define LETHE_MARKS_H

#include "extractive.h"
#include "grounded.h"

typedef struct {
    const model *engine;               /* with model_marks_of */
    seat *place;                       /* its sequence at the zero state */
    const char *question;
    const bytes *passages;
    size_t count;
    const extractive_pick *sentences;  /* best first; read where the model is made for sentences */
    size_t sentence_count;
    uint32_t repeats;                  /* above the model's own: as that */
    uint32_t tokens_max;               /* of an answer, as far as the model lets one have */
    uint32_t context_tokens_max;       /* of a reading; what stands in front of looked-up words counts */
    const char *const *stop;           /* an answer ends at the last whole word before the first of these */
    size_t stop_count;
    uint32_t not_found_percent;        /* as in grounded.h */
} marks_input;

/* found is false too, whatever not_found_percent, where there is nothing to read: no sentence has a word of the question.
 * *tokens_read: into the engine. The same bits whoever else is being served. */
MUST_USE result marks_read(const marks_input *in, arena *a, grounded_answer *out, uint64_t *tokens_read);

#endif
