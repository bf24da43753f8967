/* holder_lock: one process a root folder or token. */
#ifndef LETHE_HOLDER_LOCK_H
#define LETHE_HOLDER_LOCK_H

#include <stdbool.h>

/* Takes the lock on an open file. False: another process keeps it. */
bool holder_lock(int fd);

#endif
