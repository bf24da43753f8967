/* Replays a fuzz target's corpus: every file of the folder, every prefix of small files, and small
 * deterministic mutations of each. Prints TAP: one case for the whole corpus. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long runs;

static void run_one(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);       /* exact size: ASan sees a byte too far */
    if (copy == NULL) abort();
    if (size) memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    runs++;
}

static void run_file(const char *path)
{
    struct stat st;
    FILE *f = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? fopen(path, "rb") : NULL;
    if (f == NULL) return;
    size_t size = (size_t)st.st_size;
    uint8_t *data = malloc(size ? size : 1);
    if (data == NULL || fread(data, 1, size, f) != size) abort();
    fclose(f);
    run_one(data, size);
    size_t step = size < 512 ? 1 : size / 64 + 1;
    for (size_t n = 0; n < size; n += step) run_one(data, n);
    uint64_t x = 88172645463325252u;
    for (int i = 0; i < 200 && size > 0; i++) {
        x ^= x << 13; x ^= x >> 7; x ^= x << 17;
        size_t at = (size_t)(x % size);
        uint8_t old = data[at];
        data[at] = (uint8_t)(x >> 32);
        run_one(data, size);
        if (i % 3) data[at] = old;                 /* some changes stay and pile up */
    }
    free(data);
}

int main(int argc, char **argv)
{
    if (argc != 2) { fprintf(stderr, "usage: %s CORPUS_DIR\n", argv[0]); return 2; }
    DIR *dir = opendir(argv[1]);
    if (dir == NULL) { perror(argv[1]); return 1; }
    int files = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[4096];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], e->d_name);
        run_file(path);
        files++;
    }
    closedir(dir);
    run_one((const uint8_t *)"", 0);
    printf("%s 1 - corpus %s: %d files, %lu inputs\n1..1\n", files ? "ok" : "not ok", argv[1], files, runs);
    return files ? 0 : 1;
}
