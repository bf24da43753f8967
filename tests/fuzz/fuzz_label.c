/* Any bytes as an encoded label: refused, and closed to everybody, or the canonical form. */
#include "ifc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ifc_label label, other, join;
    ifc_label_public(&other);
    if (!is_ok(ifc_label_decode(bytes_of(data, size), &label))) {
        ASSERT(!ifc_flows(&label, &other));
        return 0;
    }
    buf again, text;
    buf_init(&again, size);
    ifc_label_encode(&label, &again);
    ASSERT(bytes_equal(buf_bytes(&again), bytes_of(data, size)));
    buf_init(&text, 1 << 16);
    ifc_label_text(&label, NULL, NULL, &text);
    ASSERT(!text.bad && utf8_valid(buf_bytes(&text)));
    ASSERT(ifc_flows(&label, &label));
    ASSERT(is_ok(ifc_join(&label, &label, &join)) && ifc_label_equal(&join, &label));
    ASSERT(is_ok(ifc_meet(&label, &label, &join)) && ifc_label_equal(&join, &label));
    if (label.secrecy.clause_count > 0 && label.secrecy.ends[0] > 0) {
        other = label;
        ifc_label_prune(&other, label.secrecy.principals[0]);
        ASSERT(ifc_flows(&label, &other));
    }
    buf_free(&again);
    buf_free(&text);
    return 0;
}
