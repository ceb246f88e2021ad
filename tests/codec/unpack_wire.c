/* unpack_wire WIRE OUT [BASE]: what an app does with a wire file, for the tests. Its exit code is the negated answer.
 * unpack_wire WIRE - [BASE]: decodes 150 changed copies of the file; exit code 90 where one gives other bytes than the file itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgepack_wire.h"

static uint8_t *load(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    if (file == NULL) exit(100);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    data = malloc(*size ? *size : 1);
    if (data == NULL || fread(data, 1, *size, file) != *size) exit(101);
    fclose(file);
    return data;
}

static int try_changes(uint8_t *wire, size_t size, const uint8_t *base, size_t base_size, size_t out_size) {
    uint8_t *right = malloc(out_size + 1), *out = malloc(out_size + 1), *changed = malloc(size);
    uint32_t state = 1;
    int round, answer = epk_unpack(wire, size, base, base_size, right, out_size);
    for (round = 0; round < 150 && answer == EPK_OK; round++) {
        size_t length = size;
        int change;
        memcpy(changed, wire, size);
        for (change = 0; change <= round % 3; change++) {
            state = state * 1664525u + 1013904223u;
            changed[(state >> 4) % size] ^= (uint8_t)(1u << (state >> 29));
        }
        if (round % 5 == 0) length = (state >> 3) % size;
        if (epk_output_size(changed, length) != (int64_t)out_size) continue;
        if (epk_unpack(changed, length, base, base_size, out, out_size) == EPK_OK && memcmp(out, right, out_size) != 0) answer = -90;
    }
    free(right);
    free(out);
    free(changed);
    return answer;
}

/* What the process held at most, where the system tells it; for benchmarks. */
static void tell_peak(void) {
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0) printf("%s", line + 6);
    if (status != NULL) fclose(status);
}

int main(int count, char **arguments) {
    size_t size, base_size = 0;
    uint8_t *wire = load(arguments[1], &size), *base = count > 3 ? load(arguments[3], &base_size) : NULL, *out;
    int64_t output_size = epk_output_size(wire, size);
    int answer;
    FILE *file;
    if (output_size < 0) return (int)-output_size;
    out = malloc(output_size ? (size_t)output_size : 1);
    if (out == NULL) return 102;
    if (arguments[2][0] == '-') answer = try_changes(wire, size, base, base_size, (size_t)output_size);
    else answer = epk_unpack(wire, size, base, base_size, out, (size_t)output_size);
    if (answer == EPK_OK && arguments[2][0] != '-') {
        file = fopen(arguments[2], "wb");
        if (file == NULL || fwrite(out, 1, (size_t)output_size, file) != (size_t)output_size || fclose(file)) return 103;
    }
    tell_peak();
    free(out);
    free(wire);
    free(base);
    return -answer;
}
