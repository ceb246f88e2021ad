/* Decoder of whole wire files, `.edgepackz` and `.edgepackd` (docs/wire-format.md): portable C99, no dependencies, integers only.
 *
 * Compile edgepack_wire.c and epk_*.c together with your app. A damaged or hostile file gives an error, never an access out of
 * bounds; an output for which EPK_OK was answered has the SHA-256 that the file names.
 */
#ifndef EDGEPACK_WIRE_H
#define EDGEPACK_WIRE_H

#include "edgepack_decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Further answers, beside those of edgepack_decoder.h. */
#define EPK_NOT_A_WIRE_FILE (-10) /* another file, or one of a newer format */
#define EPK_WRONG_BASE (-11)      /* a delta, and `base` is not the file that it was made for; or a base for what is no delta */
#define EPK_WRONG_DIGEST (-12)    /* decoded, but not to the file that was packed */

/* Bytes of the workspace of epk_unpack_in. */
#define EPK_UNPACK_WORK_SIZE ((size_t)32 << 20)

/* How many bytes a wire file becomes, or an answer < 0. */
int64_t epk_output_size(const uint8_t *wire, size_t size);

/* Whether a wire file is a delta: 1 or 0, or an answer < 0. `sha256` (or NULL) gets the 32 bytes of the base's digest. */
int epk_needs_base(const uint8_t *wire, size_t size, uint8_t *sha256);

/* Writes the bundle or the single file to `out`, whose `out_size` is that of epk_output_size. `base`: the old file for a delta, else
 * NULL. Takes EPK_UNPACK_WORK_SIZE bytes from malloc and gives them back. Answers EPK_OK only where the SHA-256 is right. */
int epk_unpack(const uint8_t *wire, size_t size, const uint8_t *base, size_t base_size, uint8_t *out, size_t out_size);

/* The same in your own workspace: EPK_UNPACK_WORK_SIZE bytes, aligned for uint64_t. */
int epk_unpack_in(const uint8_t *wire, size_t size, const uint8_t *base, size_t base_size, uint8_t *out, size_t out_size,
                  void *work, size_t work_size);

/* SHA-256 (FIPS 180-4) of `size` bytes. */
void epk_sha256(const uint8_t *data, size_t size, uint8_t digest[32]);

#ifdef __cplusplus
}
#endif

#endif
