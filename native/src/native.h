/* What the files of the decoder share: reading protobuf within bounds, and how a step ends.

   Nothing here or in the other files guesses. A message written as every encoder writes it is read; anything else (a field
   twice, a group, a length that does not fit, a value nested deeper than MAX_DEPTH) is NOT_OURS, and the caller asks Python. */
#ifndef LEYDEN_NATIVE_H
#define LEYDEN_NATIVE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { DONE = 0, NOT_OURS = 1, RAISED = -1 };
enum { MAX_DEPTH = 16, MAX_PAIRS = 48 };

/* Bytes that somebody else owns. */
typedef struct {
    const uint8_t *at;
    size_t size;
} Slice;

/* Reading goes on from `at`, never past `end`. */
typedef struct {
    const uint8_t *at, *end;
} Input;

typedef struct {
    uint32_t number;
    unsigned wire; /* 0 varint, 1 eight bytes, 2 counted bytes, 5 four bytes */
    uint64_t bits; /* the number, of wires 0, 1 and 5 */
    Slice held;    /* the bytes, of wire 2 */
} Field;

enum { NONE = 0, STRING = 1, BOOL = 2, INT = 3, DOUBLE = 4, LIST = 5, MAP = 6, BYTES = 7 };

/* One attribute. `value` is the text, bytes or items; `bits` an integer, a double's bits or a truth; `told` everything after the key. */
typedef struct {
    Slice key, value, told;
    uint64_t bits;
    int type;
} Pair;

static inline Input input_of(Slice slice) {
    return (Input){slice.at, slice.at + slice.size};
}

static inline bool same(Slice a, Slice b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.at, b.at, a.size) == 0);
}

/* Whether a varint could be read: at most ten bytes, the tenth at most 1. */
static inline bool read_varint(Input *in, uint64_t *out) {
    uint64_t number = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (in->at == in->end) return false;
        uint8_t byte = *in->at++;
        if (shift == 63 && byte > 1) return false;
        number |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = number;
            return true;
        }
    }
    return false;
}

/* A tag or a length: protobuf reads no more than five bytes of either. */
static inline bool read_short_varint(Input *in, uint64_t *out) {
    const uint8_t *start = in->at;
    return read_varint(in, out) && in->at - start <= 5;
}

static inline bool read_bytes(Input *in, Slice *out) {
    uint64_t size;
    if (!read_short_varint(in, &size) || size > INT32_MAX || size > (uint64_t)(in->end - in->at)) return false;
    *out = (Slice){in->at, (size_t)size};
    in->at += size;
    return true;
}

static inline bool read_fixed(Input *in, unsigned bytes, uint64_t *out) {
    if ((size_t)(in->end - in->at) < bytes) return false;
    uint64_t number = 0;
    for (unsigned n = 0; n < bytes; n++) number |= (uint64_t)in->at[n] << (8 * n);
    in->at += bytes;
    *out = number;
    return true;
}

static inline bool read_field(Input *in, Field *out) {
    uint64_t tag;
    if (!read_short_varint(in, &tag) || tag >> 32 || tag >> 3 == 0) return false;
    *out = (Field){.number = (uint32_t)(tag >> 3), .wire = tag & 7};
    switch (out->wire) {
    case 0: return read_varint(in, &out->bits);
    case 1: return read_fixed(in, 8, &out->bits);
    case 2: return read_bytes(in, &out->held);
    case 5: return read_fixed(in, 4, &out->bits);
    default: return false; /* groups */
    }
}

/* A span's fields. Attributes beyond MAX_PAIRS make it NOT_OURS; events, links and scope stay bytes. */
typedef struct {
    Slice trace_id, span_id, trace_state, parent_id, name, message;
    uint64_t start_ns, end_ns;
    int32_t kind, code;
    int pair_count;
    bool has_events, has_links;
    Pair pairs[MAX_PAIRS];
} Span;

bool read_pair(Slice raw, Pair *out, int depth);
bool read_value(Slice raw, Pair *out, int depth);
bool read_span(Slice raw, Span *out);
bool is_ascii(const uint8_t *at, size_t size);

PyObject *spans_json(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *make_reader_type(PyObject *module);

#endif
