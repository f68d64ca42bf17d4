/* The records of plain spans: what `leyden.ingest.plain` does, span by span.

   The rules stay in Python. What a span is about is asked once for each set of keys, name and values that count, and says where
   this span's session, messages and figures stand; C looks there. Every value that is not of the usual kind goes to the Python
   function that decides it. A span that is not plain has the record None. */
#include "layouts.h"

/* What all spans of one scope share. */
typedef struct {
    PyObject *owner; /* (rollout, attempt, sequence) of the resource */
    PyObject *limits;
    bool is_owned;   /* by a rollout and an attempt both */
    Slice before_scope, before_span;
    size_t most_bytes;
    Slice last_trace, last_parent;
    PyObject *trace, *parent;
} Shared;

/* ── Texts ── */

static bool finds(Slice in, const char *wanted) {
    size_t size = strlen(wanted);
    const uint8_t *at = in.at, *end = in.at + in.size;
    while ((size_t)(end - at) >= size && (at = memchr(at, wanted[0], (size_t)(end - at) - size + 1))) {
        if (memcmp(at, wanted, size) == 0) return true;
        at++;
    }
    return false;
}

static PyObject *asked(PyObject *function, PyObject *value, long limit) {
    PyObject *most = PyLong_FromLong(limit), *found = NULL;
    if (value && most) found = PyObject_CallFunctionObjArgs(function, value, limit ? most : NULL, NULL);
    Py_XDECREF(value);
    Py_XDECREF(most);
    return found;
}

/* The first `limit` characters when they are ASCII without NUL, which every column takes; else NULL without an error. */
static PyObject *plain_text(Slice text, size_t limit) {
    size_t size = text.size < limit ? text.size : limit;
    if (!is_ascii(text.at, size) || memchr(text.at, 0, size)) return NULL;
    return size ? PyUnicode_FromStringAndSize((const char *)text.at, (Py_ssize_t)size) : Py_NewRef(Py_None);
}

/* `leyden.ingest.text.column` */
static PyObject *column_of(Reader *self, const Pair *pair, long limit) {
    if (!pair) return Py_NewRef(Py_None);
    PyObject *text = pair->type == STRING ? plain_text(pair->value, (size_t)limit) : NULL;
    return text || PyErr_Occurred() ? text : asked(self->functions[COLUMN], value_of(pair), limit);
}

/* `leyden.ingest.preview._last_content` of text in ASCII; empty when only Python knows. */
static Slice last_content(Slice text) {
    static const char mark[] = "\"content\":";
    const size_t marked = sizeof mark - 1;
    const Slice unknown = {text.at, 0};
    if (text.size <= marked) return unknown;
    const uint8_t *end = text.at + text.size, *at = end - marked;
    while (at > text.at && (*at != '"' || memcmp(at, mark, marked))) at--;
    if (at == text.at || finds((Slice){at, (size_t)(end - at)}, "\"role\":")) return unknown;
    at += marked;
    if (at < end && *at == ' ') at++;
    if (at == end || *at++ != '"') return unknown;
    size_t size = (size_t)(end - at) < PREVIEW_CHARS ? (size_t)(end - at) : PREVIEW_CHARS;
    if (!is_ascii(at, size)) return unknown;
    const uint8_t *quote = memchr(at, '"', size);
    if (quote) size = (size_t)(quote - at);
    return memchr(at, '\\', size) ? unknown : (Slice){at, size};
}

static bool may_be_message(Slice text) {
    return finds(text, "\"role\"") || finds(text, "\"messages\"") || finds(text, "\"parts\"") ||
           (finds(text, "\"text\"") && finds(text, "\"type\"")) || finds(text, "\\u");
}

/* `leyden.ingest.preview.preview` */
static PyObject *preview_of(Reader *self, const Pair *pair) {
    if (!pair) return Py_NewRef(Py_None);
    Slice text = pair->value;
    PyObject *found = NULL;
    if (pair->type == STRING) {
        if (text.at[0] == '[') {
            text = last_content(text);
            if (text.size) found = plain_text(text, PREVIEW_CHARS);
        } else if (text.at[0] > ' ' && !(text.at[0] == '{' && may_be_message(text))) {
            found = plain_text(text, PREVIEW_CHARS);
        }
    }
    return found || PyErr_Occurred() ? found : asked(self->functions[PREVIEW], value_of(pair), 0);
}

/* Whether a tool's answer says that it failed: 1, 0, or −1 with an error. Without one of these letters none does. */
static int is_failed(Reader *self, const Pair *answer) {
    if (answer->type == STRING && !finds(answer->value, "rror") && !finds(answer->value, "\\u") &&
        (answer->value.at[0] == '{' || (!finds(answer->value, "xception") && !finds(answer->value, "raceback"))))
        return 0;
    PyObject *found = asked(self->functions[FAILED_ANSWER], value_of(answer), 0);
    if (!found) return -1;
    Py_DECREF(found);
    return found != Py_None;
}

/* ── Figures ── */

/* Of the attributes that may fill a column, the first that is there and not empty; NULL for none. */
static const Pair *first_of(const Answer *answer, const Span *span, int column) {
    const Places *places = &answer->places[column];
    for (int n = 0; n < places->count; n++) {
        const Pair *pair = &span->pairs[places->at[n]];
        if (pair->type != NONE && !(pair->type == STRING && pair->value.size == 0)) return pair;
    }
    return NULL;
}

static PyObject *count_of(const Pair *pair, int64_t more) {
    return pair ? PyLong_FromLongLong((long long)((int64_t)pair->bits + more)) : Py_NewRef(Py_None);
}

/* `leyden.ingest.derive.tokens`; whether it went well. */
static bool put_counts(Reader *self, const Answer *answer, const Span *span, PyObject **out) {
    const Pair *found[5];
    bool are_counts = true;
    for (int n = 0; n < 5; n++) {
        found[n] = first_of(answer, span, SENT + n);
        are_counts &= !found[n] || (found[n]->type == INT && found[n]->bits <= (uint64_t)MAX_COUNT);
    }
    if (are_counts) {
        int64_t cached = (found[2] ? (int64_t)found[2]->bits : 0) + (found[3] ? (int64_t)found[3]->bits : 0);
        bool is_apart = found[0] && (!answer->includes_cache || cached > (int64_t)found[0]->bits);
        for (int n = 0; n < 5; n++) out[n] = count_of(found[n], n == 0 && is_apart ? cached : 0);
        return out[0] && out[1] && out[2] && out[3] && out[4];
    }
    PyObject *asked_with = PyTuple_New(6), *told = NULL;
    if (!asked_with) return false;
    PyTuple_SetItem(asked_with, 0, Py_NewRef(answer->dialect));
    bool is_full = true;
    for (int n = 0; n < 5; n++) {
        PyObject *value = found[n] ? value_of(found[n]) : Py_NewRef(Py_None);
        is_full &= value && PyTuple_SetItem(asked_with, n + 1, value) == 0;
    }
    if (is_full) told = PyObject_CallObject(self->functions[COUNTS], asked_with);
    Py_DECREF(asked_with);
    for (int n = 0; told && n < 5; n++) out[n] = Py_XNewRef(PyTuple_GetItem(told, n));
    Py_XDECREF(told);
    return told && out[4];
}

/* `leyden.ingest.derive.ttft` */
static PyObject *taken_of(Reader *self, const Layout *layout, const Answer *answer, const Span *span) {
    const Places *places = &answer->places[TTFT];
    if (!places->count) return Py_NewRef(Py_None);
    PyObject *held = PyDict_New(), *found = NULL;
    bool is_full = held != NULL;
    for (int n = 0; is_full && n < places->count; n++) {
        PyObject *value = value_of(&span->pairs[places->at[n]]);
        is_full = value && PyDict_SetItem(held, PyTuple_GetItem(layout->names, places->at[n]), value) == 0;
        Py_XDECREF(value);
    }
    if (is_full) found = PyObject_CallFunctionObjArgs(self->functions[TAKEN], held, answer->dialect, NULL);
    Py_XDECREF(held);
    return found;
}

/* ── A record ── */

enum {
    ROLLOUT_ID, ATTEMPT_ID, SEQUENCE_ID, TRACE_ID, SPAN_ID, PARENT_ID, TITLE, KIND, STATUS, START_NS, END_NS, AGENT, TOOL,
    PROVIDER, MODEL, SESSION_ID, ERROR_TYPE, ERROR_MESSAGE, FINGERPRINT, CALLED, INPUT_TOKENS, COST_USD = INPUT_TOKENS + 5,
    TTFT_MS, INPUT_PREVIEW, OUTPUT_PREVIEW, DIALECT, DERIVED_BY, ENCODING, PAYLOAD, SOURCE, SCORES,
};

static PyObject *hex_of(Slice raw) {
    static const char digits[] = "0123456789abcdef";
    char out[32];
    for (size_t n = 0; n < raw.size; n++) {
        out[2 * n] = digits[raw.at[n] >> 4];
        out[2 * n + 1] = digits[raw.at[n] & 15];
    }
    return PyUnicode_FromStringAndSize(out, (Py_ssize_t)raw.size * 2);
}

/* The same for an id that neighbours share. */
static PyObject *shared_hex(Slice raw, Slice *last, PyObject **kept) {
    if (!*kept || !same(raw, *last)) {
        Py_XDECREF(*kept);
        *kept = hex_of(raw);
        *last = raw;
    }
    return Py_XNewRef(*kept);
}

static bool is_zero(Slice id) {
    for (size_t n = 0; n < id.size; n++)
        if (id.at[n]) return false;
    return true;
}

static PyObject *time_of(uint64_t ns) {
    return ns && ns <= INT64_MAX ? PyLong_FromLongLong((long long)ns) : Py_NewRef(Py_None);
}

static size_t varint_size(size_t number) {
    size_t size = 1;
    while (number >>= 7) size++;
    return size;
}

static uint8_t *put_head(uint8_t *out, uint8_t tag, size_t size) {
    *out++ = tag;
    for (; size >= 0x80; size >>= 7) *out++ = (uint8_t)(size | 0x80);
    *out++ = (uint8_t)size;
    return out;
}

/* A standalone TracesData of the resource, the scope and the span's own bytes. */
static PyObject *payload_of(const Shared *shared, Slice raw) {
    size_t scoped = shared->before_span.size + 1 + varint_size(raw.size) + raw.size;
    size_t group = shared->before_scope.size + 1 + varint_size(scoped) + scoped;
    PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(1 + varint_size(group) + group));
    if (!payload) return NULL;
    uint8_t *out = put_head((uint8_t *)PyBytes_AsString(payload), 0x0A, group);
    memcpy(out, shared->before_scope.at, shared->before_scope.size);
    out = put_head(out + shared->before_scope.size, 0x12, scoped);
    memcpy(out, shared->before_span.at, shared->before_span.size);
    out = put_head(out + shared->before_span.size, 0x12, raw.size);
    memcpy(out, raw.at, raw.size);
    return payload;
}

/* Rollout, attempt, sequence number and source. NOT_OURS when the span names something that no row may have. */
static int put_filed(Reader *self, const Shared *shared, const Layout *layout, const Span *span, PyObject **out) {
    if (shared->is_owned && !layout->names_owner) {
        for (int n = 0; n < 3; n++) out[ROLLOUT_ID + n] = Py_NewRef(PyTuple_GetItem(shared->owner, n));
        out[SOURCE] = Py_NewRef(Py_None);
        return DONE;
    }
    PyObject *ids[3], *own = NULL, *filed = NULL;
    for (int n = 0; n < 3; n++)
        ids[n] = layout->owner_at[n] < 0 ? Py_NewRef(Py_None) : value_of(&span->pairs[layout->owner_at[n]]);
    if (ids[0] && ids[1] && ids[2])
        own = PyObject_CallFunctionObjArgs(self->functions[OWNER], ids[0], ids[1], ids[2], shared->limits, NULL);
    if (own && own != Py_None)
        filed = PyObject_CallFunctionObjArgs(self->functions[FILED], shared->owner, own, out[TRACE_ID], NULL);
    for (int n = 0; n < 3; n++) Py_XDECREF(ids[n]);
    int ended = own == Py_None ? NOT_OURS : filed ? DONE : RAISED;
    for (int n = 0; filed && n < 3; n++) out[ROLLOUT_ID + n] = Py_XNewRef(PyTuple_GetItem(filed, n));
    if (filed) out[SOURCE] = Py_XNewRef(PyTuple_GetItem(filed, 3));
    Py_XDECREF(own);
    Py_XDECREF(filed);
    return ended;
}

/* What the rules find: `leyden.ingest.plain._columns`. */
static int put_columns(Reader *self, const Layout *layout, const Answer *about, const Span *span, PyObject **out) {
    const Pair *said = first_of(about, span, SAID), *answer = first_of(about, span, ANSWERED);
    if (about->is_tool && answer) {
        int failed = is_failed(self, answer);
        if (failed) return failed < 0 ? RAISED : NOT_OURS;
    }
    if (about->needs_both && (!said || !answer)) return NOT_OURS;
    if (said && said->type == STRING && said->value.size < 16 && finds(said->value, "REDACTED")) return NOT_OURS;
    if (about->is_call) {
        const Pair *cost = first_of(about, span, COST);
        if (!put_counts(self, about, span, out + INPUT_TOKENS)) return RAISED;
        out[COST_USD] = cost ? asked(self->functions[AMOUNT], value_of(cost), 0) : Py_NewRef(Py_None);
        out[TTFT_MS] = out[COST_USD] ? taken_of(self, layout, about, span) : NULL;
        if (!out[TTFT_MS]) return RAISED;
    }
    if (about->tool != Py_None && said) {
        PyObject *value = value_of(said);
        out[CALLED] = value ? PyObject_CallFunctionObjArgs(self->functions[CALL_HASH], about->tool, value, NULL) : NULL;
        Py_XDECREF(value);
        if (!out[CALLED]) return RAISED;
    }
    out[TITLE] = Py_NewRef(about->title);
    out[KIND] = Py_NewRef(about->kind);
    out[AGENT] = Py_NewRef(about->agent);
    out[TOOL] = Py_NewRef(about->tool);
    out[PROVIDER] = Py_NewRef(about->provider);
    out[MODEL] = Py_NewRef(about->model);
    out[DIALECT] = Py_NewRef(about->spoken);
    if (!(out[SESSION_ID] = column_of(self, first_of(about, span, SESSION), NAME_CHARS))) return RAISED;
    if (!(out[INPUT_PREVIEW] = preview_of(self, said))) return RAISED;
    return (out[OUTPUT_PREVIEW] = preview_of(self, answer)) ? DONE : RAISED;
}

static bool is_plain(const Span *span) {
    Slice parent = span->parent_id;
    return span->trace_id.size == 16 && span->span_id.size == 8 && (parent.size == 0 || parent.size == 8) &&
           !is_zero(span->trace_id) && !is_zero(span->span_id) && span->code != 2 && !span->has_events;
}

/* Everything but the columns that the rules find. */
static int put_ids(Reader *self, Shared *shared, const Layout *layout, const Span *span, Slice raw, PyObject **out) {
    out[TRACE_ID] = shared_hex(span->trace_id, &shared->last_trace, &shared->trace);
    out[SPAN_ID] = hex_of(span->span_id);
    out[PARENT_ID] = is_zero(span->parent_id) ? Py_NewRef(Py_None)
                                              : shared_hex(span->parent_id, &shared->last_parent, &shared->parent);
    out[START_NS] = time_of(span->start_ns);
    out[END_NS] = time_of(span->end_ns);
    out[PAYLOAD] = payload_of(shared, raw);
    if (!out[TRACE_ID] || !out[SPAN_ID] || !out[PARENT_ID] || !out[START_NS] || !out[END_NS] || !out[PAYLOAD]) return RAISED;
    out[STATUS] = Py_NewRef(self->statuses[span->code == 1]);
    out[DERIVED_BY] = Py_NewRef(self->functions[VERSION]);
    out[ENCODING] = Py_NewRef(self->encoding);
    out[SCORES] = Py_NewRef(self->empty);
    return put_filed(self, shared, layout, span, out);
}

static PyObject *record_from(Reader *self, PyObject **out) {
    PyObject *record = PyType_GenericAlloc((PyTypeObject *)self->functions[RECORD], FIELDS);
    for (int n = 0; record && n < FIELDS; n++) {
        PyObject *field = out[n] ? out[n] : Py_NewRef(Py_None);
        out[n] = NULL;
        if (PyTuple_SetItem(record, n, field) < 0) Py_CLEAR(record);
    }
    return record;
}

/* The record of a span, None for one that only Python reads, NULL with an error. */
static PyObject *record_of(Reader *self, Shared *shared, Slice raw) {
    Span span;
    PyObject *out[FIELDS] = {NULL}, *record = NULL;
    if (raw.size > shared->most_bytes || !read_span(raw, &span) || !is_plain(&span)) return Py_NewRef(Py_None);
    Layout *layout = layout_of(self, &span);
    Answer *about = layout && layout->learner != Py_None ? answer_of(layout, &span) : NULL;
    int ended = NOT_OURS;
    if (about && about->is_plain) ended = put_ids(self, shared, layout, &span, raw, out);
    if (about && about->is_plain && ended == DONE) ended = put_columns(self, layout, about, &span, out);
    if (PyErr_Occurred()) ended = RAISED;
    if (ended == DONE) record = record_from(self, out);
    for (int n = 0; n < FIELDS; n++) Py_XDECREF(out[n]);
    drop_answer(about);
    drop_layout(layout);
    return ended == NOT_OURS ? Py_NewRef(Py_None) : record;
}

/* ── The type ── */

static bool take_shared(PyObject *const *args, Py_ssize_t count, Shared *out) {
    if (count != 6 || !PyList_Check(args[0]) || !PyTuple_Check(args[1]) || PyTuple_Size(args[1]) != 3 ||
        !PyBytes_Check(args[2]) || !PyBytes_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "records takes raws, owner, before_scope, before_span, limits, span_bytes");
        return false;
    }
    *out = (Shared){.owner = args[1], .limits = args[4]};
    out->is_owned = PyTuple_GetItem(args[1], 0) != Py_None && PyTuple_GetItem(args[1], 1) != Py_None;
    out->before_scope = (Slice){(const uint8_t *)PyBytes_AsString(args[2]), (size_t)PyBytes_Size(args[2])};
    out->before_span = (Slice){(const uint8_t *)PyBytes_AsString(args[3]), (size_t)PyBytes_Size(args[3])};
    out->most_bytes = PyLong_AsSize_t(args[5]);
    return !PyErr_Occurred();
}

static PyObject *records(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Shared shared;
    if (!take_shared(args, count, &shared)) return NULL;
    PyObject *raws = PyList_AsTuple(args[0]);
    Py_ssize_t size = raws ? PyTuple_Size(raws) : 0;
    PyObject *out = raws ? PyList_New(size) : NULL;
    for (Py_ssize_t n = 0; out && n < size; n++) {
        PyObject *raw = PyTuple_GetItem(raws, n), *record = NULL;
        char *at;
        Py_ssize_t bytes;
        if (PyBytes_AsStringAndSize(raw, &at, &bytes) == 0)
            record = record_of((Reader *)object, &shared, (Slice){(const uint8_t *)at, (size_t)bytes});
        if (!record || PyList_SetItem(out, n, record) < 0) Py_CLEAR(out);
    }
    Py_XDECREF(shared.trace);
    Py_XDECREF(shared.parent);
    Py_XDECREF(raws);
    return out;
}

static int forget(PyObject *object) {
    Reader *self = (Reader *)object;
    for (int n = 0; n < LAYOUTS; n++) {
        Layout *layout = self->layouts[n];
        self->layouts[n] = NULL;
        drop_layout(layout);
    }
    for (int n = 0; n < FUNCTIONS; n++) Py_CLEAR(self->functions[n]);
    for (int n = 0; n < 3; n++) Py_CLEAR(self->statuses[n]);
    Py_CLEAR(self->encoding);
    Py_CLEAR(self->empty);
    return 0;
}

static void destroy(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    forget(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* Reader(record, learner, owner, filed, column, preview, call_hash, failed_answer, counts, amount, taken, version) */
static PyObject *create(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyTypeObject *tuple = &PyTuple_Type;
    if (kwargs || PyTuple_Size(args) != FUNCTIONS || !PyType_Check(PyTuple_GetItem(args, 0)) ||
        !PyType_IsSubtype((PyTypeObject *)PyTuple_GetItem(args, 0), tuple)) {
        PyErr_SetString(PyExc_TypeError, "a Reader takes the type of records and the functions that decide");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Reader *self = (Reader *)allocate(type, 0);
    if (!self) return NULL;
    for (int n = 0; n < FUNCTIONS; n++) self->functions[n] = Py_NewRef(PyTuple_GetItem(args, n));
    self->statuses[0] = PyUnicode_InternFromString("unset");
    self->statuses[1] = PyUnicode_InternFromString("ok");
    self->encoding = PyUnicode_InternFromString("otlp");
    self->empty = PyTuple_New(0);
    if (self->statuses[0] && self->statuses[1] && self->encoding && self->empty) return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static PyMethodDef reader_methods[] = {
    {"records", (PyCFunction)(void (*)(void))records, METH_FASTCALL,
     "records(raws, owner, before_scope, before_span, limits, span_bytes) -> list: the record of each plain span; None for the rest."},
    {NULL, NULL, 0, NULL},
};

PyObject *make_reader_type(PyObject *module) {
    static PyType_Slot slots[] = {
        {Py_tp_new, (void *)create},
        {Py_tp_dealloc, (void *)destroy},
        {Py_tp_methods, reader_methods},
        {Py_tp_doc, "Reads plain spans, and keeps what it learned about those it met."},
        {0, NULL},
    };
    static PyType_Spec spec = {"leyden_native._decoder.Reader", sizeof(Reader), 0, Py_TPFLAGS_DEFAULT, slots};
    return PyType_FromModuleAndSpec(module, &spec, NULL);
}
