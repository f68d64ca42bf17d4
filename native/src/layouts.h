/* What the reader of records keeps about the spans it has met: see layouts.c. */
#ifndef LEYDEN_LAYOUTS_H
#define LEYDEN_LAYOUTS_H

#include "native.h"

enum { LAYOUTS = 256, ANSWERS = 64, KEPT_BYTES = 512, KEY_BYTES = 2048, MOST_KEYS = 16 };
enum { PREVIEW_CHARS = 200, NAME_CHARS = 256, FIELDS = 35 };
#define MAX_COUNT ((int64_t)1 << 53)

/* Where the attributes stand that fill one column, in order of precedence. */
typedef struct {
    int count;
    uint8_t at[MOST_KEYS];
} Places;

enum { SESSION, SAID, ANSWERED, SENT, OUTPUT, READ, WRITTEN, REASONING, COST, TTFT, COLUMNS };

/* What a span is about: the texts that are the same for every span with these values, and where the rest stands. */
typedef struct {
    int refs;
    uint64_t hash;
    size_t size;
    uint8_t *key;
    bool is_plain, is_tool, is_call, includes_cache, needs_both;
    PyObject *title, *kind, *agent, *tool, *provider, *model, *spoken, *dialect;
    Places places[COLUMNS];
} Answer;

/* One sequence of keys. `learner` decides; `read` are the keys that it asked for so far. */
typedef struct {
    int refs;
    uint64_t hash;
    size_t size;
    uint8_t *keys;
    PyObject *names, *learner;
    int owner_at[3];
    bool names_owner;
    int pair_count, read_count;
    uint8_t read[MAX_PAIRS];
    Answer *answers[ANSWERS];
} Layout;

enum { RECORD, LEARNER, OWNER, FILED, COLUMN, PREVIEW, CALL_HASH, FAILED_ANSWER, COUNTS, AMOUNT, TAKEN, VERSION, FUNCTIONS };

typedef struct {
    PyObject_HEAD
    PyObject *functions[FUNCTIONS];
    PyObject *statuses[3], *encoding, *empty;
    Layout *layouts[LAYOUTS];
} Reader;

Layout *layout_of(Reader *self, const Span *span);
Answer *answer_of(Layout *layout, const Span *span);
void drop_layout(Layout *layout);
void drop_answer(Answer *answer);
PyObject *text_of(Slice slice);
PyObject *value_of(const Pair *pair);

#endif
