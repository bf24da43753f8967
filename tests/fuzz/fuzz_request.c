/* Requests: any bytes as any message of lethe.v1, unpacked as the server does. The first byte picks the
 * message. */
#include "server/message.h"

#include "lethe/v1/access.pb-c.h"
#include "lethe/v1/admin.pb-c.h"
#include "lethe/v1/answers.pb-c.h"
#include "lethe/v1/documents.pb-c.h"
#include "lethe/v1/erasure.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ProtobufCMessageDescriptor *const types[] = {
        &lethe__v1__ask_request__descriptor, &lethe__v1__search_request__descriptor,
        &lethe__v1__put_request__descriptor, &lethe__v1__share_request__descriptor,
        &lethe__v1__erase_request__descriptor, &lethe__v1__set_quota_request__descriptor,
        &lethe__v1__create_tenant_request__descriptor, &lethe__v1__list_request__descriptor,
        &lethe__v1__ask_frame__descriptor, &lethe__v1__stats_response__descriptor,
        &lethe__v1__find_subject_request__descriptor, &lethe__v1__find_subject_response__descriptor,
    };
    if (size == 0) return 0;
    arena *mem;
    arena_open(&mem, 16 << 20);
    ProtobufCMessage *m = NULL;
    result r = message_unpack(mem, types[data[0] % (sizeof types / sizeof types[0])], bytes_of(data + 1, size - 1), &m);
    ASSERT(is_ok(r) ? m != NULL : r.code == E_INVALID || r.code == E_EXHAUSTED);
    arena_close(&mem);
    return 0;
}
