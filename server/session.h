/* session: the one place where a sequence's recurrent state meets labels.
 *
 * A session answers one question from labelled passages: it joins their labels, lets the label-blind
 * engine compute, and labels every token with the join; the gate does the rest. The state cache holds
 * snapshots taken after the last reading of the passages, keyed by principal, model and exact tokens,
 * sealed under the principal's key, each within that principal's own share of memory. */
#ifndef LETHE_SESSION_H
#define LETHE_SESSION_H

#include "constraint.h"
#include "ifc.h"
#include "keytree.h"
#include "model.h"
#include "retrieval.h"
#include "scheduler.h"

/* ---- the state cache ----------------------------------------------------------------------------- */
typedef struct state_cache state_cache;
void state_cache_open(state_cache **out, uint64_t bytes_per_principal);
void state_cache_close(state_cache **c);
/* Drops (wipes) every entry that a source document of this owner went into; document zero: any of the
 * owner's. Called on erasure, unshare and label change. */
void state_cache_drop_source(state_cache *c, id128 owner, id128 document);
/* Drops everything of one principal (its own erasure, membership changes). */
void state_cache_drop_principal(state_cache *c, id128 principal);
typedef struct { uint64_t entries, hits, misses, generation; } state_cache_figures;
void state_cache_figures_now(state_cache *c, state_cache_figures *out);
/* Sealed snapshots. key names model and tokens; find appends the snapshot to out, E_NOT_FOUND on a
 * miss. put is refused silently when anything was dropped since `generation` was read (an answer under
 * way must not bring back what a drop took away) or the snapshot exceeds the share. */
typedef struct { id128 owner, document; } state_source;
MUST_USE result state_cache_find(state_cache *c, id128 principal, const uint8_t seal_key[KEY_BYTES],
                                 const uint8_t key[HASH_BYTES], buf *out);
void state_cache_put(state_cache *c, uint64_t generation, id128 principal,
                     const uint8_t seal_key[KEY_BYTES], const uint8_t key[HASH_BYTES], bytes snapshot,
                     const state_source *sources, size_t source_count);

/* Whose call is under way, what it has read, and, of one that searches, what may have gone into its numbers: its
 * mark, by which an erasure finds the calls to cancel. */
typedef struct {
    id128 tenant, principal;
    size_t count;
    const state_source *sources;
    const retrieval_scope *scope;      /* NULL: nothing is searched */
} call_sources;

/* ---- answering -------------------------------------------------------------------------------------- */
typedef struct {
    const ifc_context *context;
    const retrieval_hit *hits;             /* passages to read, best first */
    size_t hit_count;
    const char *question;
    bool question_first;
    uint32_t repeats, tokens_max, context_tokens_max;
    uint64_t cache_generation;             /* read before the passages were searched */
    sampler_options sampling;
    const char *const *stop;               /* end the answer before the first of these */
    size_t stop_count;
    bool free_text;                        /* not grounded: whatever the generator writes */
    retrieval *stores;                     /* a model that marks answers reads the best sentences by what these say */
    const retrieval_scope *scope;
    uint32_t not_found_percent;            /* as in grounded.h */
    /* Called with each piece of the answer, labelled; whole characters only. */
    result (*emit)(void *ctx, const ifc_labeled *piece);
    void *emit_ctx;
} session_request;

/* What is said where nothing answers: the same words whether what was asked for is absent, denied or erased. */
extern const char SESSION_NOT_FOUND[];

/* Bytes [start, end) of a hit's document. */
typedef struct { uint32_t hit; uint64_t start, end; } session_span;
/* What one passage says by itself: its spans, joined by CONSTRAINT_SEPARATOR, are text_size bytes at text_at of the grounding.
 * No span: nothing. agrees, contradicts: with the answer, as in grounded.h. */
typedef struct {
    uint32_t span_count;
    session_span spans[CONSTRAINT_SPANS_MAX];
    double likelihood;
    bool agrees, contradicts;
    size_t text_at, text_size;
} session_reading;
/* What a grounded answer rests on: this, and behind it the readings' texts. */
typedef struct {
    uint32_t span_count;                   /* 0: not found */
    session_span spans[CONSTRAINT_SPANS_MAX];
    double likelihood, nothing, confidence;      /* logarithms but for the last, which is 0 to 1 */
    uint32_t reading_count;                /* of the first hits: those that may have been read */
    session_reading readings[SEARCH_K_MAX];
} session_grounding;

typedef struct {
    const ifc_labeled *answer;             /* the whole, or SESSION_NOT_FOUND; in the arena */
    const ifc_labeled *grounding;          /* a session_grounding; NULL: free text */
    uint64_t input_tokens, output_tokens;
    const char *end_reason;                /* "stop", "length", "none": not found */
} session_answer;

/* The label of everything computed from these passages. */
MUST_USE result session_label(const retrieval_hit *hits, size_t count, ifc_label *out);
/* cache may be NULL. E_CANCELLED and E_DEADLINE stop within one decoding step. A grounded answer is emitted when it is
 * whole: whether there is one is known only then. */
MUST_USE result session_generate(const model *m, scheduler *s, state_cache *cache, keytree *keys,
                                 const session_request *request, arena *a, session_answer *out);

/* The continuation's tokens under the generator, teacher-forced behind the prompt that session_generate
 * would read for free text. Each token's log-probability, and the mean and standard deviation of the log-probability
 * over the vocabulary. Bit-identical whoever else is being served. Of the request, what concerns writing
 * (tokens_max, sampling, stop, emit) is not looked at. */
typedef struct { float log_prob, mean, deviation; } session_token_score;
typedef struct {
    const ifc_labeled *scores;             /* session_token_score, one a token; in the arena */
    size_t count;
    uint64_t input_tokens;
} session_scores;
/* E_INVALID: no token, or more than tokens_max. */
MUST_USE result session_score(const model *m, scheduler *s, state_cache *cache, keytree *keys,
                              const session_request *request, bytes continuation, size_t tokens_max,
                              arena *a, session_scores *out);

/* The extractive reader: the sentence of the passages that best supports an answer, verbatim, with its
 * exact span. supported is false when no word of the question occurs in any: the answer is SESSION_NOT_FOUND. */
typedef struct {
    bool supported;
    size_t hit;                            /* index of the passage */
    uint64_t start, end;                   /* bytes of the document's text */
    float score;
    const ifc_labeled *answer;             /* labelled with the join of all passages read */
} session_extract_answer;
MUST_USE result session_extract(retrieval *r, const retrieval_scope *scope, const char *question,
                                const retrieval_hit *hits, size_t count, arena *a,
                                session_extract_answer *out);

#endif
