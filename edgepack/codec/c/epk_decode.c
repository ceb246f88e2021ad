/* The decoder's entrance, and the coder `raw`. */
#include "epk_internal.h"

void epk_job_arith(epk_job *job, epk_arith *arith) {
    epk_arith_start(arith, job->in, job->in_size);
#ifdef EPK_ENCODER
    if (job->payload) {
        arith->is_encoding = 1;
        arith->out = job->payload;
        arith->out_end = job->payload + job->payload_size;
    }
#endif
}

#ifdef EPK_ENCODER
/* The fewest bytes that lie in the interval whatever follows; zeros at the end are left out, as the decoder reads them anyway. */
static int finish(epk_job *job, epk_arith *arith) {
    uint8_t *out = arith->out;
    int bytes;
    for (bytes = 0; bytes < 4; bytes++) {
        uint32_t rest = bytes ? 0xffffffffu >> (8 * bytes) : 0xffffffffu;
        uint64_t value = ((uint64_t)arith->low + rest) & ~(uint64_t)rest;
        if (value <= arith->high) {
            int i;
            for (i = 0; i < bytes && out < arith->out_end; i++) *out++ = (uint8_t)(value >> (24 - 8 * i));
            break;
        }
    }
    while (out > job->payload && out[-1] == 0) out--;
    job->payload_size = (size_t)(out - job->payload);
    return arith->is_full || bytes == 4 ? EPK_NO_SPACE : EPK_OK;
}
#endif

int epk_job_done(epk_job *job, epk_arith *arith) {
#ifdef EPK_ENCODER
    if (job->payload) return finish(job, arith);
#endif
    return arith->in == arith->end || job->in_size < 4 ? EPK_OK : EPK_DAMAGED;
}

static int code_raw(epk_job *job) {
    if (job->in_size != job->segment->size_bytes) return EPK_DAMAGED;
    if (job->in_size) memcpy(job->out, job->in, job->in_size);
    return EPK_OK;
}

static int has_values_of_a_byte(int kind) { return kind == EPK_I8 || kind == EPK_U8 || kind == EPK_I4 || kind == EPK_U4; }

int epk_run(int coder, epk_job *job) {
    int kind = job->segment->kind;
    if (coder == EPK_CODER_RAW && !EPK_IS_ENCODING(job)) return code_raw(job);
    if (coder == EPK_CODER_BYTES) return epk_code_bytes(job);
    if (job->base && job->base_size < job->segment->size_bytes) return EPK_DAMAGED;
    if (coder == EPK_CODER_WIDE && kind != EPK_BYTES && !has_values_of_a_byte(kind)) return epk_code_wide(job);
    if (coder == EPK_CODER_RANS && (kind == EPK_BYTES || has_values_of_a_byte(kind))) return epk_code_rans(job);
    if (!has_values_of_a_byte(kind)) return EPK_UNSUPPORTED;
    if (coder == EPK_CODER_ADAPTIVE) return epk_code_weights(job, 0);
    if (coder == EPK_CODER_MIX) return epk_code_weights(job, 1);
    return EPK_UNSUPPORTED;
}

int epk_decode_segment(int coder, const uint8_t *params, size_t params_size, const uint8_t *in, size_t in_size,
                       const epk_segment *segment, const uint8_t *base, size_t base_size, uint8_t *out, void *work,
                       size_t work_size) {
    epk_job job;
    memset(&job, 0, sizeof job);
    job.params.at = params;
    job.params.end = params ? params + params_size : params;
    job.in = in;
    job.in_size = in_size;
    job.segment = segment;
    job.base = base;
    job.base_size = base_size;
    job.out = out;
    job.arena.at = work;
    job.arena.left = work_size;
    if (segment->size_bytes == 0) return in_size == 0 ? EPK_OK : EPK_DAMAGED;
    return epk_run(coder, &job);
}
