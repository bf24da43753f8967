/* The request context, labelled bytes, and the gate: the one way out. */
#include "ifc.h"

#include "mutant.h"

#include <string.h>

struct ifc_labeled {
    ifc_label label;
    bytes content;
};

/* One clause for each principal: who holds all of these may read what any of them may. */
static result reader_label(ifc_label *out, const id128 *principals, size_t count)
{
    ifc_label_public(out);
    for (size_t i = 0; i < count; i++) {
        result r = ifc_label_secrecy_add(out, &principals[i], 1);
        if (!is_ok(r)) {
            /* As a reader, "nobody" would be everybody: what fails here reads public data only. */
            ifc_label_public(out);
            return r;
        }
    }
    return OK;
}

result ifc_context_init(ifc_context *out, id128 tenant, id128 caller, const id128 *principals,
                        size_t count)
{
    memset(out, 0, sizeof *out);
    out->tenant = tenant;
    out->principal = caller;
    result r = reader_label(&out->clearance, principals, count);
    out->audience = out->clearance;
    return r;
}

result ifc_context_narrow(ifc_context *ctx, const id128 *principals, size_t count)
{
    if (MUTANT(audience_ignored)) return OK;
    return reader_label(&ctx->audience, principals, count);
}

bool ifc_context_permits(const ifc_context *ctx, const ifc_label *label)
{
    return ifc_flows(label, &ctx->clearance) && ifc_flows(label, &ctx->audience);
}

result ifc_context_alive(const ifc_context *ctx)
{
    if (ctx->cancelled != NULL && ctx->cancelled(ctx->cancelled_ctx))
        return fail(E_CANCELLED, "the request was cancelled");
    if (ctx->deadline_mono_ms != 0 && clock_mono_ms() >= ctx->deadline_mono_ms)
        return fail(E_DEADLINE, "the request's deadline has passed");
    return OK;
}

const ifc_labeled *ifc_labeled_make(arena *a, const ifc_label *label, bytes content)
{
    ifc_labeled *value = arena_alloc(a, sizeof *value);
    uint8_t *copy = arena_alloc(a, content.size);
    if (value == NULL || copy == NULL) return NULL;
    if (content.size > 0) memcpy(copy, content.data, content.size);
    value->label = *label;
    value->content = bytes_of(copy, content.size);
    return value;
}

const ifc_label *ifc_labeled_label(const ifc_labeled *value)
{
    return &value->label;
}

size_t ifc_labeled_size(const ifc_labeled *value)
{
    return value->content.size;
}

bytes ifc_labeled_compute(const ifc_labeled *value)
{
    return value->content;
}

static result gate_check(const ifc_context *context, const ifc_labeled *value)
{
    if (MUTANT(gate_open)) return OK;
    if (ifc_context_permits(context, &value->label)) return OK;
    return fail(E_NOT_FOUND, "%s", IFC_NOT_FOUND);
}

result ifc_gate_emit(const ifc_gate *gate, const ifc_labeled *value)
{
    TRY(gate_check(gate->context, value));
    return gate->sink(gate->sink_ctx, value->content);
}

result ifc_gate_release(const ifc_context *context, const ifc_labeled *value, buf *out)
{
    TRY(gate_check(context, value));
    buf_append(out, value->content.data, value->content.size);
    return buf_check(out);
}
