/* Tombstones: GetTombstones, SetTombstones. Who asks is answered by the policy of the owner concerned alone. */
#include "service.h"

#include "lethe/v1/erasure.pb-c.h"

_Static_assert((int)LETHE__V1__TOMBSTONES_POLICY__TOMBSTONES_POLICY_FLAG == (int)TOMBSTONES_FLAG &&
               (int)LETHE__V1__TOMBSTONES_POLICY__TOMBSTONES_POLICY_REFUSE == (int)TOMBSTONES_REFUSE,
               "the same numbers on the wire and in the store");

static result answer(request *q, id128 owner)
{
    retrieval_tombstones now;
    TRY(retrieval_tombstones_get(q->h->stores, q->who.tenant, owner, &now));
    Lethe__V1__TombstonesResponse response = LETHE__V1__TOMBSTONES_RESPONSE__INIT;
    response.policy = (Lethe__V1__TombstonesPolicy)now.policy;
    response.documents = now.documents;
    response.marks = now.marks;
    return request_send(q, &response.base);
}

result tombstones_get(request *q)
{
    Lethe__V1__GetTombstonesRequest *m;
    id128 owner;
    TRY(request_receive(q, &lethe__v1__get_tombstones_request__descriptor, &m));
    TRY(request_owner(q, m->owner, &owner));
    return answer(q, owner);
}

result tombstones_set(request *q)
{
    Lethe__V1__SetTombstonesRequest *m;
    id128 owner;
    TRY(request_receive(q, &lethe__v1__set_tombstones_request__descriptor, &m));
    if ((unsigned)m->policy > TOMBSTONES_REFUSE) return fail(E_INVALID, "policy: 0 off, 1 flag, 2 refuse");
    TRY(request_owner(q, m->owner, &owner));
    if (m->owner[0] && !q->who.tenant_admin)
        return fail(E_DENIED, "for a group this needs an admin of the tenant who belongs to it");
    TRY(retrieval_tombstones_set(q->h->stores, q->who.tenant, owner, (tombstones_policy)m->policy));
    return answer(q, owner);
}
