/* Spans and attributes as every encoder writes them, read without a copy. */
#include "native.h"

static bool are_values(Slice raw, int depth) {
    Input in = input_of(raw);
    Field field;
    Pair item;
    while (in.at < in.end) {
        if (!read_field(&in, &field) || field.number != 1 || field.wire != 2) return false;
        if (!read_value(field.held, &item, depth)) return false;
    }
    return true;
}

static bool are_pairs(Slice raw, int depth) {
    Input in = input_of(raw);
    Field field;
    Pair item;
    while (in.at < in.end) {
        if (!read_field(&in, &field) || field.number != 1 || field.wire != 2) return false;
        if (!read_pair(field.held, &item, depth)) return false;
    }
    return true;
}

/* The value in an AnyValue: nothing, or one field that fills it. Lists and maps are looked through to their ends. */
bool read_value(Slice raw, Pair *out, int depth) {
    static const uint8_t wires[8] = {9, 2, 0, 0, 1, 2, 2, 2};
    out->type = NONE;
    out->value = (Slice){raw.at, 0};
    out->bits = 0;
    if (raw.size == 0) return true;
    Input in = input_of(raw);
    Field field;
    if (!read_field(&in, &field) || in.at != in.end || field.number > 7 || field.wire != wires[field.number])
        return false;
    out->type = (int)field.number;
    if (field.wire == 2)
        out->value = field.held;
    else
        out->bits = field.bits;
    if (out->type != LIST && out->type != MAP) return true;
    if (depth >= MAX_DEPTH) return false;
    return out->type == LIST ? are_values(field.held, depth + 1) : are_pairs(field.held, depth + 1);
}

/* The key first, then the value; either may be missing. */
bool read_pair(Slice raw, Pair *out, int depth) {
    Input in = input_of(raw);
    Field field;
    Slice value = {raw.at, 0};
    uint32_t last = 0;
    out->key = value;
    out->told = raw;
    while (in.at < in.end) {
        if (!read_field(&in, &field) || field.wire != 2 || field.number <= last || field.number > 2) return false;
        last = field.number;
        if (field.number == 1) {
            out->key = field.held;
            out->told = (Slice){in.at, (size_t)(in.end - in.at)};
        } else {
            value = field.held;
        }
    }
    return read_value(value, out, depth);
}

static bool read_status(Slice raw, Span *out) {
    Input in = input_of(raw);
    Field field;
    unsigned seen = 0;
    while (in.at < in.end) {
        if (!read_field(&in, &field)) return false;
        if (field.number != 2 && field.number != 3) continue;
        if (seen & 1u << field.number || field.wire != (field.number == 2 ? 2u : 0u)) return false;
        seen |= 1u << field.number;
        if (field.number == 2)
            out->message = field.held;
        else
            out->code = (int32_t)(uint32_t)field.bits;
    }
    return true;
}

/* What wire each known field of a span has; 9 for fields nobody here knows, which are skipped. */
static const uint8_t span_wires[16] = {9, 2, 2, 2, 2, 2, 0, 1, 1, 2, 9, 2, 9, 2, 9, 2};

bool read_span(Slice raw, Span *out) {
    const Slice empty = {raw.at, 0};
    Input in = input_of(raw);
    Field field;
    unsigned seen = 0;
    out->trace_id = out->span_id = out->trace_state = out->parent_id = out->name = out->message = empty;
    out->start_ns = out->end_ns = 0;
    out->kind = out->code = out->pair_count = 0;
    out->has_events = out->has_links = false;
    while (in.at < in.end) {
        if (!read_field(&in, &field)) return false;
        if (field.number > 15 || span_wires[field.number] == 9) continue;
        if (field.wire != span_wires[field.number]) return false;
        if (field.number == 9) {
            if (out->pair_count == MAX_PAIRS || !read_pair(field.held, &out->pairs[out->pair_count++], 0)) return false;
            continue;
        }
        if (field.number == 11) {
            out->has_events = true;
            continue;
        }
        if (field.number == 13) {
            out->has_links = true;
            continue;
        }
        if (seen & 1u << field.number) return false;
        seen |= 1u << field.number;
        switch (field.number) {
        case 1: out->trace_id = field.held; break;
        case 2: out->span_id = field.held; break;
        case 3: out->trace_state = field.held; break;
        case 4: out->parent_id = field.held; break;
        case 5: out->name = field.held; break;
        case 6: out->kind = (int32_t)(uint32_t)field.bits; break;
        case 7: out->start_ns = field.bits; break;
        case 8: out->end_ns = field.bits; break;
        case 15:
            if (!read_status(field.held, out)) return false;
            break;
        }
    }
    return true;
}

bool is_ascii(const uint8_t *at, size_t size) {
    uint64_t eight, all = 0;
    size_t n = 0;
    for (; n + 8 <= size; n += 8) {
        memcpy(&eight, at + n, 8);
        all |= eight;
    }
    for (; n < size; n++) all |= at[n];
    return !(all & 0x8080808080808080u);
}
