/* seek: which of many byte strings occur in files, all in one pass over each.
 *
 * usage: seek NEEDLES FILE...     NEEDLES: one a line, in hex, 4 to 128 bytes; prints "LINE FILE OFFSET" of the first
 * occurrence of each in each file, counted from 0. */
#include <ctype.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NEEDLES_MAX = 4096, NEEDLE_MAX_BYTES = 128, HEADS = 1 << 16 };

static uint8_t needles[NEEDLES_MAX][NEEDLE_MAX_BYTES];
static size_t sizes[NEEDLES_MAX], needle_count;
static int16_t first[HEADS], next[NEEDLES_MAX];      /* lists of those that begin with the same two bytes; -1 ends */
static int told[NEEDLES_MAX];

static void read_needles(const char *path)
{
    char line[2 * NEEDLE_MAX_BYTES + 2];
    FILE *f = fopen(path, "r");
    if (f == NULL) exit(2);
    memset(first, -1, sizeof first);
    while (needle_count < NEEDLES_MAX && fgets(line, sizeof line, f) != NULL) {
        size_t n = 0;
        for (unsigned byte; isxdigit((unsigned char)line[2 * n]) && sscanf(line + 2 * n, "%2x", &byte) == 1; n++)
            needles[needle_count][n] = (uint8_t)byte;
        if (n < 4) exit(2);
        size_t head = needles[needle_count][0] | (size_t)needles[needle_count][1] << 8;
        sizes[needle_count] = n;
        next[needle_count] = first[head];
        first[head] = (int16_t)needle_count++;
    }
    fclose(f);
}

static void seek(const char *path, int number)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) exit(2);
    size_t size = (size_t)st.st_size;
    if (size >= 4) {
        const uint8_t *all = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (all == MAP_FAILED) exit(2);
        for (size_t at = 0; at + 4 <= size; at++)
            for (int n = first[all[at] | all[at + 1] << 8]; n >= 0; n = next[n]) {
                if (told[n] == number || sizes[n] > size - at || memcmp(all + at, needles[n], sizes[n]) != 0) continue;
                told[n] = number;
                printf("%d %d %zu\n", n, number - 1, at);
            }
        munmap((void *)(uintptr_t)all, size);
    }
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    read_needles(argv[1]);
    for (int i = 2; i < argc; i++) seek(argv[i], i - 1);
    return 0;
}
