/* Protobuf payloads → the store protocol's JSON, byte for byte what `leyden.ingest.payload` writes.

   A payload is a TracesData of one resource, one scope and one span. Text that is not UTF-8, a key sent twice and a double
   that repr and JSON write differently are left to Python. */
#include "native.h"

#include <stdlib.h>

typedef struct {
    char *at;
    size_t size, room;
    bool failed; /* out of memory */
} Text;

static bool grow(Text *text, size_t more) {
    if (text->failed) return false;
    size_t room = text->room ? text->room : 4096;
    while (room - text->size < more) room *= 2;
    char *moved = PyMem_Realloc(text->at, room);
    if (!moved) {
        text->failed = true;
        return false;
    }
    text->at = moved;
    text->room = room;
    return true;
}

static inline bool has_room(Text *text, size_t more) {
    return text->room - text->size >= more || grow(text, more);
}

static inline void put(Text *text, const char *from, size_t size) {
    if (!has_room(text, size)) return;
    memcpy(text->at + text->size, from, size);
    text->size += size;
}

#define PUT(text, literal) put(text, literal, sizeof(literal) - 1)

static void put_hex(Text *text, Slice raw) {
    static const char digits[] = "0123456789abcdef";
    if (!has_room(text, raw.size * 2)) return;
    char *out = text->at + text->size;
    for (size_t n = 0; n < raw.size; n++) {
        *out++ = digits[raw.at[n] >> 4];
        *out++ = digits[raw.at[n] & 15];
    }
    text->size += raw.size * 2;
}

static void put_number(Text *text, uint64_t number) {
    char digits[20];
    int n = 20;
    do digits[--n] = (char)('0' + number % 10);
    while (number /= 10);
    put(text, digits + n, (size_t)(20 - n));
}

static void put_integer(Text *text, int64_t number) {
    if (number < 0) PUT(text, "-");
    put_number(text, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

/* ── Text ── */

/* The length of the UTF-8 character at `at`, which is no ASCII; 0 when there is none. As strict as Python's decoder. */
static size_t character(const uint8_t *at, const uint8_t *end) {
    size_t left = (size_t)(end - at);
    uint8_t first = at[0];
#define TAIL(n) ((at[n] & 0xC0) == 0x80)
    if (first >= 0xC2 && first <= 0xDF) return left >= 2 && TAIL(1) ? 2 : 0;
    if (first >= 0xE0 && first <= 0xEF) {
        if (left < 3 || !TAIL(1) || !TAIL(2)) return 0;
        if (first == 0xE0 && at[1] < 0xA0) return 0; /* could be shorter */
        if (first == 0xED && at[1] > 0x9F) return 0; /* half of a surrogate pair */
        return 3;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        if (left < 4 || !TAIL(1) || !TAIL(2) || !TAIL(3)) return 0;
        if (first == 0xF0 && at[1] < 0x90) return 0;
        if (first == 0xF4 && at[1] > 0x8F) return 0;
        return 4;
    }
#undef TAIL
    return 0;
}

#define ONES 0x0101010101010101u
#define HIGHS 0x8080808080808080u

/* Whether one of eight bytes is a quote, a backslash, a control character or no ASCII. */
static inline bool needs_look(uint64_t eight) {
    uint64_t quote = eight ^ (ONES * '"'), slash = eight ^ (ONES * '\\');
    uint64_t found = (quote - ONES) | (slash - ONES) | (eight - ONES * 0x20) | eight;
    return (found & HIGHS) != 0; /* borrows only ever find too much */
}

static void put_escape(Text *text, uint8_t byte) {
    static const char digits[] = "0123456789abcdef";
    static const char names[32] = {[8] = 'b', [9] = 't', [10] = 'n', [12] = 'f', [13] = 'r'};
    char out[6] = {'\\', (char)byte, '0', '0', 0, 0};
    if (byte >= 0x20 || names[byte]) {
        if (byte < 0x20) out[1] = names[byte];
        put(text, out, 2);
        return;
    }
    out[1] = 'u';
    out[4] = digits[byte >> 4];
    out[5] = digits[byte & 15];
    put(text, out, 6);
}

/* A text between quotes; false when it is not UTF-8. */
static bool put_text(Text *text, Slice raw) {
    const uint8_t *at = raw.at, *end = raw.at + raw.size, *copied = at;
    PUT(text, "\"");
    while (at < end) {
        uint64_t eight;
        if (end - at >= 8) {
            memcpy(&eight, at, 8);
            if (!needs_look(eight)) {
                at += 8;
                continue;
            }
        }
        if (*at >= 0x80) {
            size_t size = character(at, end);
            if (!size) return false;
            at += size;
        } else if (*at < 0x20 || *at == '"' || *at == '\\') {
            put(text, (const char *)copied, (size_t)(at - copied));
            put_escape(text, *at++);
            copied = at;
        } else {
            at++;
        }
    }
    put(text, (const char *)copied, (size_t)(at - copied));
    PUT(text, "\"");
    return true;
}

/* ── Numbers ── */

/* A double that repr writes as JSON does: 0, or from 0.0001 to below 1e16. */
static int put_plain_double(Text *text, double number) {
    char *written = PyOS_double_to_string(number, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (!written) return RAISED;
    put(text, written, strlen(written));
    PyMem_Free(written);
    return DONE;
}

static int put_double(Text *text, uint64_t bits) {
    double number;
    memcpy(&number, &bits, 8);
    double size = number < 0 ? -number : number;
    if (!(size <= 1.7976931348623157e308)) {
        PUT(text, "null");
        return DONE;
    }
    if (size != 0 && !(size >= 1e-4 && size < 1e16)) return NOT_OURS;
    return put_plain_double(text, number);
}

#define A_SECOND 1000000000u
#define TWO_TO_30 1073741824u

/* The shortest decimal of the double nearest to ns / 10^9, for times from 2004 to 2038, where doubles lie 2^-22 apart.

   The double is m · 2^-22. A decimal v · 10^-7 reads back as it when v · 2^23 is within (2m ± 1) · 10^7; of those the one with
   the most trailing zeros is the shortest, and of equally short ones the nearest is written. */
static void put_recent_time(Text *text, uint64_t ns) {
    unsigned __int128 scaled = (unsigned __int128)ns << 22;
    uint64_t m = (uint64_t)(scaled / A_SECOND), rest = (uint64_t)(scaled % A_SECOND);
    m += rest * 2 > A_SECOND || (rest * 2 == A_SECOND && (m & 1));
    unsigned __int128 below = (unsigned __int128)(2 * m - 1) * 10000000u, above = below + 20000000u;
    const unsigned __int128 part = ((unsigned __int128)1 << 23) - 1;
    bool open = m & 1; /* a decimal half way between two doubles reads as the even one */
    uint64_t low = (uint64_t)(below >> 23) + ((below & part) != 0 || open);
    uint64_t high = (uint64_t)(above >> 23) - ((above & part) == 0 && open);
    uint64_t step = 1, best = 0;
    while (high / (step * 10) * (step * 10) >= low) step *= 10;
    if (step > 1) {
        best = high / step * step;
    } else {
        unsigned __int128 exact = (unsigned __int128)m * 10000000u;
        best = (uint64_t)((exact + ((unsigned __int128)1 << 21)) >> 22);
    }
    uint64_t whole = best / 10000000u, decimals = best % 10000000u;
    put_number(text, whole);
    char digits[8] = {'.'};
    for (int n = 7; n > 0; n--, decimals /= 10) digits[n] = (char)('0' + decimals % 10);
    size_t size = 8;
    while (size > 2 && digits[size - 1] == '0') size--;
    put(text, digits, size);
}

static int put_time(Text *text, uint64_t ns) {
    if (ns == 0) {
        PUT(text, "null");
        return DONE;
    }
    if (ns > (uint64_t)TWO_TO_30 * A_SECOND && ns < (uint64_t)(2 * (uint64_t)TWO_TO_30 - 1) * A_SECOND) {
        put_recent_time(text, ns);
        return DONE;
    }
    return NOT_OURS;
}

/* ── Values ── */

static int put_value(Text *text, const Pair *pair);

static int put_list(Text *text, Slice raw) {
    Input in = input_of(raw);
    Field field;
    Pair item;
    int ended = DONE;
    PUT(text, "[");
    for (bool first = true; ended == DONE && in.at < in.end; first = false) {
        if (!read_field(&in, &field) || !read_value(field.held, &item, 0)) return NOT_OURS;
        if (!first) PUT(text, ",");
        ended = put_value(text, &item);
    }
    PUT(text, "]");
    return ended;
}

/* `{"key":value,…}`; NOT_OURS when two keys are equal, of which a dict keeps one. */
static int put_pairs(Text *text, const Pair *pairs, int count) {
    int ended = DONE;
    PUT(text, "{");
    for (int n = 0; ended == DONE && n < count; n++) {
        for (int m = 0; m < n; m++)
            if (same(pairs[n].key, pairs[m].key)) return NOT_OURS;
        if (n) PUT(text, ",");
        if (!put_text(text, pairs[n].key)) return NOT_OURS;
        PUT(text, ":");
        ended = put_value(text, &pairs[n]);
    }
    PUT(text, "}");
    return ended;
}

/* The same of pairs that are fields `number` of a message, whose other fields are skipped. */
static int put_held_pairs(Text *text, Slice raw, uint32_t number) {
    enum { MOST = 32 };
    Pair pairs[MOST];
    int count = 0;
    Input in = input_of(raw);
    Field field;
    while (in.at < in.end) {
        if (!read_field(&in, &field)) return NOT_OURS;
        if (field.number != number) continue;
        if (field.wire != 2 || count == MOST || !read_pair(field.held, &pairs[count++], 0)) return NOT_OURS;
    }
    return put_pairs(text, pairs, count);
}

static int put_value(Text *text, const Pair *pair) {
    switch (pair->type) {
    case STRING: return put_text(text, pair->value) ? DONE : NOT_OURS;
    case BOOL: pair->bits ? PUT(text, "true") : PUT(text, "false"); return DONE;
    case INT: put_integer(text, (int64_t)pair->bits); return DONE;
    case DOUBLE: return put_double(text, pair->bits);
    case LIST: return put_list(text, pair->value);
    case MAP: return put_held_pairs(text, pair->value, 1);
    case BYTES:
        PUT(text, "\"");
        put_hex(text, pair->value);
        PUT(text, "\"");
        return DONE;
    default: PUT(text, "null"); return DONE;
    }
}

/* ── A span ── */

typedef struct {
    Slice resource, schema_url, scope, span;
} Payload;

/* Counted bytes by field number, each at most once; other fields are skipped. */
static bool read_parts(Slice raw, Slice *const *parts, uint32_t most) {
    Input in = input_of(raw);
    Field field;
    unsigned seen = 0;
    while (in.at < in.end) {
        if (!read_field(&in, &field)) return false;
        if (field.number > most || !parts[field.number]) continue;
        if (field.wire != 2 || seen & 1u << field.number) return false;
        seen |= 1u << field.number;
        *parts[field.number] = field.held;
    }
    return true;
}

static bool read_payload(Slice raw, Payload *out) {
    const Slice empty = {raw.at, 0};
    Slice group = empty, scoped = empty;
    *out = (Payload){empty, empty, empty, empty};
    Slice *const outer[] = {NULL, &group};
    Slice *const inner[] = {NULL, &out->resource, &scoped, &out->schema_url};
    Slice *const scopes[] = {NULL, &out->scope, &out->span};
    return read_parts(raw, outer, 1) && read_parts(group, inner, 3) && read_parts(scoped, scopes, 2);
}

static int put_resource(Text *text, const Payload *payload) {
    PUT(text, "{\"attributes\":");
    int ended = put_held_pairs(text, payload->resource, 1);
    PUT(text, ",\"schema_url\":");
    if (ended == DONE && !put_text(text, payload->schema_url)) ended = NOT_OURS;
    PUT(text, "}");
    return ended;
}

static int put_scope(Text *text, const Payload *payload) {
    Slice name = {payload->scope.at, 0}, version = name;
    Slice *const parts[] = {NULL, &name, &version};
    if (!read_parts(payload->scope, parts, 2)) return NOT_OURS;
    PUT(text, "{\"name\":");
    if (!put_text(text, name)) return NOT_OURS;
    PUT(text, ",\"version\":");
    if (!put_text(text, version)) return NOT_OURS;
    PUT(text, ",\"attributes\":");
    int ended = put_held_pairs(text, payload->scope, 3);
    PUT(text, "}");
    return ended;
}

static void put_status(Text *text, int32_t code) {
    switch (code) {
    case 1: PUT(text, ",\"status\":{\"status_code\":\"OK\",\"description\":"); break;
    case 2: PUT(text, ",\"status\":{\"status_code\":\"ERROR\",\"description\":"); break;
    default: PUT(text, ",\"status\":{\"status_code\":\"UNSET\",\"description\":");
    }
}

static const char *const kinds[] = {"UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"};

/* Whose the span is, as the store says. NOT_OURS for ids that are no text of Unicode or no 64-bit number. */
static int put_filed(Text *text, PyObject *row) {
    static const char *const before[] = {"{\"rollout_id\":", ",\"attempt_id\":"};
    for (int n = 0; n < 2; n++) {
        PyObject *id = PyTuple_GetItem(row, 2 + n);
        Py_ssize_t size;
        const char *utf8 = id && PyUnicode_Check(id) ? PyUnicode_AsUTF8AndSize(id, &size) : NULL;
        if (!utf8) {
            PyErr_Clear();
            return NOT_OURS;
        }
        put(text, before[n], strlen(before[n]));
        if (!put_text(text, (Slice){(const uint8_t *)utf8, (size_t)size})) return NOT_OURS;
    }
    PyObject *sequence = PyTuple_GetItem(row, 4);
    long long number = sequence && PyLong_CheckExact(sequence) ? PyLong_AsLongLong(sequence) : -1;
    if (number < 0) {
        PyErr_Clear();
        return NOT_OURS;
    }
    PUT(text, ",\"sequence_id\":");
    put_integer(text, number);
    return DONE;
}

static int put_span(Text *text, const Span *span) {
    static const uint8_t zeros[8];
    bool no_parent = span->parent_id.size == 0 || same(span->parent_id, (Slice){zeros, 8});
    PUT(text, ",\"trace_id\":\"");
    put_hex(text, span->trace_id);
    PUT(text, "\",\"span_id\":\"");
    put_hex(text, span->span_id);
    if (no_parent) {
        PUT(text, "\",\"parent_id\":null,\"name\":");
    } else {
        PUT(text, "\",\"parent_id\":\"");
        put_hex(text, span->parent_id);
        PUT(text, "\",\"name\":");
    }
    if (!put_text(text, span->name)) return NOT_OURS;
    put_status(text, span->code);
    if (span->message.size == 0)
        PUT(text, "null");
    else if (!put_text(text, span->message))
        return NOT_OURS;
    PUT(text, "},\"attributes\":");
    int ended = put_pairs(text, span->pairs, span->pair_count);
    PUT(text, ",\"events\":[],\"links\":[],\"start_time\":");
    if (ended == DONE) ended = put_time(text, span->start_ns);
    PUT(text, ",\"end_time\":");
    if (ended == DONE) ended = put_time(text, span->end_ns);
    PUT(text, ",\"context\":{\"trace_id\":\"");
    put_hex(text, span->trace_id);
    PUT(text, "\",\"span_id\":\"");
    put_hex(text, span->span_id);
    PUT(text, "\",\"is_remote\":false,\"trace_state\":{}},\"parent\":null,\"resource\":");
    return ended;
}

static int put_row(Text *text, PyObject *row) {
    PyObject *held;
    Payload payload;
    Span span;
    if (!PyTuple_Check(row) || PyTuple_Size(row) != 5 || !PyBytes_Check(held = PyTuple_GetItem(row, 0))) {
        PyErr_SetString(PyExc_TypeError, "a row is (payload, encoding, rollout, attempt, sequence)");
        return RAISED;
    }
    Slice raw = {(const uint8_t *)PyBytes_AsString(held), (size_t)PyBytes_Size(held)};
    if (!read_payload(raw, &payload) || !read_span(payload.span, &span)) return NOT_OURS;
    if (span.has_events || span.has_links || span.trace_state.size) return NOT_OURS;
    int ended = put_filed(text, row);
    if (ended == DONE) ended = put_span(text, &span);
    if (ended == DONE) ended = put_resource(text, &payload);
    PUT(text, ",\"kind\":\"");
    const char *kind = kinds[span.kind >= 0 && span.kind <= 5 ? span.kind : 0];
    put(text, kind, strlen(kind));
    PUT(text, "\",\"scope\":");
    if (ended == DONE) ended = put_scope(text, &payload);
    PUT(text, "}");
    return ended;
}

static PyObject *row_json(Text *text, PyObject *row) {
    text->size = 0;
    int ended = put_row(text, row);
    if (text->failed) return PyErr_NoMemory();
    if (ended == RAISED) return NULL;
    if (ended == NOT_OURS) return Py_NewRef(Py_None);
    return PyBytes_FromStringAndSize(text->at, (Py_ssize_t)text->size);
}

/* spans_json(rows: list[tuple[bytes, str, str, str, int]]) -> list[bytes | None] */
PyObject *spans_json(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 1 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "spans_json takes a list of rows");
        return NULL;
    }
    /* A copy: the rows stay, whatever another thread does to the list. */
    PyObject *rows = PyList_AsTuple(args[0]);
    if (!rows) return NULL;
    Py_ssize_t size = PyTuple_Size(rows);
    PyObject *out = PyList_New(size);
    Text text = {0};
    for (Py_ssize_t n = 0; out && n < size; n++) {
        PyObject *json = row_json(&text, PyTuple_GetItem(rows, n));
        if (!json || PyList_SetItem(out, n, json) < 0) Py_CLEAR(out);
    }
    PyMem_Free(text.at);
    Py_DECREF(rows);
    return out;
}
