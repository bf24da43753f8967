/* What the proof assumes of functions outside formula.c: that memcmp orders ids as numbers. */
#include "ifc/formula.h"

/*@ assigns \nothing;
    ensures \result <==> id_value(a) == id_value(b);
*/
bool id_equal(id128 a, id128 b);

/*@ assigns \nothing;
    ensures \result < 0 <==> id_value(a) < id_value(b);
    ensures \result == 0 <==> id_value(a) == id_value(b);
*/
int id_compare(id128 a, id128 b);
