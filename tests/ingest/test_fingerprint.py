import time

import pytest

from leyden.ingest.fingerprint import call_hash, error_fingerprint, template


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "PageDownTool.forward() got an unexpected keyword argument ''",
            "PageDownTool.forward() got an unexpected keyword argument 'page_down'",
        ),
        (
            "Error: flight HAT030 not available on date 2024-05-13",
            "Error: flight HAT229 not available on date 2024-06-01",
        ),
        ("paid 305, owed 255", "paid 12.50, owed 1,900"),
        ("Rate limit; retry in 1.2s", "Rate limit; retry in 900ms"),
        ("No such file: /tmp/a/b.txt", "No such file: /home/someone/c.csv"),
        (
            "user 3f2b8c1d-aaaa-4bbb-8ccc-1234567890ab is gone",
            "user 99999999-aaaa-4bbb-8ccc-1234567890ab is gone",
        ),
        ("object at 0x7f001122", "object at 0xdeadbeef"),
        ("bad arguments {'a': 1, 'b': {'c': 2}}", "bad arguments {'x': []}"),
        ("GET https://a.example/x?y=1 failed", "GET http://b.example/ failed"),
        (
            'Traceback (most recent call last):\n  File "/a/b.py", line 3, in f\nKeyError: 12',
            'Traceback (most recent call last):\n  File "/c/d.py", line 99, in g\n  more\nKeyError: 77',
        ),
    ],
)
def test_messages_that_differ_in_what_varies_share_a_template(one, other):
    assert template(one) == template(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "PageDownTool.forward() got an unexpected keyword argument ''",
            "PageUpTool.forward() got an unexpected keyword argument ''",
        ),
        ("Unknown tool: page_down", "Unknown tool: page_up"),
        ("user not found", "order not found"),
        ("can't find the user's file", "can't find the user's folder"),
    ],
)
def test_messages_with_different_causes_keep_different_templates(one, other):
    assert template(one) != template(other)


def test_a_fingerprint_tells_tools_and_error_classes_apart_but_not_where_a_class_lives():
    base = error_fingerprint("search", "openai.RateLimitError", "slow down")
    assert base == error_fingerprint("search", "RateLimitError", "slow down")
    assert base != error_fingerprint("fetch", "RateLimitError", "slow down")
    assert base != error_fingerprint("search", "TimeoutError", "slow down")
    assert len(base) == 16


def test_equal_calls_share_a_hash_whatever_the_order_or_encoding_of_arguments():
    assert call_hash("f", '{"b": 1, "a": [2]}') == call_hash("f", {"a": [2], "b": 1})
    assert call_hash("f", '{"a": 1}') != call_hash("f", '{"a": 2}')
    assert call_hash("f", '{"a": 1}') != call_hash("g", '{"a": 1}')
    assert call_hash("f", "not json ") == call_hash("f", "not json")


@pytest.mark.parametrize(
    "piece", ["a", "'", '"', "/a", "{", "[,", "a1", "_", "1,", "1.1", "a.b", "a-", "a@", "a ", "' "]
)
def test_no_message_takes_long_to_normalise(piece):
    message = piece * 5000
    start = time.process_time()
    template(message)
    assert time.process_time() - start < 0.1
