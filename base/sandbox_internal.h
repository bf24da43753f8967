/* What the sandbox's two files share. */
#ifndef LETHE_SANDBOX_INTERNAL_H
#define LETHE_SANDBOX_INTERNAL_H

#include "sandbox.h"

/* LeakSanitizer stops the world from a clone with ptrace; all of them read /proc/self. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif

/* The profile as a program for the kernel; mem_free it. */
MUST_USE result sandbox_filter_make(sandbox_profile profile, void **filter, unsigned short *length);
/* System calls alone; this thread. */
bool sandbox_filter_enter(void *filter, unsigned short length);

#endif
