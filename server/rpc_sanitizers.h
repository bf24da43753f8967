/* rpc_sanitizers: what the sanitizers must not hold against the distribution's libraries, which come
 * without instrumentation. Included by rpc_core.c alone; nothing of Lethe's own is listed. */
#ifndef LETHE_RPC_SANITIZERS_H
#define LETHE_RPC_SANITIZERS_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LETHE_ASAN 1
#elif __has_feature(thread_sanitizer)
#define LETHE_TSAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define LETHE_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define LETHE_TSAN 1
#endif

#ifdef LETHE_ASAN
/* c-ares keeps ten bytes of each resolved host name. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libcares.so\n"; }
/* Standard error belongs to the programs. */
const char *__lsan_default_options(void);
const char *__lsan_default_options(void) { return "print_suppressions=0"; }
#endif

#ifdef LETHE_TSAN
/* Their atomics and futexes are not seen, so what they do among themselves looks like races. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libgrpc.so\ncalled_from_lib:libgpr.so\nrace:libabsl_*.so\n"
           "called_from_lib:libcrypto.so\ncalled_from_lib:libssl.so\ncalled_from_lib:libupb.so\n"
           "called_from_lib:libcares.so\ncalled_from_lib:libaddress_sorting.so\n"
           "called_from_lib:libre2.so\n";
}
#endif

#endif
