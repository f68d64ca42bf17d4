"""The estimate of a request's tokens."""

from leyden.gateway.translate import estimate_tokens


def test_a_token_is_about_four_bytes_of_what_the_model_reads() -> None:
    assert estimate_tokens({}) == 1
    assert estimate_tokens({"system": "x" * 400, "messages": [{"role": "user", "content": "x" * 400}]}) == 204
    schema = {"type": "object", "properties": {"path": {"type": "string", "description": "x" * 400}}}
    assert 100 < estimate_tokens({"tools": [{"name": "read", "input_schema": schema}]}) < 140


def test_an_image_counts_as_one_however_long_its_bytes_are() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 1_000_000}
    message = {"role": "user", "content": [{"type": "image", "source": source}]}
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    assert estimate_tokens({"messages": [message]}) == 1604
    assert estimate_tokens({"messages": [{"role": "user", "content": [part]}]}) == 1604
