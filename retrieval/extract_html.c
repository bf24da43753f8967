/* HTML by gumbo, which builds a tree as deep as the input nests, walks its stack of open
 * elements for each tag and frees recursively. So it gets an arena of its own with a limit of
 * memory and of processor time, left by a jump when either is used up; the tree is walked
 * without recursion and dropped with the arena. */
#include <gumbo.h>
#include <setjmp.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "extract.h"

enum { ARENA_BASE_BYTES = 32 << 20, ARENA_PER_BYTE = 24, CPU_SECONDS_MAX = 10, CHECK_EVERY = 512 };

typedef struct {
    uint8_t *memory;
    size_t size, used;
    uint32_t allocations;
    double deadline_s;
    jmp_buf give_up;
} html_arena;

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *arena_take(void *ctx, size_t size)
{
    html_arena *a = ctx;
    size = (size + 15) & ~(size_t)15;
    if (size > a->size - a->used) longjmp(a->give_up, 1);
    if (++a->allocations % CHECK_EVERY == 0 && cpu_seconds() > a->deadline_s)
        longjmp(a->give_up, 1);
    void *p = a->memory + a->used;
    a->used += size;
    return p;
}

static void arena_drop(void *ctx, void *p)
{
    (void)ctx;
    (void)p;
}

typedef enum { INLINE, SKIPPED, LINE, PARAGRAPH, CELL, VERBATIM } role;

static role role_of(GumboTag tag)
{
    switch (tag) {
    case GUMBO_TAG_SCRIPT: case GUMBO_TAG_STYLE: case GUMBO_TAG_NOSCRIPT: case GUMBO_TAG_TEMPLATE:
    case GUMBO_TAG_IFRAME: case GUMBO_TAG_OBJECT: case GUMBO_TAG_SVG: case GUMBO_TAG_META:
    case GUMBO_TAG_LINK:
        return SKIPPED;
    case GUMBO_TAG_P: case GUMBO_TAG_H1: case GUMBO_TAG_H2: case GUMBO_TAG_H3: case GUMBO_TAG_H4:
    case GUMBO_TAG_H5: case GUMBO_TAG_H6: case GUMBO_TAG_TITLE: case GUMBO_TAG_BLOCKQUOTE:
    case GUMBO_TAG_TABLE: case GUMBO_TAG_UL: case GUMBO_TAG_OL: case GUMBO_TAG_DL:
    case GUMBO_TAG_HR:
    case GUMBO_TAG_SECTION: case GUMBO_TAG_ARTICLE: case GUMBO_TAG_HEADER: case GUMBO_TAG_FOOTER:
    case GUMBO_TAG_ASIDE: case GUMBO_TAG_NAV: case GUMBO_TAG_MAIN: case GUMBO_TAG_FIGURE:
        return PARAGRAPH;
    case GUMBO_TAG_DIV: case GUMBO_TAG_LI: case GUMBO_TAG_TR: case GUMBO_TAG_DT: case GUMBO_TAG_DD:
    case GUMBO_TAG_BR: case GUMBO_TAG_FORM: case GUMBO_TAG_FIELDSET: case GUMBO_TAG_ADDRESS:
    case GUMBO_TAG_FIGCAPTION: case GUMBO_TAG_CAPTION: case GUMBO_TAG_OPTION:
    case GUMBO_TAG_SUMMARY:
    case GUMBO_TAG_DETAILS: case GUMBO_TAG_LEGEND: case GUMBO_TAG_CENTER:
        return LINE;
    case GUMBO_TAG_TD: case GUMBO_TAG_TH:
        return CELL;
    case GUMBO_TAG_PRE: case GUMBO_TAG_TEXTAREA: case GUMBO_TAG_LISTING: case GUMBO_TAG_XMP:
        return VERBATIM;
    default:
        return INLINE;
    }
}

static uint32_t breaks_of(role r)
{
    return r == PARAGRAPH || r == VERBATIM ? 2 : r == LINE ? 1 : 0;
}

/* Enters a node: says whether its children are to be visited. */
static bool enter(text_writer *w, const GumboNode *n, uint32_t *verbatim)
{
    switch (n->type) {
    case GUMBO_NODE_TEXT: case GUMBO_NODE_CDATA: case GUMBO_NODE_WHITESPACE:
        writer_text(w, n->v.text.text, strlen(n->v.text.text), *verbatim > 0);
        return false;
    case GUMBO_NODE_DOCUMENT:
        return true;
    case GUMBO_NODE_ELEMENT: {
        role r = role_of(n->v.element.tag);
        if (r == SKIPPED) return false;
        if (r == CELL && n->parent != NULL && n->index_within_parent > 0)
            writer_text(w, " | ", 3, false);
        if (r == VERBATIM) ++*verbatim;
        writer_break(w, breaks_of(r));
        return true;
    }
    default:
        return false;
    }
}

static void leave(text_writer *w, const GumboNode *n, uint32_t *verbatim)
{
    if (n->type != GUMBO_NODE_ELEMENT) return;
    role r = role_of(n->v.element.tag);
    if (r == SKIPPED) return;
    if (r == VERBATIM) --*verbatim;
    writer_break(w, breaks_of(r));
}

static const GumboVector *children_of(const GumboNode *n)
{
    return n->type == GUMBO_NODE_DOCUMENT ? &n->v.document.children : &n->v.element.children;
}

static void walk(text_writer *w, const GumboNode *root)
{
    uint32_t verbatim = 0;
    const GumboNode *n = root;
    for (;;) {
        if (enter(w, n, &verbatim)) {
            const GumboVector *children = children_of(n);
            if (children->length > 0) {
                n = children->data[0];
                continue;
            }
            leave(w, n, &verbatim);
        }
        for (;;) {                          /* to the next sibling, or up until there is one */
            if (n == root) return;
            const GumboVector *siblings = children_of(n->parent);
            size_t next = n->index_within_parent + 1;
            if (next < siblings->length) {
                n = siblings->data[next];
                break;
            }
            n = n->parent;
            leave(w, n, &verbatim);
        }
    }
}

static result parse_and_walk(html_arena *a, bytes content, buf *out)
{
    if (setjmp(a->give_up) != 0)
        return fail(E_INVALID, "the HTML is too large or too deeply nested");
    GumboOptions options = kGumboDefaultOptions;
    options.allocator = arena_take;
    options.deallocator = arena_drop;
    options.userdata = a;
    options.max_errors = 0;
    GumboOutput *tree =
        gumbo_parse_with_options(&options, (const char *)content.data, content.size);
    text_writer writer = {.out = out, .start = out->size};
    walk(&writer, tree->document);
    return OK;
}

result extract_html(bytes content, buf *out)
{
    if (content.size > SIZE_MAX / 2 / ARENA_PER_BYTE)
        return fail(E_INVALID, "the HTML is too large");
    html_arena *a = mem_alloc(sizeof *a);
    a->size = ARENA_BASE_BYTES + content.size * ARENA_PER_BYTE;
    a->deadline_s = cpu_seconds() + CPU_SECONDS_MAX;
    void *memory = mmap(NULL, a->size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    result r = memory == MAP_FAILED ? fail(E_UNAVAILABLE, "no memory to read the HTML") : OK;
    if (is_ok(r)) {
        a->memory = memory;
        r = parse_and_walk(a, content, out);
        (void)munmap(memory, a->size);
    }
    mem_free(a);
    return r;
}
