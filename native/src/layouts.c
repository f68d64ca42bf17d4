/* What is kept about spans: for each sequence of keys, which values count, and what a span of those values is about. */
#include "layouts.h"

/* ── What is kept ── */

void drop_answer(Answer *answer) {
    if (!answer || --answer->refs) return;
    PyObject *const held[] = {answer->title, answer->kind,  answer->agent,  answer->tool,
                              answer->provider, answer->model, answer->spoken, answer->dialect};
    for (size_t n = 0; n < sizeof held / sizeof *held; n++) Py_XDECREF(held[n]);
    PyMem_Free(answer->key);
    PyMem_Free(answer);
}

static void forget_answers(Layout *layout) {
    for (int n = 0; n < ANSWERS; n++) {
        Answer *answer = layout->answers[n];
        layout->answers[n] = NULL;
        drop_answer(answer);
    }
}

void drop_layout(Layout *layout) {
    if (!layout || --layout->refs) return;
    forget_answers(layout);
    Py_XDECREF(layout->names);
    Py_XDECREF(layout->learner);
    PyMem_Free(layout->keys);
    PyMem_Free(layout);
}

static uint64_t mixed(uint64_t hash, Slice slice) {
    hash ^= slice.size * 0x9E3779B97F4A7C15u;
    size_t n = 0;
    for (; n + 8 <= slice.size; n += 8) {
        uint64_t eight;
        memcpy(&eight, slice.at + n, 8);
        hash = (hash ^ eight) * 0xD6E8FEB86659FD93u;
        hash ^= hash >> 32;
    }
    for (; n < slice.size; n++) hash = (hash ^ slice.at[n]) * 0x100000001B3u;
    return hash ^ hash >> 29;
}

/* Appends a slice with its length before it, so that two lists of slices are equal when their bytes are. */
static size_t appended(uint8_t *out, Slice slice) {
    uint32_t size = (uint32_t)slice.size;
    memcpy(out, &size, 4);
    if (size) memcpy(out + 4, slice.at, size);
    return 4 + slice.size;
}

static bool has_keys(const Layout *layout, uint64_t hash, const Span *span) {
    if (!layout || layout->hash != hash) return false;
    const uint8_t *at = layout->keys, *end = layout->keys + layout->size;
    for (int n = 0; n < span->pair_count; n++) {
        Slice key = span->pairs[n].key;
        uint32_t size;
        if (at == end) return false;
        memcpy(&size, at, 4);
        if (size != key.size || memcmp(at + 4, key.at, size)) return false;
        at += 4 + size;
    }
    return at == end;
}

PyObject *text_of(Slice slice) {
    return PyUnicode_DecodeUTF8((const char *)slice.at, (Py_ssize_t)slice.size, "replace");
}

static void find_owner_keys(Layout *layout, const Span *span) {
    static const char *const keys[] = {"agentlightning.rollout_id", "agentlightning.attempt_id",
                                       "agentlightning.span_sequence_id"};
    for (int k = 0; k < 3; k++) {
        layout->owner_at[k] = -1;
        for (int n = 0; n < span->pair_count; n++)
            if (same(span->pairs[n].key, (Slice){(const uint8_t *)keys[k], strlen(keys[k])})) layout->owner_at[k] = n;
        if (layout->owner_at[k] >= 0) layout->names_owner = true;
    }
}

static PyObject *names_of(const Span *span) {
    PyObject *names = PyTuple_New(span->pair_count);
    for (int n = 0; names && n < span->pair_count; n++) {
        PyObject *name = text_of(span->pairs[n].key);
        if (!name || PyTuple_SetItem(names, n, name) < 0) Py_CLEAR(names);
    }
    return names;
}

/* A layout met for the first time. `learner` is None when spans of these keys are never plain. */
static Layout *new_layout(Reader *self, const Span *span, uint64_t hash, size_t size) {
    Layout *layout = PyMem_Calloc(1, sizeof(Layout));
    if (!layout) return (Layout *)PyErr_NoMemory();
    layout->refs = 1;
    layout->hash = hash;
    layout->pair_count = span->pair_count;
    layout->keys = PyMem_Malloc(size ? size : 1);
    if (!layout->keys) {
        drop_layout(layout);
        return (Layout *)PyErr_NoMemory();
    }
    for (int n = 0; n < span->pair_count; n++) layout->size += appended(layout->keys + layout->size, span->pairs[n].key);
    find_owner_keys(layout, span);
    layout->names = names_of(span);
    if (layout->names) layout->learner = PyObject_CallFunctionObjArgs(self->functions[LEARNER], layout->names, NULL);
    if (!layout->learner) {
        drop_layout(layout);
        return NULL;
    }
    return layout;
}

/* The layout of a span, held until it is dropped; NULL without an error when the span has keys that are not kept. */
Layout *layout_of(Reader *self, const Span *span) {
    uint64_t hash = (uint64_t)span->pair_count;
    size_t size = 0;
    for (int n = 0; n < span->pair_count; n++) {
        hash = mixed(hash, span->pairs[n].key);
        size += span->pairs[n].key.size;
    }
    if (size > KEY_BYTES) return NULL;
    Layout **slot = &self->layouts[hash % LAYOUTS];
    if (!has_keys(*slot, hash, span)) {
        Layout *made = new_layout(self, span, hash, size + 4 * (size_t)span->pair_count);
        if (!made) return NULL;
        Layout *old = *slot;
        *slot = made;
        drop_layout(old);
    }
    (*slot)->refs++;
    return *slot;
}

/* ── Values ── */

static PyObject *list_of(Slice raw) {
    PyObject *list = PyList_New(0);
    Input in = input_of(raw);
    Field field;
    Pair item;
    while (list && in.at < in.end && read_field(&in, &field) && read_value(field.held, &item, 0)) {
        PyObject *value = value_of(&item);
        if (!value || PyList_Append(list, value) < 0) Py_CLEAR(list);
        Py_XDECREF(value);
    }
    return list;
}

static PyObject *map_of(Slice raw) {
    PyObject *map = PyDict_New();
    Input in = input_of(raw);
    Field field;
    Pair item;
    while (map && in.at < in.end && read_field(&in, &field) && read_pair(field.held, &item, 0)) {
        PyObject *key = text_of(item.key), *value = key ? value_of(&item) : NULL;
        if (!value || PyDict_SetItem(map, key, value) < 0) Py_CLEAR(map);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return map;
}

/* A value in Python. Lists and maps were looked through when their span was read. */
PyObject *value_of(const Pair *pair) {
    double number;
    switch (pair->type) {
    case STRING: return text_of(pair->value);
    case BOOL: return PyBool_FromLong(pair->bits != 0);
    case INT: return PyLong_FromLongLong((long long)(int64_t)pair->bits);
    case DOUBLE: memcpy(&number, &pair->bits, 8); return PyFloat_FromDouble(number);
    case LIST: return list_of(pair->value);
    case MAP: return map_of(pair->value);
    case BYTES: return PyBytes_FromStringAndSize((const char *)pair->value.at, (Py_ssize_t)pair->value.size);
    default: return Py_NewRef(Py_None);
    }
}

static PyObject *attributes_of(const Layout *layout, const Span *span) {
    PyObject *attributes = PyDict_New();
    for (int n = 0; attributes && n < span->pair_count; n++) {
        PyObject *value = value_of(&span->pairs[n]);
        if (!value || PyDict_SetItem(attributes, PyTuple_GetItem(layout->names, n), value) < 0) Py_CLEAR(attributes);
        Py_XDECREF(value);
    }
    return attributes;
}

/* ── What a span is about ── */

/* The numbers of a tuple, each where an attribute stands, of at most `most`; their count, or −1 with an error. */
static int read_numbers(PyObject *listed, uint8_t *out, int most, int pair_count) {
    Py_ssize_t count = PyTuple_Check(listed) ? PyTuple_Size(listed) : -1;
    for (Py_ssize_t n = 0; n < count && count <= most; n++) {
        long at = PyLong_AsLong(PyTuple_GetItem(listed, n));
        if (at < 0 || at >= pair_count) count = -1;
        else out[n] = (uint8_t)at;
    }
    if (count >= 0 && count <= most) return (int)count;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a learner named attributes that are not there");
    return -1;
}

/* An answer out of what a learner said: None, or (title, kind, agent, tool, provider, model, spoken, dialect, is_tool, is_call,
   includes_cache, needs_both, places of each column). */
static Answer *answer_from(PyObject *told, int pair_count) {
    Answer *answer = PyMem_Calloc(1, sizeof(Answer));
    if (!answer) return (Answer *)PyErr_NoMemory();
    answer->refs = 1;
    if (told == Py_None) return answer;
    PyObject **const held[] = {&answer->title, &answer->kind,  &answer->agent,  &answer->tool,
                               &answer->provider, &answer->model, &answer->spoken, &answer->dialect};
    bool *const facts[] = {&answer->is_tool, &answer->is_call, &answer->includes_cache, &answer->needs_both};
    bool is_right = PyTuple_Check(told) && PyTuple_Size(told) == 12 + COLUMNS;
    for (int n = 0; is_right && n < 8; n++) *held[n] = Py_NewRef(PyTuple_GetItem(told, n));
    for (int n = 0; is_right && n < 4; n++) *facts[n] = PyObject_IsTrue(PyTuple_GetItem(told, 8 + n)) == 1;
    for (int n = 0; is_right && n < COLUMNS; n++) {
        Places *places = &answer->places[n];
        places->count = read_numbers(PyTuple_GetItem(told, 12 + n), places->at, MOST_KEYS, pair_count);
        is_right = places->count >= 0;
    }
    answer->is_plain = true;
    if (is_right) return answer;
    drop_answer(answer);
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a learner answered in another shape");
    return NULL;
}

/* Takes over which keys were read: 1, 0 when another thread has learned more since, −1 with an error. */
static int take_read(Layout *layout, PyObject *listed) {
    uint8_t read[MAX_PAIRS];
    int count = read_numbers(listed, read, MAX_PAIRS, layout->pair_count);
    if (count < layout->read_count) return count < 0 ? -1 : 0;
    if (count > layout->read_count) forget_answers(layout);
    memcpy(layout->read, read, sizeof read);
    layout->read_count = count;
    return 1;
}

static uint64_t answer_hash(const Layout *layout, const Span *span, size_t *size) {
    uint64_t hash = mixed(1, span->name);
    *size = 4 + span->name.size;
    for (int n = 0; n < layout->read_count; n++) {
        Slice told = span->pairs[layout->read[n]].told;
        hash = mixed(hash, told);
        *size += 4 + told.size;
    }
    return hash;
}

static bool is_answer(const Answer *answer, uint64_t hash, size_t size, const Layout *layout, const Span *span) {
    if (!answer || answer->hash != hash || answer->size != size) return false;
    const uint8_t *at = answer->key;
    for (int n = -1; n < layout->read_count; n++) {
        Slice told = n < 0 ? span->name : span->pairs[layout->read[n]].told;
        uint32_t kept;
        memcpy(&kept, at, 4);
        if (kept != told.size || (kept && memcmp(at + 4, told.at, kept))) return false;
        at += 4 + kept;
    }
    return true;
}

static void keep_answer(Layout *layout, const Span *span, Answer *answer) {
    size_t size;
    uint64_t hash = answer_hash(layout, span, &size);
    if (size > KEPT_BYTES || !(answer->key = PyMem_Malloc(size))) return;
    answer->hash = hash;
    answer->size = size;
    uint8_t *at = answer->key + appended(answer->key, span->name);
    for (int n = 0; n < layout->read_count; n++) at += appended(at, span->pairs[layout->read[n]].told);
    Answer **slot = &layout->answers[hash % ANSWERS], *old = *slot;
    answer->refs++;
    *slot = answer;
    drop_answer(old);
}

static Answer *learned(Layout *layout, const Span *span) {
    PyObject *attributes = attributes_of(layout, span), *name = text_of(span->name), *told = NULL;
    Answer *answer = NULL;
    if (attributes && name) told = PyObject_CallFunctionObjArgs(layout->learner, attributes, name, NULL);
    if (told && !(PyTuple_Check(told) && PyTuple_Size(told) == 2))
        PyErr_SetString(PyExc_TypeError, "a learner answers with two things");
    else if (told)
        answer = answer_from(PyTuple_GetItem(told, 0), layout->pair_count);
    if (answer) {
        int taken = take_read(layout, PyTuple_GetItem(told, 1));
        if (taken == 1) keep_answer(layout, span, answer);
        if (taken < 0) {
            drop_answer(answer);
            answer = NULL;
        }
    }
    Py_XDECREF(attributes);
    Py_XDECREF(name);
    Py_XDECREF(told);
    return answer;
}

/* What a span is about, held until it is dropped; NULL with an error. */
Answer *answer_of(Layout *layout, const Span *span) {
    size_t size;
    uint64_t hash = answer_hash(layout, span, &size);
    Answer *kept = layout->answers[hash % ANSWERS];
    if (!is_answer(kept, hash, size, layout, span)) return learned(layout, span);
    kept->refs++;
    return kept;
}
