/* Folders, a root holder and a key tree for a test's stores, and the tiny embedder. */
#ifndef LETHE_STORE_FOLDERS_H
#define LETHE_STORE_FOLDERS_H

#include "keytree.h"
#include "test.h"

#include "tiny_embedder.h"

typedef struct { char dir[256], data[300], embedder[300]; root_holder *root; keytree *keys; } store_folders;

static inline void store_folders_make(store_folders *f)
{
    char path[400];
    test_tmpdir(f->dir);
    snprintf(f->data, sizeof f->data, "%s/data", f->dir);
    snprintf(f->embedder, sizeof f->embedder, "%s/embedder", f->dir);
    CHECK_OK(dir_make(f->data, 0700));
    CHECK_OK(dir_make(f->embedder, 0700));
    tiny_embedder_write(f->embedder, TINY_F32);
    snprintf(path, sizeof path, "%s/root", f->dir);
    CHECK_OK(root_file_open(&f->root, path, true));
    snprintf(path, sizeof path, "%s/keytree", f->data);
    CHECK_OK(keytree_create(&f->keys, path, NULL, f->root));
}

static inline void store_folders_remove(store_folders *f)
{
    keytree_close(&f->keys);
    root_holder_close(&f->root);
    test_tmpdir_remove(f->dir);
}

#endif
