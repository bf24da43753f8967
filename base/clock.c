#include "base.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static pthread_once_t fixed_once = PTHREAD_ONCE_INIT;
static bool fixed;
static uint64_t fixed_ms;

static void read_fixed(void)
{
    const char *text = getenv("LETHE_CLOCK_FIXED_MS");
    if (text == NULL || text[0] < '0' || text[0] > '9') return;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0') return;
    fixed = true;
    fixed_ms = value;
}

static uint64_t now_ms(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t) != 0) abort();
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

uint64_t clock_wall_ms(void)
{
    if (pthread_once(&fixed_once, read_fixed) != 0) abort();
    return fixed ? fixed_ms : now_ms(CLOCK_REALTIME);
}

uint64_t clock_mono_ms(void)
{
    return now_ms(CLOCK_MONOTONIC);
}
