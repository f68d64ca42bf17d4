"""The HTTP contract: committed as the code has it, complete, and held by the server whatever is sent."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.openapi import FILE, contract

from conftest import serving
from leyden.server.app import HOT
from leyden.server.hot import ATTEMPT
from leyden.settings import Settings

SECONDS = 20


def committed() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def test_the_committed_contract_is_what_the_code_serves() -> None:
    assert FILE.read_text() == contract(), "run make openapi"


def test_the_contract_names_every_hot_route_and_what_it_takes() -> None:
    paths = committed()["paths"]
    for method, path in HOT:
        path = path.replace(ATTEMPT, "/v1/agl/rollouts/{rollout_id}/attempts/{attempt_id}")
        operation = paths[path][method.lower()]
        assert method == "GET" or "requestBody" in operation, path


def test_every_post_says_what_it_takes() -> None:
    silent = [
        path
        for path, operations in committed()["paths"].items()
        if "post" in operations and "requestBody" not in operations["post"]
    ]
    assert silent == []


def test_nothing_that_is_sent_ends_in_a_server_error(settings: Settings, tmp_path: Path) -> None:
    """Schemathesis: requests that fit the contract and requests that do not, each route alone and in sequence."""
    with serving(replace(settings, max_wait_s=0.1)) as url:
        run = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"), "run", FILE, "--url", url, "--checks", "not_a_server_error",
                "--max-time", str(SECONDS), "--suppress-health-check", "all", "--warnings", "off", "--seed", "1", "--no-color",
                "--exclude-path", "/api/events",  # a stream has no end
                "--exclude-path", "/api/import",  # lines of JSON, which it cannot write
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:]
