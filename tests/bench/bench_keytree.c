/* What keytree_erase costs for one owner and for one document, against how many documents the owner
 * had; beside it adding, reading and opening. Prints a table, and CSV to argv[1] if given. The data
 * goes to a fresh folder under TMPDIR, so the fsyncs are those of that disk. */
#include "bench.h"
#include "keytree.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

static void make_folder(char path[256])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, 256, "%s/lethe-bench-XXXXXX", base ? base : "/tmp");
    if (mkdtemp(path) != NULL) return;
    perror("mkdtemp");
    exit(1);
}

static void remove_folder(const char *path)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0) fprintf(stderr, "could not remove %s\n", path);
}

typedef struct {
    double add_ms, read_us, open_ms, doc_ms, owner_ms;
    uint32_t doc_pages, owner_pages;
} figures;

enum { BATCH = 256, READS = 2000, ERASURES = 11 };

static void fill(keytree *kt, id128 tenant, id128 owner, id128 *documents, uint32_t count)
{
    keytree_node nodes[BATCH];
    keytree_node parents[] = {keytree_tenant(tenant), keytree_owner(tenant, owner)};
    must(keytree_add(kt, parents, 2));
    for (uint32_t i = 0; i < count; i += BATCH) {
        uint32_t n = count - i < BATCH ? count - i : BATCH;
        for (uint32_t j = 0; j < n; j++) {
            documents[i + j] = id_random();
            nodes[j] = keytree_document(tenant, owner, documents[i + j]);
        }
        must(keytree_add(kt, nodes, n));
    }
}

static figures measure(uint32_t count)
{
    char base[256], dir[300], root[300];
    figures f = {0};
    make_folder(base);
    snprintf(dir, sizeof dir, "%s/keytree", base);
    snprintf(root, sizeof root, "%s/root", base);
    root_holder *holder;
    keytree *kt;
    must(root_file_open(&holder, root, true));
    must(keytree_create(&kt, dir, NULL, holder));
    id128 tenant = id_random(), owner = id_random(), other = id_random(), one;
    id128 *documents = mem_alloc_array(count, sizeof *documents);
    fill(kt, tenant, other, &one, 1);
    double start = now_ms();
    fill(kt, tenant, owner, documents, count);
    f.add_ms = (now_ms() - start) / ((count + BATCH - 1) / BATCH);
    keytree_close(&kt);
    start = now_ms();
    must(keytree_open(&kt, dir, NULL, holder));
    f.open_ms = now_ms() - start;
    uint8_t secret[KEY_BYTES];
    start = now_ms();
    for (uint32_t i = 0; i < READS; i++)
        must(keytree_secret(kt, keytree_document(tenant, owner, documents[i * 7919u % count]),
                            secret));
    f.read_us = (now_ms() - start) * 1e3 / READS;
    keytree_erasure out;
    double times[ERASURES];
    for (uint32_t i = 0; i < ERASURES; i++) {
        keytree_node target = keytree_document(tenant, owner, documents[i]);
        start = now_ms();
        must(keytree_erase(kt, &target, 1, NULL, NULL, &out));
        times[i] = now_ms() - start;
    }
    qsort(times, ERASURES, sizeof *times, compare_doubles);
    f.doc_ms = times[ERASURES / 2];
    f.doc_pages = out.pages_written;
    keytree_node target = keytree_owner(tenant, owner);
    start = now_ms();
    must(keytree_erase(kt, &target, 1, NULL, NULL, &out));
    f.owner_ms = now_ms() - start;
    f.owner_pages = out.pages_written;
    mem_free(documents);
    keytree_close(&kt);
    root_holder_close(&holder);
    remove_folder(base);
    return f;
}

int main(int argc, char **argv)
{
    static const uint32_t COUNTS[] = {1000, 10000, 100000};
    FILE *csv = argc > 1 ? fopen(argv[1], "w") : NULL;
    log_level_set(LOG_WARN);
    if (csv != NULL)
        fprintf(csv, "documents,add_256_ms,read_us,open_ms,erase_document_ms,erase_document_pages,"
                     "erase_owner_ms,erase_owner_pages\n");
    printf("%10s %12s %9s %9s %15s %6s %12s %6s\n", "documents", "add 256 ms", "read us", "open ms",
           "erase doc ms", "pages", "owner ms", "pages");
    for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++) {
        figures f = measure(COUNTS[i]);
        printf("%10u %12.2f %9.1f %9.1f %15.2f %6u %12.2f %6u\n", COUNTS[i], f.add_ms, f.read_us,
               f.open_ms, f.doc_ms, f.doc_pages, f.owner_ms, f.owner_pages);
        fflush(stdout);
        if (csv != NULL)
            fprintf(csv, "%u,%.3f,%.3f,%.3f,%.3f,%u,%.3f,%u\n", COUNTS[i], f.add_ms, f.read_us,
                    f.open_ms, f.doc_ms, f.doc_pages, f.owner_ms, f.owner_pages);
    }
    if (csv != NULL) fclose(csv);
    return 0;
}
