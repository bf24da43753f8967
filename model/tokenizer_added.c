/* Added tokens: a byte trie, and the reference's rules of which matches count.
 *
 * Matches are leftmost-longest and do not overlap. A special token in user text (specials off) is
 * passed over as the reference does with encode_special_tokens: it still uses up its bytes, so that
 * no shorter token is found inside it, and they stay ordinary text. */
#include "tokenizer_internal.h"

#include <string.h>

static uint32_t node_add(added_trie *trie, uint8_t byte)
{
    if (trie->count == 0) trie->count = 1;                 /* the root */
    if (trie->count + 1 > trie->capacity) {
        size_t capacity = trie->capacity ? 2 * trie->capacity : 256;
        trie->nodes = mem_realloc(trie->nodes, capacity * sizeof *trie->nodes);
        trie->capacity = capacity;
    }
    trie->nodes[trie->count] = (trie_node){0, 0, -1, byte};
    return (uint32_t)trie->count++;
}

static uint32_t child_of(const added_trie *trie, uint32_t node, uint8_t byte)
{
    uint32_t child = trie->nodes[node].child;
    while (child != 0 && trie->nodes[child].byte != byte) child = trie->nodes[child].sibling;
    return child;
}

result added_trie_insert(added_trie *trie, bytes text, uint32_t added)
{
    ASSERT(text.size > 0);
    uint32_t node = trie->root[text.data[0]];
    if (node == 0) node = trie->root[text.data[0]] = node_add(trie, text.data[0]);
    for (size_t i = 1; i < text.size; i++) {
        uint32_t child = child_of(trie, node, text.data[i]);
        if (child == 0) {
            child = node_add(trie, text.data[i]);
            trie->nodes[child].sibling = trie->nodes[node].child;
            trie->nodes[node].child = child;
        }
        node = child;
    }
    if (trie->nodes[node].added >= 0)
        return fail(E_INVALID, "tokenizer: two added tokens have the same text");
    trie->nodes[node].added = (int32_t)added;
    return OK;
}

void added_trie_free(added_trie *trie)
{
    mem_free(trie->nodes);
    *trie = (added_trie){0};
}

/* The longest added token that starts at a position; its index or -1. */
static int32_t longest_at(const added_trie *trie, bytes text, size_t at, size_t *size)
{
    int32_t best = -1;
    uint32_t node = trie->root[text.data[at]];
    for (size_t i = at + 1; node != 0; i++) {
        if (trie->nodes[node].added >= 0) {
            best = trie->nodes[node].added;
            *size = i - at;
        }
        if (i == text.size) break;
        node = child_of(trie, node, text.data[i]);
    }
    return best;
}

/* The character that ends before `at`; *start is where it begins. */
static uint32_t char_before(bytes text, size_t at, size_t *start)
{
    size_t i = at - 1;
    while (i > 0 && (text.data[i] & 0xC0) == 0x80) i--;
    *start = i;
    return utf8_next(text, &i);
}

static bool stands_alone(bytes text, size_t start, size_t end)
{
    size_t at = end, before;
    if (start > 0 && unicode_is_word(char_before(text, start, &before))) return false;
    return end == text.size || !unicode_is_word(utf8_next(text, &at));
}

/* White space around a match that belongs to it; leftwards not past what was given out before. */
static void take_spaces(const added_token *token, bytes text, size_t given, size_t *start,
                        size_t *end)
{
    if (token->lstrip) {
        size_t before;
        while (*start > given && unicode_is_space(char_before(text, *start, &before)))
            *start = before;
        if (*start < given) *start = given;
    }
    while (token->rstrip && *end < text.size) {
        size_t next = *end;
        if (!unicode_is_space(utf8_next(text, &next))) break;
        *end = next;
    }
}

result added_split(const tokenizer *t, const added_trie *trie, bytes text, bool specials,
                   added_fn *piece, void *ctx)
{
    size_t given = 0, size = 0;
    for (size_t at = 0; trie->nodes != NULL && at < text.size; at += size) {
        int32_t found = longest_at(trie, text, at, &size);
        if (found < 0) {
            size = 1;
            continue;
        }
        const added_token *token = &t->added[found];
        size_t start = at, end = at + size;
        if (token->special && !specials) continue;
        if (token->single_word && !stands_alone(text, start, end)) continue;
        take_spaces(token, text, given, &start, &end);
        if (start >= end) continue;        /* an earlier token's rstrip took all of it */
        if (given < start) TRY(piece(ctx, -1, bytes_of(text.data + given, start - given)));
        TRY(piece(ctx, token->id, bytes_of(text.data + start, end - start)));
        given = end;                       /* may lie before a match that rstrip reached over */
    }
    if (given < text.size) return piece(ctx, -1, bytes_of(text.data + given, text.size - given));
    return OK;
}
