/* Coder `bytes`: any data, bit by bit: predictions from the bytes before, from the row above, and from the longest match. */
#include "epk_history.h"
#include "epk_internal.h"

#define CONTEXTS_MAX 12
#define MATCH_SLOTS (4 * 16 * 2)
#define LENGTH_LOWEST 4 /* bytes that a match is found by */

enum { FLAG_QUICK = 1, FLAG_BASE = 2, FLAG_HISTORY = 4 };

typedef struct bytes {
    epk_mixer mixer;
    int contexts, is_quick;
    uint32_t stride, table_bits, index_bits;
    const uint8_t *base, *data;
    size_t base_size, at; /* at: bytes coded so far */
    uint32_t *table[CONTEXTS_MAX], *match;
    uint32_t *index; /* hash of LENGTH_LOWEST bytes → 1 + where they end, in base and data as one */
    size_t match_at;
    uint32_t has_match, match_length, misses, expected;
    uint32_t hashes[CONTEXTS_MAX], word;
} bytes;

/* Byte `back` before the next one, in base and data as one; 0 before their start. */
static uint32_t before(const bytes *m, size_t back) {
    if (back <= m->at) return m->data[m->at - back];
    back -= m->at;
    return back <= m->base_size ? m->base[m->base_size - back] : 0;
}

static uint32_t whole_at(const bytes *m, size_t position) {
    return position < m->base_size ? m->base[position] : m->data[position - m->base_size];
}

static uint32_t hash_of(uint32_t a, uint32_t b) {
    uint32_t h = a * 0x2c1b3c6du ^ (b + 0x9e3779b9u) * 0x297a2d39u;
    h ^= h >> 15;
    h *= 0x85ebca6bu;
    return h ^ h >> 13;
}

static uint32_t four(const bytes *m, size_t end) { /* of base and data as one; end ≥ 4 */
    return whole_at(m, end - 4) << 24 | whole_at(m, end - 3) << 16 | whole_at(m, end - 2) << 8 | whole_at(m, end - 1);
}

static void find_match(bytes *m) {
    size_t end = m->base_size + m->at;
    uint32_t *entry;
    m->match_at++;
    if (m->match_at >= end) m->has_match = 0;
    if (end < LENGTH_LOWEST) return;
    entry = &m->index[hash_of(four(m, end), 4) >> (32 - m->index_bits)];
    if (m->match_length < 16 && *entry) {
        size_t found = *entry;
        uint32_t length = 0;
        while (length < 32 && length < found && whole_at(m, found - 1 - length) == whole_at(m, end - 1 - length)) length++;
        if (length >= LENGTH_LOWEST && length > m->match_length) {
            m->match_at = found;
            m->has_match = 1;
            m->match_length = length;
            m->misses = 0;
        }
    }
    *entry = (uint32_t)end;
}

static void set_contexts(bytes *m) {
    uint32_t c1 = before(m, 1), c2 = before(m, 2), c3 = before(m, 3), c4 = before(m, 4);
    uint32_t up = m->stride ? before(m, m->stride) : 0, up_left = m->stride ? before(m, m->stride + 1) : 0;
    uint32_t column = m->stride ? (uint32_t)(m->at % m->stride) : 0;
    uint32_t *h = m->hashes;
    int k = 0, i;
    h[k++] = 0;
    h[k++] = c1;
    h[k++] = c1 | c2 << 8;
    h[k++] = hash_of(up, c1 << 8 | 1);
    h[k++] = c1 | c2 << 8 | c3 << 16 | c4 << 24;
    if (!m->is_quick) {
        h[k++] = c1 | c2 << 8 | c3 << 16;
        h[k++] = hash_of(c1 | c2 << 8 | c3 << 16 | c4 << 24, before(m, 5) | before(m, 6) << 8);
        h[k++] = m->word;
        h[k++] = hash_of(up, column);
        h[k++] = (c1 + up - up_left) & 255u;
        h[k++] = c2 | c3 << 8 | (uint32_t)(m->at & 3u) << 16;
        h[k++] = hash_of(c4, (m->stride ? before(m, 2 * m->stride) : c3) << 8 | up);
    }
    m->contexts = k;
    for (i = 0; i < k; i++) h[i] = hash_of(h[i], (uint32_t)i);
    m->expected = m->has_match ? whole_at(m, m->match_at) | 256u : 0;
}

static uint32_t match_slot(const bytes *m, uint32_t node, int bit_at) {
    uint32_t length = m->match_length;
    if (!m->expected || (m->expected >> (bit_at + 1)) != node) return 0;
    if (length > 7) length = length < 12 ? 8 : length < 16 ? 9 : length < 24 ? 10 : length < 32 ? 11 : length < 64 ? 12 : 13;
    return (((m->misses > 3 ? 3 : m->misses) * 16 + length + 1) * 2 + (m->expected >> bit_at & 1u)) % MATCH_SLOTS;
}

static uint32_t code_byte(bytes *m, uint32_t known) {
    uint32_t node = 1;
    int bit_at, i;
    set_contexts(m);
    for (bit_at = 7; bit_at >= 0; bit_at--) {
        uint32_t slot = match_slot(m, node, bit_at);
        for (i = 0; i < m->contexts; i++)
            m->mixer.slots[i] = m->table[i] + (hash_of(m->hashes[i], node) >> (32 - m->table_bits));
        m->mixer.slots[i] = m->match + slot;
        m->mixer.inputs = i + 1;
        node = node * 2 + (uint32_t)epk_mix_bit(&m->mixer, (int)node, 256 + (int)(slot / 2), (int)(known >> bit_at & 1u));
    }
    return node & 255u;
}

static void learn_byte(bytes *m, uint32_t byte) {
    m->at++;
    if (m->expected) {
        if ((m->expected & 255u) == byte) {
            if (m->match_length < 65535) m->match_length++;
            if (m->match_length > 16) m->misses = 0;
        } else {
            m->match_length = 0;
            if (++m->misses > 8) m->has_match = 0;
        }
    }
    if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte >= 128)
        m->word = hash_of(m->word, byte);
    else m->word = 0;
    find_match(m);
    if (!m->has_match) m->match_length = 0;
}

static int prepare(bytes *m, epk_job *job) {
    uint32_t flags = epk_byte(&job->params), k, bits;
    size_t size = job->segment->size_bytes;
    epk_tables *tables = epk_take(&job->arena, 1, sizeof *tables);
    int i;
    m->stride = epk_varint(&job->params);
    m->is_quick = (flags & FLAG_QUICK) != 0;
    m->data = job->out;
    if (flags & FLAG_BASE) {
        if (!job->base) return EPK_DAMAGED;
        m->base = job->base;
        m->base_size = job->base_size;
    }
    if (flags & FLAG_HISTORY) {
        if (flags & FLAG_BASE) return EPK_DAMAGED;
        m->base = EPK_HISTORY;
        m->base_size = sizeof EPK_HISTORY;
    }
    if (job->params.is_short || (size >> 31) || (m->base_size >> 31) || (m->stride >> 30)) return EPK_DAMAGED;
    for (bits = 12; bits < 18 && ((size_t)1 << bits) < size * 8; bits++) {}
    m->table_bits = bits;
    for (bits = 10; bits < 18 && ((size_t)1 << bits) < size + m->base_size; bits++) {}
    m->index_bits = bits;
    for (i = 0; i < (m->is_quick ? 5 : CONTEXTS_MAX); i++) {
        m->table[i] = epk_take(&job->arena, (size_t)1 << m->table_bits, 4);
        if (!m->table[i]) return EPK_NO_SPACE;
        for (k = 0; k < 1u << m->table_bits; k++) m->table[i][k] = EPK_COUNTER(32768, 0);
    }
    m->match = epk_take(&job->arena, MATCH_SLOTS, 4);
    m->index = epk_take(&job->arena, (size_t)1 << m->index_bits, 4);
    m->mixer.weights = epk_take(&job->arena, (256 + MATCH_SLOTS / 2) * EPK_INPUTS_MAX, 4);
    m->mixer.maps = epk_take(&job->arena, EPK_INPUTS_MAX * EPK_MAP, 4);
    m->mixer.uses = epk_take(&job->arena, 256 + MATCH_SLOTS / 2, 2);
    if (!tables || !m->match || !m->index || !m->mixer.weights || !m->mixer.maps || !m->mixer.uses) return EPK_NO_SPACE;
    for (k = 0; k < MATCH_SLOTS; k++) m->match[k] = EPK_COUNTER(k & 1 ? 49152 : 16384, 0);
    memset(m->index, 0, ((size_t)1 << m->index_bits) * 4);
    epk_make_tables(tables);
    m->mixer.tables = tables;
    m->mixer.rate_lowest = 14;
    m->mixer.limit = 30;
    epk_mixer_start_maps(&m->mixer, EPK_INPUTS_MAX);
    epk_mixer_start(&m->mixer, 256 + MATCH_SLOTS / 2, 65536 * 3 / 20);
    return EPK_OK;
}

static void read_base(bytes *m) {
    size_t i;
    m->has_match = m->base_size > 0; /* the new bytes begin like the old ones, at first guess */
    for (i = LENGTH_LOWEST; i <= m->base_size; i++)
        m->index[hash_of(four(m, i), 4) >> (32 - m->index_bits)] = (uint32_t)i;
}

int epk_code_bytes(epk_job *job) {
    bytes m;
    size_t i;
    int status;
    memset(&m, 0, sizeof m);
    if ((status = prepare(&m, job)) != EPK_OK) return status;
    epk_job_arith(job, &m.mixer.arith);
    read_base(&m);
    for (i = 0; i < job->segment->size_bytes; i++) {
        uint32_t byte = code_byte(&m, EPK_IS_ENCODING(job) ? job->out[i] : 0);
        if (!EPK_IS_ENCODING(job)) job->out[i] = (uint8_t)byte;
        learn_byte(&m, byte);
    }
    return epk_job_done(job, &m.mixer.arith);
}
