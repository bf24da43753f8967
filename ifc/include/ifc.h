/* ifc: information flow control. Labels, the request context, labelled bytes and the gate.
 *
 * A label is <secrecy, integrity>, each a conjunction of clauses, each clause a disjunction of
 * principals (disjunction-category labels: Stefan, Russo, Mazieres, Mitchell 2011). The empty
 * conjunction is true: public secrecy, no endorsement.
 *   flows(a, b)  iff  secrecy(b) implies secrecy(a)  and  integrity(a) implies integrity(b)
 * Labels are kept canonical: principals sorted and unique within a clause, clauses sorted and unique,
 * no clause a superset of another. So equal labels are equal bytes. Past a cap everything fails
 * closed: the operation returns E_EXHAUSTED and the output is the label that flows nowhere. */
#ifndef LETHE_IFC_H
#define LETHE_IFC_H

#include "base.h"

enum { ID_BYTES = 16, ID_TEXT_BYTES = 33, IFC_CLAUSES_MAX = 64, IFC_PRINCIPALS_MAX = 256,
       IFC_CLAUSE_PRINCIPALS_MAX = 64 };

/* Tenants, principals and documents: random (or keyed-hash) ids, never used again. */
typedef struct { uint8_t b[ID_BYTES]; } id128;
bool id_equal(id128 a, id128 b);
int id_compare(id128 a, id128 b);                         /* as numbers, most significant byte first */
bool id_is_zero(id128 a);
id128 id_random(void);
void id_text(id128 a, char out[ID_TEXT_BYTES]);           /* 32 lowercase hex digits */
/* A malformed id is E_NOT_FOUND with the same words as an absent one. */
MUST_USE result id_parse(const char *text, id128 *out);
extern const char IFC_NOT_FOUND[];                        /* the one sentence for absent, denied, deleted */

/* A conjunction of clauses. The clause i holds principals[ends[i-1] .. ends[i]). */
typedef struct {
    uint16_t clause_count;
    uint16_t ends[IFC_CLAUSES_MAX];
    id128 principals[IFC_PRINCIPALS_MAX];
} ifc_formula;

typedef struct { ifc_formula secrecy, integrity; } ifc_label;

void ifc_label_public(ifc_label *out);                    /* <true, true>: flows to everyone */
/* Adds the clause (p0 or p1 or ...) to secrecy / integrity; keeps the label canonical. An empty
 * clause is false: nobody. */
MUST_USE result ifc_label_secrecy_add(ifc_label *label, const id128 *principals, size_t count);
MUST_USE result ifc_label_integrity_add(ifc_label *label, const id128 *principals, size_t count);
bool ifc_label_equal(const ifc_label *a, const ifc_label *b);
bool ifc_flows(const ifc_label *from, const ifc_label *to);
MUST_USE result ifc_join(const ifc_label *a, const ifc_label *b, ifc_label *out);   /* least upper bound */
MUST_USE result ifc_meet(const ifc_label *a, const ifc_label *b, ifc_label *out);   /* greatest lower bound */
/* Takes an erased principal out of every secrecy clause; a clause left empty becomes false (nobody).
 * Integrity clauses that name it are dropped: what is left must claim less, never more. */
void ifc_label_prune(ifc_label *label, id128 principal);
/* Canonical bytes: same label, same bytes. Decoding checks caps and canonical form: E_DATA_LOSS. */
void ifc_label_encode(const ifc_label *label, buf *out);
MUST_USE result ifc_label_decode(bytes encoded, ifc_label *out);
/* "{a|b}&{c}" through a naming callback (NULL: ids); for people, not for parsing. */
void ifc_label_text(const ifc_label *label,
                    void (*name)(void *ctx, id128 principal, buf *out), void *ctx, buf *out);

/* The request context: who asks, and the clearance, fixed when the request was authenticated. It
 * never floats. Immutable after creation; shared by reference within the request. */
typedef struct {
    id128 tenant;
    id128 principal;
    ifc_label clearance;      /* what may be read: one clause for each of the caller's principals */
    ifc_label audience;       /* what the answer must flow to: the clearance, or the narrowed one */
    uint64_t deadline_mono_ms;             /* 0: none */
    bool (*cancelled)(void *ctx);          /* NULL: never */
    void *cancelled_ctx;
} ifc_context;

/* clearance = {p} for each principal of the set (the caller and all groups it is in, transitively). */
MUST_USE result ifc_context_init(ifc_context *out, id128 tenant, id128 caller,
                                 const id128 *principals, size_t count);
/* Narrows to an audience: group and the groups it is nested in. Only what flows to it is used. */
MUST_USE result ifc_context_narrow(ifc_context *ctx, const id128 *principals, size_t count);
/* May this data be used for this request? flows(label, clearance) and flows(label, audience). */
bool ifc_context_permits(const ifc_context *ctx, const ifc_label *label);
/* E_CANCELLED, E_DEADLINE or OK; ask at every step of long work. */
MUST_USE result ifc_context_alive(const ifc_context *ctx);

/* The one audited function that relaxes a label. authority: principals whose say-so is used, each of the
 * clearance. `to` may be more open than `from` exactly as far as they may decide: to's secrecy and the authority
 * together imply from's. Their integrity must vouch for the data, and no integrity is gained. record is called
 * when all of that holds, and must have made the decision durable when it returns OK; on its error nothing is
 * let out. E_NOT_FOUND: the caller may not see it; E_DENIED; E_EXHAUSTED (caps); record's errors. */
typedef result ifc_record_fn(void *ctx, const ifc_label *from, const ifc_label *to);
MUST_USE result ifc_declassify(const ifc_context *ctx, const id128 *authority, size_t count,
                               const ifc_label *from, const ifc_label *to, ifc_record_fn *record,
                               void *record_ctx, ifc_label *out);

/* Labelled bytes: content that carries its label. Opaque; made where content leaves a store, opened
 * by a gate. Both live in the arena given. */
typedef struct ifc_labeled ifc_labeled;
/* Copies label and content into the arena. NULL when the arena is exhausted. */
const ifc_labeled *ifc_labeled_make(arena *a, const ifc_label *label, bytes content);
const ifc_label *ifc_labeled_label(const ifc_labeled *value);
size_t ifc_labeled_size(const ifc_labeled *value);
/* For computing on content inside the house. Allowed in retrieval/ and server/session.c only (a test
 * checks it): whoever computes must label what comes out with the join of what went in. */
bytes ifc_labeled_compute(const ifc_labeled *value);

/* The one way out. A gate belongs to one request and one stream; it lets a labelled value through
 * to the sink iff its label flows to the audience, else E_NOT_FOUND and nothing is written. */
typedef struct ifc_gate {
    const ifc_context *context;
    result (*sink)(void *ctx, bytes content);
    void *sink_ctx;
} ifc_gate;
MUST_USE result ifc_gate_emit(const ifc_gate *gate, const ifc_labeled *value);
/* The same towards memory of the response (unary calls): appends to out. */
MUST_USE result ifc_gate_release(const ifc_context *context, const ifc_labeled *value, buf *out);

#endif
