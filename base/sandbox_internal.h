/* What the sandbox's two files share. */
#ifndef LETHE_SANDBOX_INTERNAL_H
#define LETHE_SANDBOX_INTERNAL_H

#include "sandbox.h"

/* The profile as a program for the kernel; mem_free it. */
MUST_USE result sandbox_filter_make(sandbox_profile profile, void **filter, unsigned short *length);
/* System calls alone; this thread. */
bool sandbox_filter_enter(void *filter, unsigned short length);

#endif
