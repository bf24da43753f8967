/* embedder: static token vectors, in the format that model2vec and sentence-transformers' static
 * models publish. Internal to retrieval/.
 *
 *   model.safetensors  "embeddings" or "embedding.weight" (V,D) F32, F16, BF16 or I8; optional
 *                      "weights" (V) F32 or F64; optional "mapping" (V) I64, token id to row
 *   tokenizer.json     WordPiece with BertNormalizer and BertPreTokenizer
 *   config.json        optional; "normalize": false keeps the mean's length
 *
 * A text's vector is the (weighted) mean of its tokens' vectors, unknown pieces left out, scaled
 * to length 1; zero when no token is known. Summed in token order: one text, one result, always. */
#ifndef LETHE_EMBEDDER_H
#define LETHE_EMBEDDER_H

#include "base.h"
#include "wordpiece.h"

typedef struct embedder embedder;

MUST_USE result embedder_open(embedder **out, const char *dir);
void embedder_close(embedder **e);
uint32_t embedder_dimensions(const embedder *e);
/* vector: (dimensions). text: valid UTF-8. Thread-safe. Returns whether any token was known. */
bool embedder_embed(const embedder *e, bytes text, float *vector);
/* vector += weight x the sum of the text's known tokens, unscaled. Returns how many are known. */
uint32_t embedder_add(const embedder *e, bytes text, float weight, float *vector);
/* Scales to length 1, or by 1 / known where the embedder's config says so; false for a zero
 * vector. */
bool embedder_finish(const embedder *e, uint32_t known, float *vector);

#endif
