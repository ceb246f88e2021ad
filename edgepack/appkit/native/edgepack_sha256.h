/* SHA-256 (FIPS 180-4), so that an app can check its files against the digests that were compiled in. C99 without dependencies. */
#ifndef EDGEPACK_SHA256_H
#define EDGEPACK_SHA256_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the digest of `size` bytes as 64 lower-case hex digits and a final zero. */
void epp_sha256_hex(const void *data, size_t size, char hex[65]);

#ifdef __cplusplus
}
#endif
#endif
