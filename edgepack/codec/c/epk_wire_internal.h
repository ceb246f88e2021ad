/* Shared by the files that decode whole wire files. */
#ifndef EPK_WIRE_INTERNAL_H
#define EPK_WIRE_INTERNAL_H

#include <string.h>

#include "edgepack_wire.h"

/* The operations of a wire file's table (docs/wire-format.md). */
enum {
    EPK_END, EPK_ENTRY, EPK_TAIL, EPK_TAKE, EPK_TENSOR, EPK_COPY, EPK_FROM_BASE, EPK_FILL,
    EPK_DIGEST, EPK_LISTING, EPK_PRODUCT, EPK_CHUNK, EPK_SEEK, EPK_TENSOR_ON_BASE, EPK_TAKE_OTHER
};

#define EPK_TABLE_MAX ((uint64_t)2 << 20)
#define EPK_CHUNKS_MAX ((uint64_t)4 << 20)
#define EPK_HISTORY_MAX ((uint64_t)6 << 20)
#define EPK_GROUPS_MAX 32
#define EPK_ENTRIES_MAX 65534
#define EPK_HOLES_MAX 65536
#define EPK_CODED_MAX 32768
#define EPK_DIMENSIONS_MAX 8
#define EPK_NAME_MAX 200
#define EPK_PARAMS_MAX 4096
#define EPK_DEPTH_MAX 8
#define EPK_FREE_MAX ((uint64_t)64 << 20)
#define EPK_EXPANSION_MAX 1000
#define EPK_OUTPUT_MAX ((uint64_t)1 << 40)
#define EPK_RECORD_MIN 100

typedef struct epk_cursor {
    const uint8_t *at, *end;
    int is_bad;
} epk_cursor;

typedef struct epk_operation {
    int code, group, kind, on_base, coder, flip, dimensions;
    uint64_t size;      /* bytes that it writes; of a chunk: that it decodes */
    uint64_t base_size; /* of a take: the base's bytes in its place */
    int64_t by;
    uint64_t distance, payload_size, entry, count;
    const uint8_t *params;
    size_t params_size;
    uint64_t shape[EPK_DIMENSIONS_MAX];
    uint8_t axes[EPK_DIMENSIONS_MAX], factor[4];
    unsigned element;
} epk_operation;

typedef struct epk_entry {
    uint64_t header, data, size;
} epk_entry;

typedef struct epk_hole {
    uint64_t start;
    uint32_t size, within, first, count;
} epk_hole;

typedef struct epk_group {
    uint8_t *chunk;
    uint64_t size, taken;
} epk_group;

typedef struct epk_header {
    int is_archive, is_delta;
    uint64_t output_size, base_size;
    const uint8_t *output_digest, *base_digest;
} epk_header;

typedef struct epk_run {
    epk_header header;
    const uint8_t *table, *table_end, *payload, *payload_end, *base;
    uint8_t *out, *chunks, *history;
    uint64_t position, base_size, history_left;
    int64_t shift;
    epk_group groups[EPK_GROUPS_MAX];
    epk_entry *entries;
    epk_hole *holes;
    uint32_t entry_count, hole_count, coded_count;
    uint64_t names_size, tail_at;
    int has_tail;
    void *work;
} epk_run;

/* epk_wire_table.c */
unsigned epk_cursor_byte(epk_cursor *cursor);
uint64_t epk_cursor_number(epk_cursor *cursor);
const uint8_t *epk_cursor_bytes(epk_cursor *cursor, uint64_t size);
int epk_read_operation(epk_cursor *cursor, epk_operation *operation); /* 1; 0 at the end; < 0 */
int epk_read_header(epk_cursor *cursor, uint64_t wire_size, epk_header *header);

/* epk_wire_tensors.c */
void epk_permute(const epk_operation *operation, const uint8_t *in, uint8_t *out);
int epk_multiply(const uint8_t *in, const uint8_t factor[4], uint64_t count, uint8_t *out);

/* epk_wire_archive.c */
uint64_t epk_zip_header_size(uint64_t name_size, uint64_t offset);
uint64_t epk_zip_tail_size(uint64_t count, uint64_t names_size);
int epk_fill_in(epk_run *run);

#endif
