"""`LLM` and `ProxyLLM` as Agent Lightning 0.3 documents them."""

import logging

import pytest

from leyden import agl
from leyden.sdk.client import Client


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:4000", "http://h:4000/rollout/ro-1/attempt/at-1"),
        ("http://h:4000/", "http://h:4000/rollout/ro-1/attempt/at-1"),
        ("http://h:4000/v1", "http://h:4000/rollout/ro-1/attempt/at-1/v1"),
        ("http://h:4000/v1/", "http://h:4000/rollout/ro-1/attempt/at-1/v1"),
        ("http://h/base/v1", "http://h/base/rollout/ro-1/attempt/at-1/v1"),
    ],
)
def test_a_proxys_address_names_the_attempt_and_keeps_its_version(endpoint: str, url: str) -> None:
    assert agl.ProxyLLM(endpoint=endpoint, model="m").get_base_url("ro-1", "at-1") == url


def test_without_ids_the_address_is_the_endpoint_and_with_one_it_is_an_error() -> None:
    proxy = agl.ProxyLLM(endpoint="http://h/v1/", model="m")
    assert proxy.get_base_url(None, None) == "http://h/v1/"
    with pytest.raises(ValueError, match="belong together"):
        proxy.get_base_url("ro-1", None)


def test_reading_a_proxys_endpoint_warns(caplog: pytest.LogCaptureFixture) -> None:
    proxy = agl.ProxyLLM(endpoint="http://h", model="m")
    proxy.get_base_url("ro-1", "at-1")
    assert caplog.records == []
    with caplog.at_level(logging.WARNING):
        assert proxy.endpoint == "http://h"
    assert "get_base_url" in caplog.text


def test_an_llm_has_one_address_for_everybody() -> None:
    assert agl.LLM(endpoint="http://h/v1", model="m").get_base_url("ro-1", "at-1") == "http://h/v1"


def test_a_proxy_becomes_the_llm_of_a_claimed_rollout(client: Client) -> None:
    proxy = agl.ProxyLLM(endpoint="http://h/v1", model="m", sampling_parameters={"temperature": 0.5})
    rollout = client.start_rollout("task")
    llm = proxy.with_attempted_rollout(rollout)
    assert type(llm) is agl.LLM
    assert llm.endpoint == proxy.get_base_url(rollout.rollout_id, rollout.attempt.attempt_id)
    assert (llm.model, llm.sampling_parameters) == ("m", {"temperature": 0.5})


def test_they_are_stored_and_read_as_the_stores_resources(client: Client) -> None:
    made = client.add_resources({"main": agl.ProxyLLM(endpoint="http://h", model="m")})
    assert made.resources["main"].resource_type == "proxy_llm"
    assert agl.ProxyLLM.model_validate(made.resources["main"].model_dump()).get_base_url() == "http://h"
