/* What follows from the entries' bytes: digests in texts, the manifest's list of files, ZIP headers. */
#include "epk_wire_internal.h"

#define LOCAL_SIZE 30
#define CENTRAL_SIZE 46
#define END_SIZE 22
#define ALIGNMENT 64

typedef struct writer {
    uint8_t *at;
    uint64_t left;
    int is_full;
} writer;

static void put(writer *to, const void *data, uint64_t size) {
    if (size > to->left) {
        to->is_full = 1;
        return;
    }
    if (size) memcpy(to->at, data, (size_t)size);
    to->at += size;
    to->left -= size;
}

static void put_number(writer *to, uint64_t value, int bytes) {
    uint8_t little[8];
    int i;
    for (i = 0; i < bytes; i++) little[i] = (uint8_t)(value >> (8 * i));
    put(to, little, (uint64_t)bytes);
}

static void put_text(writer *to, const char *text) {
    put(to, text, strlen(text));
}

static void put_decimal(writer *to, uint64_t value) {
    char digits[20];
    int count = 0;
    do digits[count++] = (char)('0' + value % 10);
    while (value /= 10);
    while (count) put(to, &digits[--count], 1);
}

uint64_t epk_zip_header_size(uint64_t name_size, uint64_t offset) {
    uint64_t bare = offset + LOCAL_SIZE + name_size;
    uint64_t padding = (ALIGNMENT - bare % ALIGNMENT) % ALIGNMENT;
    if (padding < 6) padding += ALIGNMENT;
    return bare + padding - offset;
}

uint64_t epk_zip_tail_size(uint64_t count, uint64_t names_size) {
    return count * CENTRAL_SIZE + names_size + END_SIZE;
}

/* An entry's name lies in its local header already. */
static const uint8_t *name_of(const epk_run *run, const epk_entry *entry, uint64_t *size) {
    const uint8_t *header = run->out + entry->header;
    *size = (uint64_t)header[26] | (uint64_t)header[27] << 8;
    return header + LOCAL_SIZE;
}

static uint32_t crc32_of(const uint32_t table[256], const uint8_t *data, uint64_t size) {
    uint32_t crc = 0xffffffffu;
    while (size--) crc = table[(crc ^ *data++) & 255] ^ crc >> 8;
    return ~crc;
}

static void make_crc_table(uint32_t table[256]) {
    uint32_t i, crc;
    int bit;
    for (i = 0; i < 256; i++) {
        crc = i;
        for (bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
        table[i] = crc;
    }
}

/* Version needed, flags, method, time, date, CRC-32, twice the size, the name's length. */
static void put_common(writer *to, uint32_t crc, uint64_t size, uint64_t name_size) {
    put_number(to, 10, 2);
    put_number(to, 0, 6);
    put_number(to, 33, 2);
    put_number(to, crc, 4);
    put_number(to, size, 4);
    put_number(to, size, 4);
    put_number(to, name_size, 2);
}

static void put_local(epk_run *run, const epk_entry *entry, uint32_t crc) {
    uint64_t name_size, padding;
    writer to;
    name_of(run, entry, &name_size);
    padding = entry->data - entry->header - LOCAL_SIZE - name_size;
    to.at = run->out + entry->header;
    to.left = entry->data - entry->header;
    to.is_full = 0;
    put_text(&to, "PK\003\004");
    put_common(&to, crc, entry->size, name_size);
    put_number(&to, padding, 2);
    to.at += name_size;
    put_number(&to, 0xd935, 2);
    put_number(&to, padding - 4, 2);
    put_number(&to, ALIGNMENT, 2);
    memset(to.at, 0, (size_t)(padding - 6));
}

static void put_central(epk_run *run, writer *to, const epk_entry *entry, uint32_t crc) {
    uint64_t name_size;
    const uint8_t *name = name_of(run, entry, &name_size);
    put_text(to, "PK\001\002");
    put_number(to, 3 << 8 | 20, 2);
    put_common(to, crc, entry->size, name_size);
    put_number(to, 0, 8);
    put_number(to, (uint32_t)0100644 << 16, 4);
    put_number(to, entry->header, 4);
    put(to, name, name_size);
}

static int put_archive(epk_run *run) {
    uint32_t table[256], i;
    writer to;
    if (run->header.output_size > 0xfffffffeu) return EPK_DAMAGED;
    make_crc_table(table);
    to.at = run->out + run->tail_at;
    to.left = run->header.output_size - run->tail_at;
    to.is_full = 0;
    for (i = 0; i < run->entry_count; i++) {
        const epk_entry *entry = &run->entries[i];
        uint32_t crc = crc32_of(table, run->out + entry->data, entry->size);
        put_local(run, entry, crc);
        put_central(run, &to, entry, crc);
    }
    put_text(&to, "PK\005\006");
    put_number(&to, 0, 4);
    put_number(&to, run->entry_count, 2);
    put_number(&to, run->entry_count, 2);
    put_number(&to, epk_zip_tail_size(run->entry_count, run->names_size) - END_SIZE, 4);
    put_number(&to, run->tail_at, 4);
    put_number(&to, 0, 2);
    return to.is_full || to.left ? EPK_DAMAGED : EPK_OK;
}

/* ---- digests; each lies in `digests` once `state` says so ---- */

typedef struct filling {
    epk_run *run;
    uint8_t *digests, *state; /* of state: 0 not known yet, 1 being made, 2 known */
} filling;

static int make_digest(filling *all, uint64_t entry, int depth);

static void put_hex(writer *to, const uint8_t digest[32]) {
    int i;
    for (i = 0; i < 32; i++) {
        put(to, &"0123456789abcdef"[digest[i] >> 4], 1);
        put(to, &"0123456789abcdef"[digest[i] & 15], 1);
    }
}

static int put_listing(filling *all, const epk_hole *hole, writer *to, int depth) {
    uint64_t entry, name_size;
    if ((uint64_t)hole->first + hole->count > all->run->entry_count || hole->size / EPK_RECORD_MIN < hole->count)
        return EPK_DAMAGED;
    for (entry = hole->first; entry < (uint64_t)hole->first + hole->count; entry++) {
        const uint8_t *name = name_of(all->run, &all->run->entries[entry], &name_size);
        int answer = make_digest(all, entry, depth);
        if (answer != EPK_OK) return answer;
        put_text(to, entry == hole->first ? "    {\n      \"path\": \"" : ",\n    {\n      \"path\": \"");
        put(to, name, name_size);
        put_text(to, "\",\n      \"sha256\": \"");
        put_hex(to, all->digests + 32 * entry);
        put_text(to, "\",\n      \"size_bytes\": ");
        put_decimal(to, all->run->entries[entry].size);
        put_text(to, "\n    }");
    }
    return EPK_OK;
}

static int fill_hole(filling *all, const epk_hole *hole, int depth) {
    writer to;
    int answer;
    to.at = all->run->out + hole->start;
    to.left = hole->size;
    to.is_full = 0;
    if (hole->count) answer = put_listing(all, hole, &to, depth);
    else if ((answer = make_digest(all, hole->first, depth)) == EPK_OK) put_hex(&to, all->digests + 32 * (size_t)hole->first);
    if (answer != EPK_OK) return answer;
    return to.is_full || to.left ? EPK_DAMAGED : EPK_OK;
}

/* The holes of an entry lie together, in order of entries: the first of them. */
static uint32_t first_hole(const epk_run *run, uint64_t entry) {
    uint32_t low = 0, high = run->hole_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (run->holes[middle].within < entry) low = middle + 1;
        else high = middle;
    }
    return low;
}

static int make_digest(filling *all, uint64_t entry, int depth) {
    epk_run *run = all->run;
    uint32_t hole;
    if (entry >= run->entry_count || all->state[entry] == 1) return EPK_DAMAGED;
    if (all->state[entry] == 2) return EPK_OK;
    if (depth == EPK_DEPTH_MAX) return EPK_DAMAGED;
    all->state[entry] = 1;
    for (hole = first_hole(run, entry); hole < run->hole_count && run->holes[hole].within == entry; hole++) {
        int answer = fill_hole(all, &run->holes[hole], depth + 1);
        if (answer != EPK_OK) return answer;
    }
    epk_sha256(run->out + run->entries[entry].data, (size_t)run->entries[entry].size, all->digests + 32 * (size_t)entry);
    all->state[entry] = 2;
    return EPK_OK;
}

int epk_fill_in(epk_run *run) {
    filling all;
    uint32_t hole;
    if (run->has_tail != (run->entry_count > 0)) return EPK_DAMAGED;
    if (!run->has_tail) return EPK_OK;
    all.run = run;
    all.digests = run->chunks; /* nothing is taken from chunks any more: 33 bytes an entry fit in them */
    all.state = run->chunks + 32 * (size_t)run->entry_count;
    memset(all.state, 0, run->entry_count);
    for (hole = 0; hole < run->hole_count; hole++) {
        int answer = make_digest(&all, run->holes[hole].within, 0);
        if (answer != EPK_OK) return answer;
    }
    return put_archive(run);
}
