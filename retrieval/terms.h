/* terms: a text's index terms. Internal to retrieval/.
 *
 * Words are runs of letters, marks and digits; each is NFKC case-folded without marks (utf8proc)
 * and stemmed (Snowball "english"); a small list of function words is dropped. An ideograph or a
 * kana is a word of its own. Words longer than TERM_SOURCE_MAX code points count by their
 * beginning. */
#ifndef LETHE_TERMS_H
#define LETHE_TERMS_H

#include "base.h"

enum { TERM_MAX_BYTES = 64, TERM_SOURCE_MAX = 40 };

typedef struct terms terms;        /* a stemmer; belongs to one thread at a time */
void terms_open(terms **out);
void terms_close(terms **t);       /* wipes */
/* Called for each term in text order: the term, 1..TERM_MAX_BYTES, borrowed within the visit,
 * and the word in the text that it comes from. */
typedef void terms_visit(void *ctx, bytes term, bytes word);
void terms_each(terms *t, bytes text, terms_visit *visit, void *ctx);
/* The same for every word as it stands, folded and neither stemmed nor left out. */
void terms_each_word(terms *t, bytes text, terms_visit *visit, void *ctx);

#endif
