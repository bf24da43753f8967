/* base: results, buffers, readers, arenas, text, files, secure memory, log, hardening. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- results ------------------------------------------------------------------------------- */

static result nested_failure(void)
{
    result inner = fail(E_NOT_FOUND, "inner %d", 7);
    return fail(E_INVALID, "outer: %s", inner.message);
}

static void results_carry_code_and_sentence(void)
{
    result r = nested_failure();
    CHECK(r.code == E_INVALID && strcmp(r.message, "outer: inner 7") == 0);
    CHECK(is_ok(OK) && OK.message[0] == '\0');
    CHECK(strcmp(error_code_name(E_NOT_FOUND), "NOT_FOUND") == 0);
    CHECK(strcmp(error_code_name(E_UNAUTHENTICATED), "UNAUTHENTICATED") == 0);
}

static void results_are_bounded_printable_utf8(void)
{
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    result r = fail(E_INVALID, "%s", text);
    CHECK(strlen(r.message) == 512);
    memcpy(text + 510, "\xe2\x82\xac", 3);            /* cut in the middle by the limit */
    r = fail(E_INVALID, "%s", text);
    CHECK(utf8_valid(bytes_str(r.message)));
    r = fail(E_INVALID, "a\nb\x1b[c\xff");
    CHECK(strcmp(r.message, "a?b?[c?") == 0);
    r = fail(E_INVALID, "\xef\xbf\xbd \xc3\xa9");     /* a true U+FFFD stays */
    CHECK(strcmp(r.message, "\xef\xbf\xbd \xc3\xa9") == 0);
}

static void errno_becomes_a_code(void)
{
    const int full[] = {ENOSPC, EDQUOT, EFBIG};
    for (size_t i = 0; i < 3; i++) {
        errno = full[i];
        result r = fail_errno("cannot write %s", "x");
        CHECK(r.code == E_UNAVAILABLE && strstr(r.message, "disk full") != NULL);
    }
    errno = EACCES;
    result r = fail_errno("cannot write %s", "x");
    CHECK(r.code == E_INTERNAL && strstr(r.message, "cannot write x: ") == r.message);
    CHECK(errno == EACCES);
}

static void *fail_elsewhere(void *arg)
{
    (void)arg;
    result r = fail(E_INTERNAL, "of the other thread");
    return is_ok(r) ? arg : NULL;
}

static void messages_belong_to_their_thread(void)
{
    pthread_t thread;
    result r = fail(E_INVALID, "mine");
    NEED(pthread_create(&thread, NULL, fail_elsewhere, NULL) == 0);
    pthread_join(thread, NULL);
    CHECK(strcmp(r.message, "mine") == 0);
}

static int signal_of(void (*child)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        if (freopen("/dev/null", "w", stderr) == NULL) _exit(2);
        child();
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WIFEXITED(status) ? -WEXITSTATUS(status) : 0;
}

static void break_assert(void) { ASSERT(1 + 1 == 3); }
static void overflow_array(void) { mem_free(mem_alloc_array(SIZE_MAX / 2, 4)); }

static void bugs_abort(void)
{
    CHECK(signal_of(break_assert) == SIGABRT);
    CHECK(signal_of(overflow_array) == SIGABRT);
}

/* ---- buffers and readers ------------------------------------------------------------------- */

static void buffers_stop_at_their_limit(void)
{
    buf b;
    buf_init(&b, 10);
    buf_append_str(&b, "12345");
    buf_append(&b, NULL, 0);
    buf_printf(&b, "%d", 67890);
    CHECK_OK(buf_check(&b));
    CHECK(b.size == 10 && strcmp((char *)b.data, "1234567890") == 0);
    buf_append_u8(&b, 'x');
    CHECK_FAILS(buf_check(&b), E_EXHAUSTED);
    CHECK(b.size == 10);
    buf_clear(&b);
    CHECK_OK(buf_check(&b));
    buf_append_str(&b, "more than ten bytes");
    buf_append_str(&b, "x");                          /* sticky: fits, but comes too late */
    CHECK(b.bad && b.size == 0);
    buf_free(&b);
    CHECK(b.data == NULL && b.size == 0 && b.capacity == 0 && !b.bad);
    buf_init(&b, SIZE_MAX);
    buf_append(&b, "", 0);
    CHECK(b.data != NULL && b.data[0] == 0);
    buf_free(&b);
}

static void buffers_grow_and_keep(void)
{
    buf b;
    buf_init(&b, 1 << 20);
    for (uint32_t i = 0; i < 5000; i++) buf_append_u32(&b, i);
    CHECK_OK(buf_check(&b));
    reader r = reader_of(buf_bytes(&b));
    for (uint32_t i = 0; i < 5000; i++) CHECK(reader_u32(&r) == i);
    CHECK_OK(reader_done(&r, "numbers"));
    buf_free(&b);
}

static void readers_are_little_endian_and_sticky(void)
{
    buf b;
    buf_init(&b, 100);
    buf_append_u8(&b, 0x01);
    buf_append_u16(&b, 0x0302);
    buf_append_u32(&b, 0x07060504);
    buf_append_u64(&b, 0x0f0e0d0c0b0a0908u);
    for (size_t i = 0; i < b.size; i++) CHECK(b.data[i] == i + 1);
    reader r = reader_of(buf_bytes(&b));
    CHECK(reader_u8(&r) == 1 && reader_u16(&r) == 0x0302 && reader_u32(&r) == 0x07060504);
    CHECK_FAILS(reader_done(&r, "it"), E_DATA_LOSS);
    CHECK(reader_u64(&r) == 0x0f0e0d0c0b0a0908u);
    CHECK_OK(reader_done(&r, "it"));
    CHECK(reader_take(&r, 0) != NULL);
    CHECK(reader_u16(&r) == 0 && r.bad);
    CHECK(reader_take(&r, 0) == NULL);
    CHECK_FAILS(reader_done(&r, "it"), E_DATA_LOSS);
    r = reader_of((bytes){NULL, 0});
    CHECK(reader_take(&r, SIZE_MAX) == NULL && r.bad);
    buf_free(&b);
}

/* ---- arenas -------------------------------------------------------------------------------- */

static void arenas_are_zeroed_aligned_and_disjoint(void)
{
    arena *a;
    arena_open(&a, 1 << 22);
    uint8_t *last = NULL;
    for (int round = 0; round < 3; round++) {
        for (size_t n = 0; n < 600; n++) {
            uint8_t *p = arena_alloc(a, n);
            NEED(p != NULL && (uintptr_t)p % 16 == 0 && p != last);
            for (size_t i = 0; i < n; i++) CHECK(p[i] == 0);
            memset(p, 0xaa, n);
            last = p;
        }
        CHECK_OK(arena_check(a));
        arena_reset(a);
    }
    uint8_t *large = arena_alloc(a, 3 << 20);
    NEED(large != NULL);
    CHECK(large[0] == 0 && large[(3 << 20) - 1] == 0);
    CHECK(strcmp(arena_strndup(a, "abcdef", 3), "abc") == 0);
    arena_close(&a);
    CHECK(a == NULL);
    arena_close(&a);
}

static void arenas_stop_at_their_limit(void)
{
    arena *a;
    arena_open(&a, 1024);
    CHECK(arena_alloc(a, 1000) != NULL);
    CHECK(arena_alloc(a, 17) == NULL);
    CHECK(arena_alloc(a, 1) == NULL);                 /* sticky */
    CHECK_FAILS(arena_check(a), E_EXHAUSTED);
    arena_reset(a);
    CHECK_OK(arena_check(a));
    CHECK(arena_alloc(a, 1024) != NULL);
    arena_reset(a);
    CHECK(arena_alloc(a, SIZE_MAX) == NULL);
    arena_reset(a);
    CHECK(arena_alloc_array(a, SIZE_MAX / 2, 3) == NULL);
    CHECK_FAILS(arena_check(a), E_EXHAUSTED);
    arena_close(&a);
}

/* ---- text ---------------------------------------------------------------------------------- */

static void utf8_encodes_and_decodes_every_code_point(void)
{
    size_t wrong = 0;
    for (uint32_t cp = 0; cp <= 0x110000; cp++) {
        uint8_t raw[4];
        size_t n = utf8_encode(cp, raw), at = 0;
        bool scalar = cp <= 0x10ffff && (cp < 0xd800 || cp > 0xdfff);
        uint32_t back = utf8_next(bytes_of(raw, n), &at);
        wrong += back != (scalar ? cp : 0xfffd) || at != n;
        wrong += utf8_valid(bytes_of(raw, n)) != (cp != 0);
    }
    CHECK(wrong == 0);
}

static void utf8_refuses_what_is_not(void)
{
    static const struct { const char *text; size_t size; } bad[] = {
        {"\x80", 1}, {"\xbf", 1}, {"\xc0\x80", 2}, {"\xc1\xbf", 2}, {"\xc2", 1}, {"\xc2\x41", 2},
        {"\xe0\x9f\xbf", 3}, {"\xe2\x82", 2}, {"\xed\xa0\x80", 3}, {"\xed\xbf\xbf", 3},
        {"\xf0\x8f\xbf\xbf", 4}, {"\xf0\x9f\x98", 3}, {"\xf4\x90\x80\x80", 4},
        {"\xf5\x80\x80\x80", 4}, {"\xff", 1}, {"\xfe", 1}, {"a\0b", 3}, {"\0", 1},
        {"abcdefgh\0ijklmnop", 17}, {"abcdefg\0", 8}, {"abcdefghijklmno\xc3", 16},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (utf8_valid(bytes_of(bad[i].text, bad[i].size))) printf("# accepted bad[%zu]\n", i);
        CHECK(!utf8_valid(bytes_of(bad[i].text, bad[i].size)));
    }
    CHECK(utf8_valid((bytes){NULL, 0}));
    CHECK(utf8_valid(bytes_str("plain ascii of more than eight bytes")));
    CHECK(utf8_valid(bytes_str("\xf4\x8f\xbf\xbf\xee\x80\x80\xed\x9f\xbf 12345678 \xc3\xa9")));
    bytes broken = bytes_of("\xe2\x82" "a", 3);       /* advances by one */
    size_t at = 0;
    CHECK(utf8_next(broken, &at) == 0xfffd && at == 1);
    CHECK(utf8_next(broken, &at) == 0xfffd && at == 2);
    CHECK(utf8_next(broken, &at) == 'a' && at == 3);
}

static void hex_goes_both_ways(void)
{
    uint8_t raw[256], back[256];
    char text[513];
    for (size_t i = 0; i < 256; i++) raw[i] = (uint8_t)i;
    hex_encode(raw, 256, text);
    CHECK(strlen(text) == 512 && strncmp(text + 20, "0a0b", 4) == 0);
    CHECK(hex_decode(text, 512, back) && memcmp(raw, back, 256) == 0);
    CHECK(hex_decode("fFAb", 4, back) && back[0] == 0xff && back[1] == 0xab);
    CHECK(!hex_decode("abc", 3, back));
    CHECK(!hex_decode("ag", 2, back));
    CHECK(!hex_decode(" a", 2, back));
    CHECK(!hex_decode("ab", 4, back));                /* stops at the NUL */
    CHECK(hex_decode("", 0, back));
}

/* ---- files --------------------------------------------------------------------------------- */

static size_t files_in(const char *dir)
{
    char command[300];
    size_t n = 0;
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", dir);
    FILE *f = popen(command, "r");
    if (f == NULL || fscanf(f, "%zu", &n) != 1) n = 999;
    if (f != NULL) pclose(f);
    return n;
}

static void files_are_replaced_whole(void)
{
    char dir[256], path[512];
    test_tmpdir(dir);
    CHECK_OK(path_join(path, sizeof path, dir, "file"));
    buf b;
    buf_init(&b, 1 << 20);
    CHECK_FAILS(file_read(path, 100, &b), E_NOT_FOUND);
    CHECK_OK(file_write_atomic(path, bytes_str("first"), 0640));
    CHECK_OK(file_write_atomic(path, bytes_str("second"), 0600));
    CHECK_OK(file_read(path, 6, &b));
    CHECK(bytes_equal(buf_bytes(&b), bytes_str("second")));
    struct stat st;
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(files_in(dir) == 1);
    CHECK_FAILS(file_read(path, 5, &b), E_INVALID);
    CHECK_FAILS(file_read(dir, 100, &b), E_INVALID);
    CHECK_OK(file_write_atomic(path, (bytes){NULL, 0}, 0600));
    buf_clear(&b);
    CHECK_OK(file_read(path, 0, &b));
    CHECK(b.size == 0);
    buf_free(&b);
    test_tmpdir_remove(dir);
}

static void a_failed_write_leaves_nothing(void)
{
    char dir[256], path[512], deep[600];
    test_tmpdir(dir);
    CHECK_OK(path_join(path, sizeof path, dir, "file"));
    CHECK_OK(path_join(deep, sizeof deep, path, "below"));
    CHECK_OK(file_write_atomic(path, bytes_str("kept"), 0600));
    CHECK(!is_ok(file_write_atomic(deep, bytes_str("x"), 0600)));
    struct rlimit old, small;                         /* as a full disk: EFBIG behind 4 KiB */
    NEED(getrlimit(RLIMIT_FSIZE, &old) == 0);
    small = (struct rlimit){4096, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    uint8_t *large = mem_alloc(100000);
    fflush(stdout);
    NEED(setrlimit(RLIMIT_FSIZE, &small) == 0);
    result r = file_write_atomic(path, bytes_of(large, 100000), 0600);
    NEED(setrlimit(RLIMIT_FSIZE, &old) == 0);
    CHECK(r.code == E_UNAVAILABLE && strstr(r.message, "disk full") != NULL);
    CHECK(strstr(r.message, dir) == NULL);
    mem_free(large);
    buf b;
    buf_init(&b, 100);
    CHECK_OK(file_read(path, 100, &b));
    CHECK(bytes_equal(buf_bytes(&b), bytes_str("kept")));
    CHECK(files_in(dir) == 1);
    buf_free(&b);
    test_tmpdir_remove(dir);
}

static void special_files_are_refused(void)
{
    char dir[256], path[512];
    test_tmpdir(dir);
    CHECK_OK(path_join(path, sizeof path, dir, "pipe"));
    NEED(mkfifo(path, 0600) == 0);
    buf b;
    buf_init(&b, 100);
    CHECK_FAILS(file_read(path, 100, &b), E_INVALID);
    CHECK_FAILS(file_read("/dev/zero", 100, &b), E_INVALID);
    buf_init(&b, 10);                                 /* the buffer's own limit */
    CHECK_OK(path_join(path, sizeof path, dir, "file"));
    CHECK_OK(file_write_atomic(path, bytes_str("eleven char"), 0600));
    CHECK_FAILS(file_read(path, 100, &b), E_EXHAUSTED);
    buf_free(&b);
    test_tmpdir_remove(dir);
}

static void destroying_overwrites(void)
{
    char dir[256], path[512], other[512];
    test_tmpdir(dir);
    CHECK_OK(path_join(path, sizeof path, dir, "key"));
    CHECK_OK(path_join(other, sizeof other, dir, "hard-link"));
    CHECK_OK(file_write_atomic(path, bytes_str("the secret key material"), 0600));
    NEED(link(path, other) == 0);                     /* shows what happened to the bytes */
    CHECK_OK(file_destroy(path));
    CHECK(access(path, F_OK) != 0);
    buf b;
    buf_init(&b, 100);
    CHECK_OK(file_read(other, 100, &b));
    CHECK(b.size == 23 && strstr((char *)b.data, "secret") == NULL);
    CHECK_OK(file_destroy(path));
    NEED(symlink(other, path) == 0);
    CHECK(!is_ok(file_destroy(path)));                /* what it points to would survive */
    buf_free(&b);
    test_tmpdir_remove(dir);
}

static void folders_and_paths(void)
{
    char dir[256], path[512];
    test_tmpdir(dir);
    CHECK_OK(path_join(path, sizeof path, dir, "sub"));
    CHECK_OK(dir_make(path, 0700));
    CHECK_OK(dir_make(path, 0700));
    CHECK_OK(file_fsync_dir(path));
    CHECK(!is_ok(file_fsync_dir("/nonexistent/folder")));
    CHECK_OK(path_join(path, sizeof path, dir, "f"));
    CHECK_OK(file_write_atomic(path, bytes_str("x"), 0600));
    CHECK_FAILS(dir_make(path, 0700), E_INVALID);
    CHECK_OK(path_join(path, sizeof path, "a/", "b"));
    CHECK(strcmp(path, "a/b") == 0);
    CHECK_OK(path_join(path, 4, "a", "b"));
    CHECK_FAILS(path_join(path, 3, "a", "b"), E_INVALID);
    test_tmpdir_remove(dir);
}

/* ---- secure memory, log, process ----------------------------------------------------------- */

static void overrun(void)
{
    volatile uint8_t *p = secure_alloc(32);
    p[32] = 1;
}

static void secure_memory_is_guarded(void)
{
    uint8_t *p = secure_alloc(33);
    CHECK((uintptr_t)p % 16 == 0);
    for (int i = 0; i < 33; i++) CHECK(p[i] == 0);
    random_bytes(p, 33);
    secure_free(p);
    secure_free(NULL);
    int how = signal_of(overrun);                     /* a sanitizer turns it into an exit code */
    CHECK(how == SIGSEGV || how == SIGABRT || how < 0);
    uint8_t a[4] = {1, 2, 3, 4}, b[4] = {1, 2, 3, 5};
    CHECK(secure_equal(a, b, 3) && !secure_equal(a, b, 4) && secure_equal(NULL, NULL, 0));
    uint8_t x[32] = {0}, y[32] = {0};
    random_bytes(x, 32);
    random_bytes(y, 32);
    CHECK(memcmp(x, y, 32) != 0);
    mem_wipe(x, 32);
    for (int i = 0; i < 32; i++) CHECK(x[i] == 0);
}

static void log_lines_are_json(void)
{
    char dir[256], path[512];
    test_tmpdir(dir);
    CHECK_OK(path_join(path, sizeof path, dir, "log"));
    fflush(stderr);
    int saved = dup(STDERR_FILENO), fd = open(path, O_CREAT | O_RDWR, 0600);
    NEED(saved >= 0 && fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
    log_event(LOG_INFO, "start", LOG_TEXT("word", "a\"b\\c\n\x01\xff\xc3\xa9"), LOG_NUMBER("n", 7));
    log_event(LOG_DEBUG, "hidden", LOG_NUMBER("n", 1));
    log_level_set(LOG_DEBUG);
    log_event(LOG_DEBUG, "shown", LOG_NUMBER("big", UINT64_MAX));
    log_level_set(LOG_INFO);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fd);
    buf b;
    buf_init(&b, 10000);
    CHECK_OK(file_read(path, 10000, &b));
    const char *text = (const char *)b.data;
    CHECK(strstr(text, "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"info\","
                 "\"event\":\"start\","
                 "\"word\":\"a\\\"b\\\\c\\n\\u0001\xef\xbf\xbd\xc3\xa9\",\"n\":7}\n") == text);
    CHECK(strstr(text, "hidden") == NULL);
    CHECK(strstr(text, "\"event\":\"shown\",\"big\":18446744073709551615}\n") != NULL);
    buf_free(&b);
    test_tmpdir_remove(dir);
}

static void clock_can_be_fixed(void)
{
    CHECK(clock_wall_ms() == 1767323045678u);         /* set in main, before the first reading */
    uint64_t before = clock_mono_ms();
    CHECK(before > 0 && clock_mono_ms() >= before);
}

static void harden_child(void)
{
    process_harden();
    struct rlimit core;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0 || core.rlim_max != 0) _exit(3);
    if (umask(0) != 077) _exit(4);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
    if (prctl(PR_GET_DUMPABLE) != 0) _exit(5);
#endif
}

static void hardening_holds(void)
{
    CHECK(signal_of(harden_child) == 0);
}

int main(void)
{
    setenv("LETHE_CLOCK_FIXED_MS", "1767323045678", 1);
    RUN(results_carry_code_and_sentence);
    RUN(results_are_bounded_printable_utf8);
    RUN(errno_becomes_a_code);
    RUN(messages_belong_to_their_thread);
    RUN(bugs_abort);
    RUN(buffers_stop_at_their_limit);
    RUN(buffers_grow_and_keep);
    RUN(readers_are_little_endian_and_sticky);
    RUN(arenas_are_zeroed_aligned_and_disjoint);
    RUN(arenas_stop_at_their_limit);
    RUN(utf8_encodes_and_decodes_every_code_point);
    RUN(utf8_refuses_what_is_not);
    RUN(hex_goes_both_ways);
    RUN(files_are_replaced_whole);
    RUN(a_failed_write_leaves_nothing);
    RUN(special_files_are_refused);
    RUN(destroying_overwrites);
    RUN(folders_and_paths);
    RUN(secure_memory_is_guarded);
    RUN(log_lines_are_json);
    RUN(clock_can_be_fixed);
    RUN(hardening_holds);
    return DONE();
}
