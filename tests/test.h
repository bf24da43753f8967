/* A unit test is a program that prints TAP: one "ok"/"not ok" line a case, then the plan. */
#ifndef LETHE_TEST_H
#define LETHE_TEST_H

#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_count_, test_failed_, test_case_failed_;

#define CHECK(cond) do { if (!(cond)) { test_case_failed_ = 1; \
    printf("# %s:%d: %s\n", __FILE__, __LINE__, #cond); } } while (0)
#define CHECK_OK(expr) do { result check_r_ = (expr); if (!is_ok(check_r_)) { test_case_failed_ = 1; \
    printf("# %s:%d: %s: %s %s\n", __FILE__, __LINE__, #expr, error_code_name(check_r_.code), \
           check_r_.message); } } while (0)
#define CHECK_FAILS(expr, want) do { result check_r_ = (expr); if (check_r_.code != (want)) { \
    test_case_failed_ = 1; printf("# %s:%d: %s: got %s (%s), want %s\n", __FILE__, __LINE__, #expr, \
    error_code_name(check_r_.code), check_r_.message, error_code_name(want)); } } while (0)
/* As CHECK, and leaves the case. */
#define NEED(cond) do { if (!(cond)) { test_case_failed_ = 1; \
    printf("# %s:%d: %s\n", __FILE__, __LINE__, #cond); return; } } while (0)

#define RUN(fn) do { test_case_failed_ = 0; fn(); test_count_++; test_failed_ += test_case_failed_; \
    printf("%s %d - %s\n", test_case_failed_ ? "not ok" : "ok", test_count_, #fn); \
    fflush(stdout); } while (0)
#define DONE() (printf("1..%d\n", test_count_), test_failed_ ? 1 : 0)

/* A fresh folder under TMPDIR, removed by test_tmpdir_remove. */
static inline char *test_tmpdir(char path[256])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, 256, "%s/lethe-test-XXXXXX", base ? base : "/tmp");
    if (mkdtemp(path) == NULL) { perror("mkdtemp"); exit(1); }
    return path;
}
static inline void test_tmpdir_remove(const char *path)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0) printf("# could not remove %s\n", path);
}

#endif
