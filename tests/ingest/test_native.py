"""The optional decoder in C gives what the Python beside it gives: records, refusals, errors and JSON, on any bytes.

`tests/conftest.py` leaves this file out where `leyden_native` is not installed.
"""

import json
import os
import random
import struct
import subprocess
import sys
from contextlib import contextmanager

import pytest
from bench import spans as bench_spans
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from ingest.otlp_bodies import TRACE, any_value, request
from ingest.test_payload import RICH
from ingest.test_plain import BODIES, SPANS
from leyden.errors import LeydenError
from leyden.ingest import native, wire
from leyden.ingest.filing import Limits
from leyden.ingest.otlp import decode_protobuf
from leyden.ingest.payload import spans_json
from recount import data, trail_spans

RESOURCES = st.sampled_from(
    [
        {"service.name": "shop"},
        {"agentlightning.rollout_id": "ro-1", "agentlightning.attempt_id": "at-1"},
        {"agentlightning.rollout_id": "ro-1", "agentlightning.span_sequence_id": 5},
        {"agentlightning.rollout_id": "a\0"},
    ]
)
LIMITS = st.sampled_from([Limits(), Limits(span_bytes=300), Limits(id_chars=3)])


@contextmanager
def decoder(is_native):
    native.use(is_native)
    try:
        assert native.in_use() == ("native" if is_native else "python")
        yield
    finally:
        native.use(True)


def told(body, limits, is_native):
    """All that a decoder says about a body, with what reads back of it."""
    with decoder(is_native):
        try:
            records, rejected = decode_protobuf(body, limits=limits)
        except LeydenError as error:
            return repr(error), error.message
        rows = [
            (r.payload, r.encoding, r.rollout_id, r.attempt_id, r.sequence_id or n)
            for n, r in enumerate(records)
        ]
        # repr: `nan` equals itself, True is not 1, and a plain tuple is not a record.
        return [repr(record) for record in records], rejected, spans_json(rows)


def check_equal(body, limits=Limits()):  # noqa: B008
    # Twice: the second time, what was learned answers.
    for _ in range(2):
        assert told(body, limits, True) == told(body, limits, False)


@settings(max_examples=200, deadline=None)
@given(BODIES, RESOURCES, LIMITS)
def test_any_spans_give_the_same_records_refusals_and_json(drawn, resource, limits):
    check_equal(request(*drawn, resource=resource).SerializeToString(), limits)


def damaged(body, data):
    """A body with bytes changed, cut out, doubled or put in."""
    body = bytearray(body)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, max(0, len(body) - 1)))
        end = min(len(body), at + data.draw(st.integers(1, 12)))
        new = data.draw(
            st.sampled_from([body[at:end] * 2, b"", b"\xff" * 9, b"\x80\x01", b"\0", b"\x0a\x00"])
        )
        if data.draw(st.booleans()):
            new = bytes([data.draw(st.integers(0, 255))])
            end = at + 1
        body[at:end] = new
    return bytes(body)


@settings(max_examples=250, deadline=None)
@given(st.lists(SPANS, min_size=1, max_size=3), st.data())
def test_a_damaged_request_gives_the_same_answer(drawn, data):
    check_equal(damaged(request(*drawn).SerializeToString(), data))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_the_same_answer(body):
    check_equal(body)


def test_the_load_generators_spans_give_the_same_answer():
    for size in (8, 100):
        for body in bench_spans.bodies(size)[:3]:
            check_equal(body.fresh(b"ro-000000000001", b"at-00000001"))


def test_real_requests_give_the_same_answer_however_they_are_damaged():
    rng = random.Random(7)
    whole = bench_spans.bodies(8)[0].fresh(b"ro-000000000001", b"at-00000001")
    for _ in range(200):
        body = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        check_equal(bytes(body))
    for size in range(0, len(whole), 37):
        check_equal(whole[:size])


def trail_body(path):
    """One recorded run as an OTLP request: its real names, attributes and failures."""
    sent = []
    for span, parent in trail_spans(json.loads(path.read_text())):
        code = {"Error": 2, "Ok": 1}.get(span["status_code"], 0)
        one = {
            "name": span["span_name"],
            "status": (code, span["status_message"]),
            "span_id": bytes.fromhex(span["span_id"]),
        }
        one["attributes"] = span["span_attributes"]
        sent.append(one | ({"parent_span_id": bytes.fromhex(parent)} if parent else {}))
    return request(*sent).SerializeToString()


@pytest.mark.parametrize("split", ["GAIA", "SWE_Bench"])
def test_recorded_runs_give_the_same_answer(split):
    for path in sorted(data("trail", "data", split).glob("*.json"))[:12]:
        check_equal(trail_body(path))


def test_a_rich_span_gives_the_same_answer():
    check_equal(
        request(RICH, resource={"service.name": "shop", "pid": 5, "list": [1, "é"]}).SerializeToString()
    )


FIELDS = st.one_of(
    st.builds(
        lambda n, v: bytes([n << 3]) + v,
        st.integers(0, 15),
        st.sampled_from([b"\0", b"\x01", b"\xff" * 9 + b"\x01"]),
    ),
    st.builds(lambda n, v: bytes([n << 3 | 2, len(v)]) + v, st.integers(0, 15), st.binary(max_size=20)),
    st.builds(lambda n, v: bytes([n << 3 | 1]) + v, st.integers(0, 15), st.binary(min_size=8, max_size=8)),
    st.sampled_from(
        [
            b"\x85\x01\0\0\0\0",
            b"\x0b\x0c",
            b"\x7a\x02\x18\x02",
            b"\x4a\x04\x12\x02\x0a\x00",
            b"\x8a\x80\x80\x80\x80\x00\x00",
        ]
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(FIELDS, max_size=6), SPANS)
def test_fields_in_any_order_twice_or_unknown_give_the_same_answer(fields, drawn):
    sent = request(drawn)
    raw = sent.resource_spans[0].scope_spans[0].spans[0].SerializeToString() + b"".join(fields)

    def held(tag, content):
        return tag + wire.length(len(content)) + content

    check_equal(
        held(b"\x0a", held(b"\x12", held(b"\x12", raw) + b"".join(fields[:1])) + b"".join(fields[1:2]))
    )


NUMBERS = st.one_of(
    st.floats(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(1e-7, 1e-3),
    st.floats(1e14, 1e18),
    st.integers(-(10**17), 10**17).map(float),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(NUMBERS, max_size=8), st.text(max_size=40), st.binary(max_size=12))
def test_numbers_and_texts_read_back_the_same(numbers, text, raw):
    sent = request(
        {"name": text, "attributes": {"n": numbers, text: text, "raw": raw, "map": {text: numbers}}}
    )
    check_equal(sent.SerializeToString())
    # A text that is no UTF-8, which the official encoder refuses to write.
    check_equal(request({"name": "X" * len(raw)}).SerializeToString().replace(b"X" * len(raw), raw))


def test_a_million_times_read_back_the_same():
    rng = random.Random(3)
    base = 1_795_209_773_772_000_001
    payload = request({"attributes": {}}).SerializeToString()
    mark = struct.pack("<Q", base)
    assert payload.count(mark) == 1
    for spread in (10**3, 10**9, 4 * 10**17, 2**63):
        some = [
            rng.randrange(1, spread) if spread == 2**63 else base - spread // 2 + rng.randrange(spread)
            for _ in range(3000)
        ]
        some += [ns // 10**k * 10**k for ns in some for k in (3, 6, 7, 9)]
        rows = [(payload.replace(mark, struct.pack("<Q", ns)), "otlp", "ro-1", "at-1", 1) for ns in some]
        with decoder(False):
            wanted = spans_json(rows)
        assert spans_json(rows) == wanted


def test_values_nested_deeper_than_c_looks_give_the_same_answer():
    value = "end"
    for depth in range(40):
        value = [value] if depth % 2 else {"k": value}
        check_equal(
            request({"attributes": {"gen_ai.input.messages": value, "deep": value}}).SerializeToString()
        )


def test_attributes_sent_twice_or_many_give_the_same_answer():
    sent = TracesData.FromString(
        request({"attributes": {f"k{n}": n for n in range(60)}}, {}).SerializeToString()
    )
    twice = sent.resource_spans[0].scope_spans[0].spans[1]
    for value in ("a", 2, "c"):
        twice.attributes.add(key="same").value.CopyFrom(any_value(value))
    sent.resource_spans[0].resource.attributes.add(key="service.name").value.CopyFrom(any_value("later"))
    check_equal(sent.SerializeToString())


def test_more_layouts_and_names_than_are_kept_give_the_same_answer():
    for n in range(600):
        check_equal(
            request(
                {
                    "name": f"chat {n % 97}",
                    "attributes": {f"k{n % 300}": "v", "gen_ai.operation.name": "chat"},
                }
            ).SerializeToString()
        )


def test_switched_off_python_reads_everything():
    code = (
        "from leyden.server.app import create_app; from leyden.settings import Settings; from leyden.ingest import native;"
        "app = create_app(Settings.from_env(db=':memory:')); print(native.in_use())"
    )
    for value, wanted in (("0", "python"), ("1", "native")):
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**_env(), "LEYDEN_NATIVE": value},
        )
        assert run.stdout.strip() == wanted


def _env():
    return {**os.environ, "PYTHONPATH": ":".join(sys.path)}


def test_arguments_of_another_shape_are_refused():
    import leyden_native

    for rows in ((), [1], [()], [(b"", "otlp", "ro-1", "at-1")], [("", "otlp", "ro-1", "at-1", 1)]):
        with pytest.raises(TypeError):
            leyden_native.spans_json(rows)
    for given_ in ((), (tuple,), (int, *range(11))):
        with pytest.raises(TypeError):
            leyden_native.Reader(*given_)
    assert native.reader is not None
    owner = (None, None, None)
    for arguments in (
        ([1], owner, b"", b"", None, 9),
        ([], (1,), b"", b"", None, 9),
        ([], owner, "", b"", None, 9),
        ([], owner),
    ):
        with pytest.raises(TypeError):
            native.reader.records(*arguments)
    assert native.reader.records([TRACE], owner, b"", b"", None, 9) == [None]
