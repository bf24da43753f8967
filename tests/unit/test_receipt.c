/* Receipts and the log they stand in: whatever byte is changed, the verdict is "not valid"; the log survives a torn
 * end, and no other damage goes unseen. */
#include "server/receipt.h"

#include "test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static uint8_t public_key[SIGN_PUBLIC_BYTES], secret_key[SIGN_SECRET_BYTES];
static const id128 TENANT = {{0xff, 1}}, OWNER = {{2}}, DOCUMENT = {{3}}, OTHER = {{4}};
static const char SALT[] = "ab";

typedef struct {
    char base[256], log_dir[320], root[320], tree[320];
    root_holder *holder;
    keytree *keys;
    audit_log *log;
    buf receipt;
    char target[256];
} place;

static void log_open(place *p) { audit_log_open(&p->log, p->log_dir, public_key, secret_key); }

static cJSON *note(uint32_t n)
{
    char text[ID_TEXT_BYTES];
    cJSON *o = cJSON_CreateObject();
    id_text((id128){{9, (uint8_t)n}}, text);
    cJSON_AddStringToObject(o, "id", text);
    cJSON_AddNumberToObject(o, "items", n);
    return o;
}

/* Erases one of two documents for real, and makes its receipt: entry 3 of 6 in the log. */
static void make(place *p)
{
    keytree_erasure out;
    merkle_hash path[MERKLE_PATH_MAX];
    audit_head head;
    uint8_t commitment[HASH_BYTES], root[HASH_BYTES];
    char text[2][ID_TEXT_BYTES];
    buf proof, entry;
    test_tmpdir(p->base);
    snprintf(p->log_dir, sizeof p->log_dir, "%s/log", p->base);
    snprintf(p->root, sizeof p->root, "%s/root", p->base);
    snprintf(p->tree, sizeof p->tree, "%s/tree", p->base);
    CHECK_OK(dir_make(p->log_dir, 0700));
    CHECK_OK(root_file_open(&p->holder, p->root, true));
    CHECK_OK(keytree_create(&p->keys, p->tree, NULL, p->holder));
    const keytree_node nodes[] = {keytree_tenant(TENANT), keytree_owner(TENANT, OWNER),
                                  keytree_document(TENANT, OWNER, DOCUMENT),
                                  keytree_document(TENANT, OWNER, OTHER)};
    CHECK_OK(keytree_add(p->keys, nodes, 4));
    CHECK_OK(keytree_erase(p->keys, &nodes[2], 1, NULL, NULL, &out));
    buf_init(&proof, KEYTREE_PROOF_MAX_BYTES);
    buf_init(&entry, AUDIT_ENTRY_MAX_BYTES);
    buf_init(&p->receipt, RECEIPT_MAX_BYTES);
    CHECK_OK(keytree_absence_prove(p->keys, &nodes[2], 1, root, &proof));
    id_text(OWNER, text[0]);
    id_text(DOCUMENT, text[1]);
    snprintf(p->target, sizeof p->target, "document:%s/%s", text[0], text[1]);
    receipt_commit(SALT, p->target, commitment);

    log_open(p);
    for (uint32_t n = 0; n < 3; n++) CHECK_OK(audit_log_append(p->log, TENANT, "grant", note(n), NULL));
    cJSON *o = note(77);
    cJSON_AddStringToObject(o, "kind", "document");
    canonical_add_hex(o, "commitment", commitment, HASH_BYTES);
    canonical_add_hex(o, "subtree_after", root, HASH_BYTES);
    receipt_parts parts = {.head = &head, .path = path, .absence = buf_bytes(&proof)};
    CHECK_OK(audit_log_append(p->log, TENANT, RECEIPT_EVENT, o, &parts.index));
    for (uint32_t n = 4; n < 6; n++) CHECK_OK(audit_log_append(p->log, TENANT, "grant", note(n), NULL));
    CHECK_OK(audit_log_inclusion(p->log, TENANT, parts.index, &head, path, &parts.path_count));
    CHECK_OK(audit_log_entry(p->log, TENANT, parts.index, &entry));
    parts.entry = buf_bytes(&entry);
    CHECK(parts.index == 3 && head.size == 6 && parts.path_count == 3);
    CHECK_OK(receipt_make(&parts, public_key, secret_key, &p->receipt));
    buf_free(&proof);
    buf_free(&entry);
}

static void end(place *p)
{
    audit_log_close(&p->log);
    keytree_close(&p->keys);
    root_holder_close(&p->holder);
    buf_free(&p->receipt);
    test_tmpdir_remove(p->base);
}

static void valid_trusted_opened(void)
{
    place p;
    receipt_verdict v;
    make(&p);
    uint8_t other[SIGN_PUBLIC_BYTES] = {1};
    char wrong[256];
    snprintf(wrong, sizeof wrong, "%s", p.target);
    wrong[strlen(wrong) - 31] = '9';
    receipt_opening opening = {SALT, p.target};
    receipt_verify(buf_bytes(&p.receipt), public_key, NULL, &v);
    CHECK(v.valid && v.trusted && !v.opened && v.reason[0] == 0);
    receipt_verify(buf_bytes(&p.receipt), public_key, &opening, &v);
    CHECK(v.valid && v.trusted && v.opened && v.reason[0] == 0);
    receipt_verify(buf_bytes(&p.receipt), NULL, NULL, &v);
    CHECK(v.valid && !v.trusted && strlen(v.signer) == 64);
    receipt_verify(buf_bytes(&p.receipt), other, NULL, &v);
    CHECK(v.valid && !v.trusted && v.reason[0] != 0);
    opening.target = wrong;
    receipt_verify(buf_bytes(&p.receipt), public_key, &opening, &v);
    CHECK(!v.valid && !v.opened && v.reason[0] != 0);
    opening = (receipt_opening){"cd", p.target};
    receipt_verify(buf_bytes(&p.receipt), public_key, &opening, &v);
    CHECK(!v.valid && !v.opened);
    buf_append_u8(&p.receipt, '\n');
    receipt_verify(buf_bytes(&p.receipt), public_key, NULL, &v);
    CHECK(v.valid && v.trusted);
    buf_append_u8(&p.receipt, '\n');
    receipt_verify(buf_bytes(&p.receipt), public_key, NULL, &v);
    CHECK(!v.valid);
    end(&p);
}

/* Rightly signed by the server, but untrue: the verifier sees what does not hold together. */
static void a_signed_lie_is_seen(void)
{
    static const struct { const char *name; size_t bytes; } lies[] = {
        {"log_root", 32}, {"log_path", 96}, {"subtree_after", 32}, {"log_signature", 64}, {"commitment", 32}};
    place p;
    receipt_verdict v;
    make(&p);
    receipt_opening opening = {SALT, p.target};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        uint8_t value[96];
        cJSON *o = canonical_parse(buf_bytes(&p.receipt), RECEIPT_MAX_BYTES);
        NEED(o && canonical_get_hex(o, lies[i].name, lies[i].bytes, value));
        value[5] ^= 1;
        cJSON_DeleteItemFromObject(o, lies[i].name);
        cJSON_DeleteItemFromObject(o, "signature");
        cJSON_DeleteItemFromObject(o, "signer");
        canonical_add_hex(o, lies[i].name, value, lies[i].bytes);
        buf again;
        buf_init(&again, RECEIPT_MAX_BYTES);
        CHECK_OK(canonical_sign(o, public_key, secret_key, &again));
        receipt_verify(buf_bytes(&again), public_key, &opening, &v);
        CHECK(!v.valid && v.reason[0] != 0);
        buf_free(&again);
        cJSON_Delete(o);
    }
    end(&p);
}

/* Every byte, every bit, and every byte taken out or doubled. */
static void every_change_is_seen(void)
{
    place p;
    make(&p);
    size_t n = p.receipt.size;
    const uint8_t *text = p.receipt.data;
    uint8_t *copy = mem_alloc(n + 1);
    receipt_verdict v;
    int accepted = 0;
    for (size_t i = 0; i < n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, text, n);
            copy[i] ^= (uint8_t)(1 << bit);
            receipt_verify(bytes_of(copy, n), public_key, NULL, &v);
            accepted += v.valid && v.trusted;
        }
        memcpy(copy, text, i);
        memcpy(copy + i, text + i + 1, n - i - 1);
        receipt_verify(bytes_of(copy, n - 1), public_key, NULL, &v);
        accepted += v.valid;
        memcpy(copy, text, i + 1);
        memcpy(copy + i + 1, text + i, n - i);
        receipt_verify(bytes_of(copy, n + 1), public_key, NULL, &v);
        accepted += v.valid;
    }
    CHECK(accepted == 0);
    mem_free(copy);
    end(&p);
}

static void nonsense_has_a_verdict(void)
{
    static const char *const texts[] = {"", "\n", "{", "{}", "[]", "null", "{\"type\":\"lethe.receipt.2\"}",
        "{\"signature\":\"00\",\"signer\":\"00\",\"type\":\"lethe.receipt.2\"}", "\xff\xfe"};
    receipt_verdict v;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        receipt_verify(bytes_str(texts[i]), public_key, NULL, &v);
        CHECK(!v.valid && !v.trusted && v.reason[0] != 0);
    }
}

static void targets_read(void)
{
    static const char *const bad[] = {"", "document", "document:", "document:x/y", "user:ada", "tenant:x/zz", "house:a/",
        "document:00000000000000000000000000000001/00000000000000000000000000000002,",
        "tenant:t/00000000000000000000000000000009"};
    keytree_node nodes[4];
    size_t count;
    CHECK(receipt_target_nodes("document:00000000000000000000000000000001/00000000000000000000000000000002,"
                               "00000000000000000000000000000003/00000000000000000000000000000004", TENANT, nodes, 4,
                               &count) && count == 2 && nodes[1].depth == 3 && nodes[1].owner.b[15] == 3 &&
          nodes[1].document.b[15] == 4);
    CHECK(receipt_target_nodes("group:a-b/00000000000000000000000000000001", TENANT, nodes, 4, &count) &&
          count == 1 && nodes[0].depth == 2);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(!receipt_target_nodes(bad[i], TENANT, nodes, 4, &count));
}

/* ---- the log's files ---- */
static void slurp(const place *p, const char *name, buf *out, char path[512])
{
    char tenant[ID_TEXT_BYTES];
    id_text(TENANT, tenant);
    snprintf(path, 512, "%s/%s/%s", p->log_dir, tenant, name);
    buf_init(out, 1 << 20);
    CHECK_OK(file_read(path, 1 << 20, out));
}

static void spit(const char *path, bytes content)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT, 0600);
    CHECK(fd >= 0 && write(fd, content.data, content.size) == (ssize_t)content.size);
    close(fd);
}

static error_code reopened(place *p, audit_head *head)
{
    audit_log_close(&p->log);
    log_open(p);
    return audit_log_head(p->log, TENANT, head).code;
}

/* Any byte of any file of the log. The last entry alone could be taken for torn, were it not for the head. */
static void damage_is_seen(void)
{
    static const char *const files[] = {"entries", "head"};
    place p;
    audit_head head;
    char path[512];
    int unseen = 0;
    make(&p);
    for (int f = 0; f < 2; f++) {
        buf content;
        slurp(&p, files[f], &content, path);
        for (size_t i = 0; i < content.size; i++) {
            content.data[i] ^= 1;
            spit(path, buf_bytes(&content));
            unseen += reopened(&p, &head) != E_DATA_LOSS;
            content.data[i] ^= 1;
        }
        for (size_t n = 0; n < content.size; n += 7) {
            spit(path, bytes_of(content.data, n));
            unseen += reopened(&p, &head) != E_DATA_LOSS;
        }
        spit(path, buf_bytes(&content));
        buf_free(&content);
    }
    CHECK(unseen == 0);
    CHECK(reopened(&p, &head) == E_OK && head.size == 6);
    end(&p);
}

/* A crash between an entry and its head, at any byte of the entry. */
static void torn_ends_are_cut(void)
{
    place p;
    audit_head head;
    char path[512], head_path[512];
    buf old, old_head, longer;
    make(&p);
    slurp(&p, "entries", &old, path);
    slurp(&p, "head", &old_head, head_path);
    CHECK_OK(audit_log_append(p.log, TENANT, "grant", note(6), NULL));
    slurp(&p, "entries", &longer, path);
    for (size_t n = old.size; n <= longer.size; n++) {
        spit(head_path, buf_bytes(&old_head));
        spit(path, bytes_of(longer.data, n));
        CHECK(reopened(&p, &head) == E_OK && head.size == (n == longer.size ? 7u : 6u));
        uint64_t index;
        CHECK_OK(audit_log_append(p.log, TENANT, "grant", note(8), &index));
        CHECK(index == head.size && reopened(&p, &head) == E_OK && head.size == index + 1);
    }
    buf_free(&old);
    buf_free(&old_head);
    buf_free(&longer);
    end(&p);
}

static void witness_sees_a_fork(void)
{
    place p;
    audit_head old, now;
    merkle_hash path[MERKLE_PATH_MAX];
    size_t count;
    make(&p);
    CHECK_OK(audit_log_head(p.log, TENANT, &old));
    for (uint32_t n = 0; n < 9; n++) CHECK_OK(audit_log_append(p.log, TENANT, "grant", note(n), NULL));
    CHECK_OK(audit_log_consistency(p.log, TENANT, old.size, &now, path, &count));
    CHECK(merkle_consistency_verify(old.size, now.size, old.root, now.root, path, count));
    old.root.b[0] ^= 1;
    CHECK(!merkle_consistency_verify(old.size, now.size, old.root, now.root, path, count));
    CHECK_FAILS(audit_log_consistency(p.log, TENANT, now.size + 1, &now, path, &count), E_INVALID);
    end(&p);
}

int main(void)
{
    sign_keypair(public_key, secret_key);
    RUN(valid_trusted_opened);
    RUN(a_signed_lie_is_seen);
    RUN(every_change_is_seen);
    RUN(nonsense_has_a_verdict);
    RUN(targets_read);
    RUN(damage_is_seen);
    RUN(torn_ends_are_cut);
    RUN(witness_sees_a_fork);
    return DONE();
}
