/* keytree_file: the tree's folder and its mirror: slots of the pages file and head files. */
#include "keytree_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD_FILE_MAX_BYTES = 4096, COPY_BYTES = 64 * KT_SLOT_BYTES, HEADS_MAX = 16 };

result kt_folder_open(kt_folder *folder, const char *dir, bool create)
{
    char path[KT_PATH_MAX_BYTES];
    folder->fd = -1;
    if (create) TRY(dir_make(dir, 0700));
    TRY(path_join(path, sizeof path, dir, "pages"));
    folder->dir = mem_strdup(dir);
    folder->fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
    if (folder->fd < 0 && errno == ENOENT)
        return fail(E_DATA_LOSS, "the key tree's file pages is missing");
    if (folder->fd < 0) return fail_errno("cannot open the key tree's pages");
    if (flock(folder->fd, LOCK_EX | LOCK_NB) != 0)
        return fail(E_PRECONDITION, "the key tree is in use by another process");
    TRY(dir_sweep(dir, "head."));
    return create ? file_fsync_dir(dir) : OK;
}

void kt_folder_close(kt_folder *folder)
{
    if (folder->dir == NULL) return;
    if (folder->fd >= 0) close(folder->fd);
    mem_free(folder->dir);
    *folder = (kt_folder){NULL, -1};
}

/* ---- slots ---- */
static result read_at(int fd, uint8_t *out, size_t size, uint64_t offset, size_t *got)
{
    *got = 0;
    while (*got < size) {
        ssize_t n = pread(fd, out + *got, size - *got, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno("cannot read the key tree");
        if (n == 0) break;
        *got += (size_t)n;
    }
    return OK;
}

static result write_at(int fd, const uint8_t *data, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, data + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno("cannot write the key tree");
        done += (size_t)n;
    }
    return OK;
}

static uint64_t slot_offset(uint64_t number)
{
    ASSERT(number >= 1 && number <= UINT64_MAX / KT_SLOT_BYTES / 2);
    return (number - 1) * KT_SLOT_BYTES;
}

result kt_slot_write(keytree *kt, uint64_t number, const uint8_t slot[KT_SLOT_BYTES])
{
    for (uint32_t i = 0; i < kt->folder_count; i++)
        TRY(write_at(kt->folders[i].fd, slot, KT_SLOT_BYTES, slot_offset(number)));
    return OK;
}

result kt_slots_sync(keytree *kt)
{
    for (uint32_t i = 0; i < kt->folder_count; i++)
        if (fdatasync(kt->folders[i].fd) != 0) return fail_errno("cannot sync the key tree");
    return OK;
}

result kt_slot_repair(keytree *kt, uint64_t number)
{
    uint8_t slot[KT_SLOT_BYTES];
    size_t got;
    ASSERT(kt->folder_count == 2);
    TRY(read_at(kt->folders[1].fd, slot, sizeof slot, slot_offset(number), &got));
    if (got != sizeof slot) return fail(E_DATA_LOSS, "the mirror lacks a key page");
    TRY(write_at(kt->folders[0].fd, slot, sizeof slot, slot_offset(number)));
    if (fdatasync(kt->folders[0].fd) != 0) return fail_errno("cannot sync the key tree");
    return OK;
}

result kt_page_read(int fd, const kt_ref *ref, uint8_t level, uint8_t step, kt_page *page)
{
    uint8_t slot[KT_SLOT_BYTES];
    size_t got;
    if (ref->page < 1 || ref->page > UINT64_MAX / KT_SLOT_BYTES / 2)
        return fail(E_DATA_LOSS, "a key page's number is out of range");
    TRY(read_at(fd, slot, sizeof slot, slot_offset(ref->page), &got));
    if (got != sizeof slot) return fail(E_DATA_LOSS, "key page %" PRIu64 " is missing", ref->page);
    result r = kt_page_unseal(slot, ref->page, level, step, ref->key, page);
    if (!is_ok(r)) return fail(r.code, "key page %" PRIu64 " does not open", ref->page);
    if (page->count != ref->count)
        return fail(E_DATA_LOSS, "key page %" PRIu64 " has a wrong count", ref->page);
    return OK;
}

/* ---- heads ---- */
static result head_path(const kt_folder *folder, uint64_t epoch, char path[KT_PATH_MAX_BYTES])
{
    char name[32];
    snprintf(name, sizeof name, "head.%" PRIu64, epoch);
    return path_join(path, KT_PATH_MAX_BYTES, folder->dir, name);
}

result kt_head_write(keytree *kt, const kt_head *head)
{
    char path[KT_PATH_MAX_BYTES];
    buf sealed;
    buf_init(&sealed, HEAD_FILE_MAX_BYTES);
    result r = kt_head_seal(head, kt->holder, &sealed);
    for (uint32_t i = kt->folder_count; is_ok(r) && i-- > 0;) {
        r = head_path(&kt->folders[i], head->epoch, path);
        if (is_ok(r)) r = file_write_atomic(path, buf_bytes(&sealed), 0600);
    }
    buf_free(&sealed);
    return r;
}

static result head_bytes(const kt_folder *folder, uint64_t epoch, buf *out)
{
    char path[KT_PATH_MAX_BYTES];
    TRY(head_path(folder, epoch, path));
    result r = file_read(path, HEAD_FILE_MAX_BYTES, out);
    return r.code == E_INVALID ? fail(E_DATA_LOSS, "the key tree's head is too large") : r;
}

result kt_head_read(const kt_folder *folder, uint64_t epoch, root_holder *holder,
                    kt_head *head)
{
    buf sealed;
    buf_init(&sealed, HEAD_FILE_MAX_BYTES);
    result r = head_bytes(folder, epoch, &sealed);
    if (is_ok(r)) r = kt_head_unseal(buf_bytes(&sealed), epoch, holder, head);
    buf_free(&sealed);
    return r;
}

result kt_head_remove(keytree *kt, uint64_t epoch)
{
    char path[KT_PATH_MAX_BYTES];
    for (uint32_t i = kt->folder_count; i-- > 0;) {
        TRY(head_path(&kt->folders[i], epoch, path));
        if (unlink(path) != 0 && errno != ENOENT) return fail_errno("cannot remove an old head");
        TRY(file_fsync_dir(kt->folders[i].dir));
    }
    return OK;
}

result kt_heads_keep(keytree *kt, uint64_t epoch)
{
    for (uint32_t i = 0; i < kt->folder_count; i++) {
        uint64_t epochs[HEADS_MAX];
        size_t count;
        TRY(dir_numbers(kt->folders[i].dir, "head.", epochs, HEADS_MAX, &count));
        for (size_t j = 0; j < count; j++)
            if (epochs[j] != epoch) TRY(kt_head_remove(kt, epochs[j]));
    }
    return OK;
}

/* ---- mirror ---- */
static result copy_slots(int from, int to, uint64_t size)
{
    uint8_t *a = mem_alloc(COPY_BYTES), *b = mem_alloc(COPY_BYTES);
    result r = OK;
    for (uint64_t at = 0; at < size; at += COPY_BYTES) {
        size_t got_a, got_b;
        TRY_TO(r, read_at(from, a, COPY_BYTES, at, &got_a), out);
        TRY_TO(r, read_at(to, b, COPY_BYTES, at, &got_b), out);
        if (!bytes_equal(bytes_of(a, got_a), bytes_of(b, got_b)))
            TRY_TO(r, write_at(to, a, got_a, at), out);
    }
out:
    mem_free(a);
    mem_free(b);
    return r;
}

result kt_mirror_sync(keytree *kt)
{
    if (kt->folder_count < 2) return OK;
    const kt_folder *main_ = &kt->folders[0], *mirror = &kt->folders[1];
    struct stat st;
    if (fstat(main_->fd, &st) != 0) return fail_errno("cannot look at the key tree");
    TRY(copy_slots(main_->fd, mirror->fd, (uint64_t)st.st_size));
    if (ftruncate(mirror->fd, st.st_size) != 0 || fdatasync(mirror->fd) != 0)
        return fail_errno("cannot write the key tree's mirror");
    char path[KT_PATH_MAX_BYTES];
    uint64_t epoch = kt->now->head.epoch;
    buf ours, theirs;
    buf_init(&ours, HEAD_FILE_MAX_BYTES);
    buf_init(&theirs, HEAD_FILE_MAX_BYTES);
    result r;
    TRY_TO(r, head_bytes(main_, epoch, &ours), out);
    r = head_bytes(mirror, epoch, &theirs);
    if (is_ok(r) && bytes_equal(buf_bytes(&ours), buf_bytes(&theirs))) goto out;
    TRY_TO(r, head_path(mirror, epoch, path), out);
    r = file_write_atomic(path, buf_bytes(&ours), 0600);
out:
    buf_free(&ours);
    buf_free(&theirs);
    return r;
}
