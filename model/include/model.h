/* model: a Mamba generator from a Hugging Face folder. Label-blind; depends on base alone.
 *
 * An engine is immutable and shared; a sequence is its recurrent state (convolution and SSM), a few MB
 * whatever the length. Every output element is reduced in one fixed order that does not depend on the
 * batch, the chunking or the thread count: logits of a sequence are bit-identical alone and batched,
 * prefilled whole or in pieces, fresh or restored from a snapshot.
 *
 * Threads: engines may be used by any thread; a sequence by one at a time. On a GPU, passes of several threads wait
 * for each other. */
#ifndef LETHE_MODEL_H
#define LETHE_MODEL_H

#include "base.h"

typedef struct model model;
typedef struct model_seq model_seq;

/* What the large matrices are held in. As stored: F32 and F16 files as F32, BF16 as BF16, quantised ones as they are.
 * Q8, Q4: groups of 32 along the input with one scale each. Arithmetic is float32 throughout, but for bf16_products. */
typedef enum { MODEL_AS_STORED, MODEL_F32, MODEL_BF16, MODEL_Q8, MODEL_Q4 } model_precision;
const char *model_precision_name(model_precision p);      /* "stored", "f32", "bf16", "q8", "q4" */
bool model_precision_parse(const char *name, model_precision *out);

/* Where it computes. MODEL_CUDA: an NVIDIA GPU; E_UNIMPLEMENTED where the build has no CUDA, E_UNAVAILABLE where there is
 * no device that it runs on, the driver is too old or its memory does not suffice. The last: on the GPU, and on the CPU
 * where that cannot be. A GPU has other bits than a CPU, and another identity. */
typedef enum { MODEL_CPU, MODEL_CUDA, MODEL_CUDA_OR_CPU } model_backend;
const char *model_backend_name(model_backend b);          /* "cpu", "cuda", "cuda-or-cpu" */
bool model_backend_parse(const char *name, model_backend *out);

typedef struct {
    uint32_t threads;                  /* of the CPU; 0: 1 */
    model_precision precision;         /* on a GPU f32 (slow, for comparison) or bf16, which rounds activations too */
    /* Where the processor has AVX512-BF16, matrices not held as F32 are multiplied in bfloat16, inputs too, with F32 sums:
     * prompts are read half as fast again. Bits are then others than elsewhere, of an accuracy of some 2e-2 of the largest logit. */
    bool bf16_products;
    model_backend backend;
    uint32_t device;                   /* which GPU, from 0 */
} model_options;

typedef struct {
    const char *architecture;          /* "MambaForCausalLM" */
    const char *kernel;                /* which path runs ("avx512", "cuda sm_90"): part of the reported configuration */
    model_backend backend;             /* MODEL_CPU or MODEL_CUDA: where it does */
    const char *precision;             /* model_precision_name of what is held */
    uint32_t vocab_size, d_model, d_inner, d_state, d_conv, dt_rank, layers;
    int32_t eos_token;                 /* -1: none */
    uint64_t state_bytes;              /* exact size of one sequence's state */
    uint64_t weight_bytes;
    uint8_t identity[32];              /* hash of config and weights: part of cache keys */
} model_info;

/* dir: config.json, model.safetensors (or sharded index), tokenizer.json. A quantised model opens as stored only. Truncated, lying or
 * mismatched files: E_INVALID naming file and tensor. Unknown architecture: E_UNIMPLEMENTED. On a GPU every call may fail
 * with E_UNAVAILABLE; after a fault of the device all later ones do, and the states are lost. */
MUST_USE result model_open(model **out, const char *dir, const model_options *options);
void model_close(model **m);
/* Writes a new folder with what from has, its large matrices as bf16, q8 or q4, the small ones as bf16. Opened as stored
 * it computes the same bits as from opened with that precision. E_PRECONDITION: to is there already. After an error to
 * may hold a copy of from's small files, and no weights. */
MUST_USE result model_quantise(const char *from, const char *to, model_precision precision);
const model_info *model_describe(const model *m);

/* How a model that marks answers reads its prompt (model/train/README.md); from config.json's "lethe". */
typedef struct {
    uint32_t none, start, stop;        /* token ids: their logits behind a token say that ... */
    int64_t seen;                      /* token id in front of looked-up words; -1: none */
    uint32_t stem_letters;             /* 1 to 16; 5 where it is not given */
    uint32_t span_tokens_max;          /* 1 to 256; 24 where it is not given */
    uint32_t repeats;                  /* readings that it is made for: 1 or 2; 2 where it is not given */
    uint32_t sentences_tokens;         /* 0: whole passages; else 16 to 4096: best sentences of about so many tokens */
    double none_bias;                  /* added to the logit of none: where "not found" begins; 0 where it is not given */
    bool writes;                       /* it can also write text; true where it is not given */
    const char *const *frequent;       /* lower-case stems that are never looked up, sorted by strcmp */
    size_t frequent_count;             /* at most 4096 */
} model_marks;
const model_marks *model_marks_of(const model *m);        /* NULL: the model does not mark. Borrowed. */

/* ---- tokenizer ------------------------------------------------------------------------------------ */
typedef struct tokenizer tokenizer;
/* Byte-level BPE as GPT-NeoX's tokenizer.json has it: NFC, the implicit ByteLevel pattern, added
 * tokens. E_INVALID for missing merges, unknown parts and the like. */
MUST_USE result tokenizer_open(tokenizer **out, bytes tokenizer_json);
void tokenizer_close(tokenizer **t);
uint32_t tokenizer_size(const tokenizer *t);              /* one past the largest id */
/* Encodes valid UTF-8 into ids (in the arena). specials: added tokens in the text are recognised
 * (never for user text). E_INVALID: invalid UTF-8. Linear time but for a word's merges: n log n. */
MUST_USE result tokenizer_encode(const tokenizer *t, bytes text, bool specials, arena *a,
                                 uint32_t **ids, size_t *count);
/* The bytes of one token (borrowed from t; may be a part of a character; empty for unknown ids). */
bytes tokenizer_token(const tokenizer *t, uint32_t id);
int64_t tokenizer_find(const tokenizer *t, const char *token);   /* id of an added/vocabulary token, -1 */
bool tokenizer_is_special(const tokenizer *t, uint32_t id);      /* an added token that stands for no text */
const tokenizer *model_tokenizer(const model *m);

/* ---- sequences ------------------------------------------------------------------------------------- */
MUST_USE result model_seq_open(model_seq **out, const model *m);  /* at the zero state */
void model_seq_close(model_seq **seq);                            /* wipes */
void model_seq_wipe(model_seq *seq);                              /* back to the zero state */
uint64_t model_seq_length(const model_seq *seq);                  /* tokens read so far */
/* Reads tokens. logits (vocab_size f32), of the last token, may be NULL. Ids past the vocabulary:
 * E_INVALID and the state is as before. alive (may be NULL) is asked between passes of at most 128 tokens, on a GPU 8192. */
MUST_USE result model_prefill(model_seq *seq, const uint32_t *tokens, size_t count, float *logits,
                              result (*alive)(void *ctx), void *alive_ctx);
/* One step of count different sequences of one engine: reads tokens[i] into seqs[i];
 * logits (count, vocab_size). */
MUST_USE result model_decode(const model *m, model_seq *const *seqs, const uint32_t *tokens,
                             size_t count, float *logits);
/* The logits of a few tokens behind each token that is read: scores (tokens read, token_count), in the order read. The
 * same bits as the full logits'. token_count 0: none. room (rows of the pass, vocab_size): what they are taken from, of
 * model_logits_open, wiped behind each pass; NULL: made for it. */
typedef struct { const uint32_t *tokens; size_t token_count; float *scores, *room; } model_watch;
/* The same, and in the same pass reads a piece of one more sequence's prompt: count + prompt->count is at most 128. logits
 * (1 + count, vocab_size): first the prompt's last token's, where it wants them, then the steps'. A watch has the logits of
 * all its tokens computed, which takes longer. */
typedef struct { model_seq *seq; const uint32_t *tokens; size_t count; bool wants_logits; model_watch watch; } model_prompt;
MUST_USE result model_decode_beside(const model *m, const model_prompt *prompt, model_seq *const *seqs,
                                    const uint32_t *tokens, size_t count, float *logits);
/* Room for count logits, zeroed, which a GPU writes to without a copy by the host; any other memory does too. Closing wipes. */
MUST_USE result model_logits_open(float **out, const model *m, size_t count);
void model_logits_close(const model *m, float **logits, size_t count);
/* State to bytes and back, bit-exact; restoring into another model is E_INVALID (identity checked). */
MUST_USE result model_seq_snapshot(const model_seq *seq, buf *out);
MUST_USE result model_seq_restore(model_seq *seq, bytes snapshot);

/* ---- sampler ---------------------------------------------------------------------------------------- */
typedef struct { float temperature; float top_p; uint64_t seed; } sampler_options;  /* 0: greedy */
typedef struct { sampler_options options; uint64_t counter; } sampler;
void sampler_init(sampler *s, const sampler_options *options);
/* Next token; greedy ties go to the lowest id. The same logits, options and step give the same token
 * on every machine (counter-based generator). */
uint32_t sampler_next(sampler *s, const float *logits, uint32_t vocab_size);

/* log-probability of token under logits (natural log), computed in float64. */
double model_log_prob(const float *logits, uint32_t vocab_size, uint32_t token);

#endif
