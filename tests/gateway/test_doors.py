"""Which paths are doors, and what they say about whose call it is."""

import pytest

from leyden.gateway.doors import Address, find

CHAT = Address("chat", "openai", "/chat/completions")
UNDER = CHAT._replace(rollout_id="ro-1", attempt_id="at-1")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/chat/completions", CHAT),
        ("POST", "/v1/completions", Address("completions", "openai", "/completions")),
        ("POST", "/v1/responses", Address("responses", "openai", "/responses")),
        ("POST", "/v1/embeddings", Address("embeddings", "openai", "/embeddings")),
        ("POST", "/v1/messages", Address("messages", "anthropic", "/messages")),
        ("POST", "/v1/messages/count_tokens", Address("count_tokens", "anthropic", "/messages/count_tokens")),
        ("GET", "/v1/models", Address("models", "openai", "/models")),
        ("GET", "/v1/models/org/name", Address("models", "openai", "/models/org/name")),
        ("POST", "/v1/chat/completions/", CHAT),
        ("POST", "/v1/v1/chat/completions", CHAT),
        ("POST", "/chat/completions", CHAT),
        ("POST", "/messages", Address("messages", "anthropic", "/messages")),
        ("POST", "/rollout/a%2541/attempt/at-1/v1/chat/completions", UNDER._replace(rollout_id="a%41")),
        ("POST", "/openai/responses", Address("responses", "openai", "/responses")),
        ("GET", "/openai/models", Address("models", "openai", "/models")),
        ("GET", "/v1/chat/completions", Address("other", "openai", "/chat/completions")),
        ("POST", "/v1/images/generations", Address("other", "openai", "/images/generations")),
        ("DELETE", "/v1/files/file-1", Address("other", "openai", "/files/file-1")),
        ("POST", "/v1/messages/batches", Address("other", "anthropic", "/messages/batches")),
        ("POST", "/openai/files", Address("other", "openai", "/files")),
        (
            "GET",
            "/rollout/ro-1/attempt/at-1/v1/responses/resp_1",
            UNDER._replace(door="other", path="/responses/resp_1"),
        ),
        ("POST", "/rollout/ro-1/attempt/at-1/v1/chat/completions", UNDER),
        ("POST", "/rollout/ro-1/attempt/at-1/chat/completions", UNDER),
        ("POST", "/rollout/ro-1/attempt/at-1/mode/train/v1/chat/completions", UNDER._replace(mode="train")),
        (
            "POST",
            "/rollout/a%2Fb/attempt/%C3%BC/v1/chat/completions",
            CHAT._replace(rollout_id="a/b", attempt_id="ü"),
        ),
        ("POST", "/openai/deployments/gpt-4o/chat/completions", CHAT._replace(model="gpt-4o")),
        ("POST", "/openai/v1/chat/completions", CHAT),
        (
            "POST",
            "/rollout/ro-1/attempt/at-1/openai/deployments/a%20b/chat/completions",
            UNDER._replace(model="a b"),
        ),
    ],
)
def test_a_door_is_found_with_what_its_path_says(method: str, path: str, expected: Address) -> None:
    assert find(method, path) == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models"),
        ("PUT", "/v1/chat/completions"),
        ("OPTIONS", "/v1/files"),
        ("GET", "/v1/organization/usage"),
        ("POST", "/v1/"),
        ("POST", "/v1/traces"),
        ("GET", "/v1/agl/rollouts"),
        ("GET", "/models"),
        ("GET", "/files"),
        ("GET", "/v1/models/../files"),
        ("GET", "/v1/models/..%2F..%2Fadmin"),
        ("GET", "/v1/files/%252e%252e/admin"),
        ("POST", "/rollout/ro-1/attempt/at-1/v1/files/.."),
        ("POST", "/rollout/ro-1/v1/chat/completions"),
        ("POST", "/rollout//attempt/at-1/v1/chat/completions"),
        ("POST", "/rollout/ro-1/attempt/at-1/v2/chat/completions"),
        ("POST", "/openai/deployments//chat/completions"),
        ("POST", "/openai/anything"),
    ],
)
def test_other_paths_are_no_doors(method: str, path: str) -> None:
    assert find(method, path) is None
