/* The encoder's entrance: the same models as the decoder's, run over known data. For the host only; compile with EPK_ENCODER. */
#include "epk_internal.h"

/* Codes `segment->size_bytes` bytes of `data` under `params`. Returns the payload's size, or a negative EPK_… (EPK_NO_SPACE: it is
 * larger than `capacity`). `base` and `work` as for epk_decode_segment. */
int64_t epk_encode_segment(int coder, const uint8_t *params, size_t params_size, const uint8_t *data,
                           const epk_segment *segment, const uint8_t *base, size_t base_size, uint8_t *payload,
                           size_t capacity, void *work, size_t work_size) {
    epk_job job;
    int status;
    memset(&job, 0, sizeof job);
    job.params.at = params;
    job.params.end = params ? params + params_size : params;
    job.segment = segment;
    job.base = base;
    job.base_size = base_size;
    job.out = (uint8_t *)(uintptr_t)data; /* read only while encoding */
    job.payload = payload;
    job.payload_size = capacity;
    job.arena.at = work;
    job.arena.left = work_size;
    status = epk_run(coder, &job);
    return status == EPK_OK ? (int64_t)job.payload_size : status;
}

#ifndef EPK_SOURCES
#define EPK_SOURCES ""
#endif

/* Digest of the sources, as the build told it. */
const char *epk_sources(void) { return EPK_SOURCES; }
