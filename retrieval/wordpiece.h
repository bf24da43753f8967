/* wordpiece: BERT's tokenizer as Hugging Face's tokenizer.json describes it. Internal to
 * retrieval/.
 *
 * Normalizer BertNormalizer (clean text, spaces around Chinese characters, accents stripped,
 * lower case), pre-tokenizer BertPreTokenizer, model WordPiece (greedy longest match), added
 * tokens found in the raw text. Anything else is E_UNIMPLEMENTED with its name. Reference: the
 * tokenizers library; golden lines in tests/golden/wordpiece.json. */
#ifndef LETHE_WORDPIECE_H
#define LETHE_WORDPIECE_H

#include "base.h"

typedef struct wordpiece wordpiece;

/* json: the whole tokenizer.json. E_INVALID: not of this shape; E_UNIMPLEMENTED: another kind. */
MUST_USE result wordpiece_open(wordpiece **out, bytes json);
void wordpiece_close(wordpiece **w);
/* Number of ids: the largest id of the vocabulary and of the added tokens, plus one. */
uint32_t wordpiece_ids(const wordpiece *w);
uint32_t wordpiece_unknown(const wordpiece *w);
/* Appends the ids of text as u32 to out; unknown words give the unknown token. No special tokens
 * are added. text: any bytes (invalid UTF-8 counts as U+FFFD, which cleaning drops).
 * Thread-safe. */
void wordpiece_encode(const wordpiece *w, bytes text, buf *out);

#endif
