/* keeper: the keeper's side. It has one peer, the process that started it, and ends with it. */
#ifndef LETHE_KEEPER_H
#define LETHE_KEEPER_H

#include "holder.h"

/* Says hello (opened: what opening the holder gave) and answers until the peer closes: OK then, and
 * E_DATA_LOSS for a message that its peer may not say. opened is not OK: says so, and is done. */
MUST_USE result keeper_serve(int fd, root_holder *holder, result opened);

#endif
