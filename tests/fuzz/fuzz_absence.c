/* Proofs of absence from anywhere: any bytes have a verdict, and none proves against a made-up root. */
#include "keytree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t root[HASH_BYTES] = {7};
    const keytree_node targets[] = {
        keytree_document((id128){{1}}, (id128){{2}}, (id128){{3}}),
        keytree_document((id128){{1}}, (id128){{2}}, (id128){{200}}),
        keytree_owner((id128){{1}}, (id128){{9}}),
    };
    ASSERT(!keytree_absence_verify(bytes_of(data, size), targets, 3, root));
    return 0;
}
