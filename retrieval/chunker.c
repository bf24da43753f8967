#include "chunker.h"

#include <string.h>

/* Is the white space behind a sentence a paragraph's end? */
static bool ends_paragraph(bytes text, size_t start, size_t end)
{
    size_t breaks = 0;
    while (end > start && (text.data[end - 1] == ' ' || (text.data[end - 1] >= '\t' &&
                                                         text.data[end - 1] <= '\r')))
        breaks += text.data[--end] == '\n';
    return breaks > 1;
}

static void push(size_t **ends, uint32_t *count, size_t *capacity, size_t end)
{
    if (*count == *capacity) {
        *capacity = *capacity * 2 + 16;
        *ends = mem_realloc(*ends, *capacity * sizeof **ends);
    }
    (*ends)[(*count)++] = end;
}

/* A chunk closes before the sentence that would pass the target, or at a paragraph's end once it
 * is two thirds full, so that a paragraph's first words seldom dangle. What would be left at the
 * very end as a scrap of a quarter of the target stays with its predecessor. */
void chunker_cut(bytes text, uint32_t target, size_t **ends, uint32_t *count)
{
    ASSERT(target >= CHUNK_TARGET_MIN && text.size / 4 < UINT32_MAX);
    size_t capacity = 0, start = 0;
    *ends = NULL;
    *count = 0;
    for (size_t at = 0; at < text.size;) {
        size_t end = sentence_end(text, at, 2 * (size_t)target);
        ASSERT(end > at);
        size_t left = text.size - at;
        bool scrap = left <= target / 4 && text.size - start <= target + target / 4;
        if (at > start && end - start > target && !scrap) {
            push(ends, count, &capacity, at);
            start = at;
        }
        if ((end - start) * 3 >= (size_t)target * 2 && ends_paragraph(text, at, end) &&
            text.size - end > target / 4) {
            push(ends, count, &capacity, end);
            start = end;
        }
        at = end;
    }
    if (start < text.size) push(ends, count, &capacity, text.size);
}
