/* What all holders share. */
#include "holder.h"

#include "holder_lock.h"

#include <sys/file.h>
#include <time.h>

enum { LOCK_TRIES = 40, LOCK_PAUSE_MS = 25 };

/* A keeper whose server was killed ends a moment after it: the next one waits for that. */
bool holder_lock(int fd)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

void root_holder_close(root_holder **holder)
{
    if (*holder == NULL) return;
    (*holder)->ops->close(*holder);
    *holder = NULL;
}

const char *root_holder_assurance(const root_holder *holder) { return holder->assurance; }
const char *root_holder_note(const root_holder *holder) { return holder->note; }
