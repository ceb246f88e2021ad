/* Decodes whole wire files: runs the operations of the table, one after the other. */
#include "edgepack_wire.h"

#include <stdlib.h>

#include "epk_wire_internal.h"

#ifndef EPK_MALLOC /* define both to take the workspace from somewhere else */
#define EPK_MALLOC malloc
#define EPK_FREE free
#endif

static int decode(epk_run *run, const epk_operation *one, const uint8_t *base, uint64_t base_size, uint8_t *out) {
    epk_segment segment;
    const uint8_t *payload = run->payload;
    if (one->payload_size > (uint64_t)(run->payload_end - run->payload) || ++run->coded_count > EPK_CODED_MAX) return EPK_DAMAGED;
    run->payload += one->payload_size;
    memset(&segment, 0, sizeof segment);
    segment.size_bytes = (size_t)one->size;
    segment.kind = one->kind;
    return epk_decode_segment(one->coder, one->params, one->params_size, payload, (size_t)one->payload_size, &segment, base,
                              (size_t)base_size, out, run->work, EPK_WORK_SIZE);
}

/* Where the base is read for what is written at `position`; NULL where it is not there. */
static const uint8_t *base_at(const epk_run *run, uint64_t position, int64_t shift, uint64_t size) {
    int64_t start = (int64_t)position + shift;
    if (start < 0 || size > run->base_size || (uint64_t)start > run->base_size - size) return NULL;
    return run->base + start;
}

static uint64_t written(const epk_operation *one, uint64_t position, uint64_t entries, uint64_t names_size) {
    switch (one->code) {
    case EPK_ENTRY: return epk_zip_header_size(one->count, position);
    case EPK_TAIL: return epk_zip_tail_size(entries, names_size);
    case EPK_CHUNK:
    case EPK_SEEK: return 0;
    default: return one->size;
    }
}

static int move_shift(int64_t *shift, int64_t by) {
    const int64_t most = (int64_t)EPK_OUTPUT_MAX * 2;
    if (by > most || by < -most || *shift + by > most || *shift + by < -most) return EPK_DAMAGED;
    *shift += by;
    return EPK_OK;
}

/* Joins the stretches of the base that stand where the chunk's takes will write. Answers their size, or < 0. */
static int64_t gather(epk_run *run, const epk_operation *chunk, epk_cursor cursor) {
    uint64_t position = run->position, taken = 0, size = 0, entries = run->entry_count, names_size = run->names_size, length;
    int64_t shift = run->shift;
    epk_operation one;
    while (taken < chunk->size) {
        if (epk_read_operation(&cursor, &one) != 1) return EPK_DAMAGED;
        length = written(&one, position, entries, names_size);
        if (length > run->header.output_size - position) return EPK_DAMAGED;
        if (one.code == EPK_CHUNK && one.group == chunk->group) return EPK_DAMAGED;
        if (one.code == EPK_SEEK && move_shift(&shift, one.by) != EPK_OK) return EPK_DAMAGED;
        if (one.code == EPK_ENTRY) {
            entries++;
            names_size += one.count;
            if (chunk->group == 0) taken += one.count;
        }
        if (one.code == EPK_TAKE || one.code == EPK_TAKE_OTHER) {
            if (one.group == chunk->group) {
                const uint8_t *from = base_at(run, position, shift, one.base_size);
                if (one.base_size && (from == NULL || one.base_size > EPK_HISTORY_MAX - size)) return EPK_DAMAGED;
                if (one.base_size) memcpy(run->history + size, from, (size_t)one.base_size);
                size += one.base_size;
                taken += length;
            }
            if (move_shift(&shift, (int64_t)one.base_size - (int64_t)length) != EPK_OK) return EPK_DAMAGED;
        }
        position += length;
    }
    return (int64_t)size;
}

/* Room for a group's next chunk behind the others, which move together. */
static uint8_t *room(epk_run *run, int group, uint64_t size) {
    uint8_t *at = run->chunks;
    uint64_t live = 0;
    int i;
    for (i = 0; i < EPK_GROUPS_MAX; i++) live += i == group ? 0 : run->groups[i].size;
    if (run->groups[group].taken != run->groups[group].size || size > EPK_CHUNKS_MAX - live) return NULL;
    run->groups[group].size = run->groups[group].taken = 0;
    for (;;) { /* the lowest chunk that was not moved yet */
        epk_group *next = NULL;
        for (i = 0; i < EPK_GROUPS_MAX; i++)
            if (run->groups[i].size && run->groups[i].chunk >= at && (next == NULL || run->groups[i].chunk < next->chunk))
                next = &run->groups[i];
        if (next == NULL) break;
        if (next->chunk != at) memmove(at, next->chunk, (size_t)next->size);
        next->chunk = at;
        at += next->size;
    }
    return at;
}

static int open_chunk(epk_run *run, const epk_operation *one, const epk_cursor *following) {
    uint8_t *at = room(run, one->group, one->size);
    int64_t history = one->on_base ? gather(run, one, *following) : 0;
    int answer;
    if (at == NULL || history < 0 || (uint64_t)history > run->history_left) return EPK_DAMAGED;
    run->history_left -= (uint64_t)history;
    answer = decode(run, one, one->on_base ? run->history : NULL, (uint64_t)history, at);
    run->groups[one->group].chunk = at;
    run->groups[one->group].size = one->size;
    return answer;
}

static int take(epk_run *run, int number, uint64_t size, uint8_t *out) {
    epk_group *group = &run->groups[number];
    if (size > group->size - group->taken) return EPK_DAMAGED;
    memcpy(out, group->chunk + group->taken, (size_t)size);
    group->taken += size;
    return EPK_OK;
}

static void finish_entry(epk_run *run) {
    if (run->entry_count && !run->has_tail) {
        epk_entry *last = &run->entries[run->entry_count - 1];
        last->size = run->position - last->data;
    }
}

/* The name goes to its place in the local header; the rest of it follows when all is there. */
static int begin_entry(epk_run *run, const epk_operation *one, uint64_t size) {
    epk_entry *entry = &run->entries[run->entry_count];
    uint8_t *header = run->out + run->position;
    finish_entry(run);
    if (run->has_tail || run->entry_count == EPK_ENTRIES_MAX) return EPK_DAMAGED;
    entry->header = run->position;
    entry->data = run->position + size;
    run->entry_count++;
    run->names_size += one->count;
    memset(header, 0, (size_t)size);
    header[26] = (uint8_t)one->count;
    return take(run, 0, one->count, header + 30);
}

static int leave_hole(epk_run *run, const epk_operation *one) {
    epk_hole *hole = &run->holes[run->hole_count];
    if (run->entry_count == 0 || run->has_tail || run->hole_count == EPK_HOLES_MAX) return EPK_DAMAGED;
    if (one->entry >= EPK_ENTRIES_MAX || one->count > EPK_ENTRIES_MAX || one->size > 0x7fffffff) return EPK_DAMAGED;
    hole->start = run->position;
    hole->size = (uint32_t)one->size;
    hole->within = run->entry_count - 1;
    hole->first = (uint32_t)one->entry;
    hole->count = (uint32_t)one->count;
    run->hole_count++;
    memset(run->out + run->position, 0, (size_t)one->size);
    return EPK_OK;
}

static int from_earlier(epk_run *run, const epk_operation *one, uint8_t *out) {
    if (one->distance > run->position || one->size > one->distance) return EPK_DAMAGED;
    if (one->code == EPK_PRODUCT) return epk_multiply(out - one->distance, one->factor, one->count, out);
    epk_permute(one, out - one->distance, out);
    return EPK_OK;
}

static int from_base(epk_run *run, const epk_operation *one, uint8_t *out) {
    const uint8_t *base = base_at(run, run->position, run->shift, one->size);
    if (base == NULL) return EPK_DAMAGED;
    if (one->code == EPK_TENSOR_ON_BASE) return decode(run, one, base, one->size, out);
    memcpy(out, base, (size_t)one->size);
    return EPK_OK;
}

static int write_one(epk_run *run, const epk_operation *one) {
    uint64_t size = written(one, run->position, run->entry_count, run->names_size);
    uint8_t *out = run->out + run->position;
    int answer = EPK_OK;
    if (size > run->header.output_size - run->position) return EPK_DAMAGED;
    switch (one->code) {
    case EPK_ENTRY: answer = begin_entry(run, one, size); break;
    case EPK_TAIL:
        finish_entry(run);
        if (run->has_tail) return EPK_DAMAGED;
        run->has_tail = 1;
        run->tail_at = run->position;
        memset(out, 0, (size_t)size);
        break;
    case EPK_TAKE:
    case EPK_TAKE_OTHER:
        answer = take(run, one->group, size, out);
        if (answer == EPK_OK) answer = move_shift(&run->shift, (int64_t)one->base_size - (int64_t)size);
        break;
    case EPK_TENSOR: answer = decode(run, one, NULL, 0, out); break;
    case EPK_FILL: memset(out, one->flip, (size_t)size); break;
    case EPK_COPY:
    case EPK_PRODUCT: answer = from_earlier(run, one, out); break;
    case EPK_DIGEST:
    case EPK_LISTING: answer = leave_hole(run, one); break;
    default: answer = from_base(run, one, out); break;
    }
    run->position += size;
    return answer;
}

static int run_table(epk_run *run) {
    epk_cursor cursor;
    epk_operation one;
    int answer, i;
    cursor.at = run->table;
    cursor.end = run->table_end;
    cursor.is_bad = 0;
    while ((answer = epk_read_operation(&cursor, &one)) == 1) {
        if (one.code == EPK_CHUNK) answer = open_chunk(run, &one, &cursor);
        else if (one.code == EPK_SEEK) answer = move_shift(&run->shift, one.by);
        else answer = write_one(run, &one);
        if (answer != EPK_OK) return answer;
    }
    if (answer < 0) return answer;
    finish_entry(run);
    for (i = 0; i < EPK_GROUPS_MAX; i++)
        if (run->groups[i].taken != run->groups[i].size) return EPK_DAMAGED;
    if (run->header.is_archive != (run->entry_count > 0)) return EPK_DAMAGED;
    if (run->position != run->header.output_size || run->payload != run->payload_end) return EPK_DAMAGED;
    return epk_fill_in(run);
}

/* The workspace: the coders' part, then the table, chunks, context, entries and holes. Together under EPK_UNPACK_WORK_SIZE. */
static uint8_t *share_work(epk_run *run, uint8_t *work) {
    run->work = work;
    work += EPK_WORK_SIZE;
    run->entries = (epk_entry *)(void *)work;
    work += sizeof(epk_entry) * EPK_ENTRIES_MAX;
    run->holes = (epk_hole *)(void *)work;
    work += sizeof(epk_hole) * EPK_HOLES_MAX;
    run->chunks = work;
    work += EPK_CHUNKS_MAX;
    run->history = work;
    return work + EPK_HISTORY_MAX;
}

static int read_table(epk_run *run, epk_cursor *cursor, uint8_t *table) {
    epk_operation one;
    uint64_t size = epk_cursor_number(cursor);
    uint64_t coder = epk_cursor_number(cursor), params_size = epk_cursor_number(cursor);
    if (cursor->is_bad || size == 0 || size > EPK_TABLE_MAX || coder > 255 || params_size > EPK_PARAMS_MAX) return EPK_DAMAGED;
    memset(&one, 0, sizeof one);
    one.kind = EPK_BYTES;
    one.size = size;
    one.coder = (int)coder;
    one.params_size = (size_t)params_size;
    one.params = epk_cursor_bytes(cursor, params_size);
    one.payload_size = epk_cursor_number(cursor);
    if (cursor->is_bad) return EPK_DAMAGED;
    run->payload = cursor->at;
    run->payload_end = cursor->end;
    run->table = table;
    run->table_end = table + size;
    return decode(run, &one, NULL, 0, table);
}

int epk_unpack_in(const uint8_t *wire, size_t size, const uint8_t *base, size_t base_size, uint8_t *out, size_t out_size,
                  void *work, size_t work_size) {
    epk_run run;
    epk_cursor cursor;
    uint8_t digest[32], *table;
    int answer;
    memset(&run, 0, sizeof run);
    cursor.at = wire;
    cursor.end = wire + size;
    cursor.is_bad = 0;
    answer = epk_read_header(&cursor, size, &run.header);
    if (answer != EPK_OK) return answer;
    if (work_size < EPK_UNPACK_WORK_SIZE || out_size != run.header.output_size) return EPK_NO_SPACE;
    if (run.header.is_delta != (base != NULL)) return EPK_WRONG_BASE;
    if (base != NULL) {
        epk_sha256(base, base_size, digest);
        if (base_size != run.header.base_size || memcmp(digest, run.header.base_digest, 32) != 0) return EPK_WRONG_BASE;
    }
    run.base = base;
    run.base_size = base != NULL ? base_size : 0;
    run.history_left = run.base_size + out_size;
    run.out = out;
    table = share_work(&run, work);
    answer = read_table(&run, &cursor, table);
    if (answer == EPK_OK) answer = run_table(&run);
    if (answer != EPK_OK) return answer;
    epk_sha256(out, out_size, digest);
    return memcmp(digest, run.header.output_digest, 32) == 0 ? EPK_OK : EPK_WRONG_DIGEST;
}

int epk_unpack(const uint8_t *wire, size_t size, const uint8_t *base, size_t base_size, uint8_t *out, size_t out_size) {
    void *work = EPK_MALLOC(EPK_UNPACK_WORK_SIZE);
    int answer;
    if (work == NULL) return EPK_NO_SPACE;
    answer = epk_unpack_in(wire, size, base, base_size, out, out_size, work, EPK_UNPACK_WORK_SIZE);
    EPK_FREE(work);
    return answer;
}

static int header_of(const uint8_t *wire, size_t size, epk_header *header) {
    epk_cursor cursor;
    cursor.at = wire;
    cursor.end = wire + size;
    cursor.is_bad = 0;
    return epk_read_header(&cursor, size, header);
}

int64_t epk_output_size(const uint8_t *wire, size_t size) {
    epk_header header;
    int answer = header_of(wire, size, &header);
    return answer == EPK_OK ? (int64_t)header.output_size : answer;
}

int epk_needs_base(const uint8_t *wire, size_t size, uint8_t *sha256) {
    epk_header header;
    int answer = header_of(wire, size, &header);
    if (answer != EPK_OK) return answer;
    if (header.is_delta && sha256 != NULL) memcpy(sha256, header.base_digest, 32);
    return header.is_delta;
}
