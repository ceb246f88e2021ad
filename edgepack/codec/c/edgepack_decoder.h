/* Decoder of edgepack's transport coding (docs/codec.md): portable C99, no dependencies, integers only.
 *
 * Compile epk_*.c together with your app. Nothing here allocates memory, keeps state between calls or calls anything but
 * memcpy, memmove and memset; a damaged or hostile stream gives an error or wrong bytes, never an access out of bounds.
 */
#ifndef EDGEPACK_DECODER_H
#define EDGEPACK_DECODER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Answers of every function that returns int. */
#define EPK_OK 0
#define EPK_DAMAGED (-1)       /* the stream, its parameters or its sizes contradict themselves */
#define EPK_UNSUPPORTED (-2)   /* a coder or a kind that this version doesn't know */
#define EPK_NO_SPACE (-3)      /* the workspace or the output is too small */

/* Bytes of the workspace that every call may be given, whatever the coder. */
#define EPK_WORK_SIZE ((size_t)16 << 20)

enum { EPK_BYTES = 0, EPK_I8, EPK_U8, EPK_I4, EPK_U4, EPK_I16, EPK_I32, EPK_F16, EPK_F32 };

enum { EPK_CODER_RAW = 0, EPK_CODER_RANS, EPK_CODER_ADAPTIVE, EPK_CODER_MIX, EPK_CODER_WIDE, EPK_CODER_BYTES };

/* What the output is: its size and the kind of its elements. Shapes matter to the encoder alone. */
typedef struct epk_segment {
    size_t size_bytes;
    int kind;
} epk_segment;

/* Writes segment->size_bytes bytes to `out`. `base` (or NULL) is the older data that the encoder was given; `work` is
 * aligned for uint64_t and holds EPK_WORK_SIZE bytes, with any content. `out` must not overlap the other buffers. */
int epk_decode_segment(int coder, const uint8_t *params, size_t params_size, const uint8_t *in, size_t in_size,
                       const epk_segment *segment, const uint8_t *base, size_t base_size, uint8_t *out, void *work,
                       size_t work_size);

#ifdef __cplusplus
}
#endif

#endif
