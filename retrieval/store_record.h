/* store_record: the plaintext of a store's records. Encoders refuse what the decoders would refuse,
 * so that nothing is stored that cannot be read again. */
#ifndef LETHE_STORE_RECORD_H
#define LETHE_STORE_RECORD_H

#include "store.h"

enum { STORE_RECORD_MAX_BYTES = 64 << 20 };

/* Header: format u8, chunk count u32, size u64, media type u8 + bytes, path u16 + bytes, label
 * u32 + bytes. id and version are not in it: they are associated data, the caller fills them in.
 * E_INVALID when a field does not fit; E_DATA_LOSS. */
MUST_USE result store_header_encode(const store_header *header, buf *out);
MUST_USE result store_header_decode(bytes plain, store_header *out);
/* Chunk: format u8, start u64, end u64, dimensions u32, f32 x dimensions, text of end - start
 * bytes. Decoding copies the vector into vector[dimensions]; chunk->text is borrowed from plain. */
MUST_USE result store_chunk_encode(const store_chunk *chunk, uint32_t dimensions, buf *out);
MUST_USE result store_chunk_decode(bytes plain, uint32_t dimensions, float *vector,
                                   store_chunk *out);

#endif
