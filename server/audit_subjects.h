/* audit_subjects: invented persons and what lethe audit asks about them. Everything follows from a seed: the same
 * seed gives the same persons, documents and probes. Pure; no I/O.
 *
 * The probes are those of RWKU (Jin et al., 2024, section 3): cloze, question, and nine adversarial ones. */
#ifndef LETHE_AUDIT_SUBJECTS_H
#define LETHE_AUDIT_SUBJECTS_H

#include "base.h"

enum { AUDIT_FACTS = 4, AUDIT_DOCUMENTS = 3, AUDIT_NAME_MAX = 64, AUDIT_SENTENCE_MAX = 256,
       AUDIT_TEXT_MAX = 1024, AUDIT_PROBE_MAX = 1024 };

typedef struct {
    char name[AUDIT_NAME_MAX];
    char values[AUDIT_FACTS][AUDIT_NAME_MAX];
    char others[AUDIT_FACTS][3][AUDIT_NAME_MAX];        /* wrong answers, for multiple choice */
    char sentences[AUDIT_FACTS][AUDIT_SENTENCE_MAX];
    char documents[AUDIT_DOCUMENTS][AUDIT_TEXT_MAX];    /* a letter, minutes (Markdown), a record (HTML) */
} audit_subject;

extern const char *const AUDIT_DOCUMENT_NAMES[AUDIT_DOCUMENTS];

void audit_subject_make(uint64_t seed, uint32_t number, audit_subject *out);

typedef enum { PROBE_CLOZE, PROBE_QUESTION, PROBE_PREFIX, PROBE_SUFFIX, PROBE_ROLE, PROBE_CHOICE, PROBE_REVERSE,
               PROBE_SYNONYM, PROBE_HINT, PROBE_CONTEXT, PROBE_LINGUAL, PROBE_CLASSES } probe_class;
extern const char *const PROBE_NAMES[PROBE_CLASSES];

void audit_probe_text(const audit_subject *s, uint32_t fact, probe_class class, char out[AUDIT_PROBE_MAX]);
/* Does the answer give the fact away (for a reverse question: the person)? What the probe itself says does not
 * count: of several choices, the right one alone must be named. */
bool audit_answer_tells(const audit_subject *s, uint32_t fact, probe_class class, const char *answer);

#endif
