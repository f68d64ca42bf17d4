import json
import subprocess
import sys

import leyden

PUBLIC = ["Client", "LeydenError", "__version__", "flush", "init", "reward", "rollout", "shutdown", "trace"]
HEAVY = (
    "fastapi",
    "starlette",
    "uvicorn",
    "sqlalchemy",
    "alembic",
    "msgspec",
    "orjson",
    "google",
    "numpy",
    "torch",
    "grpc",
)


def test_the_public_names_are_these_and_all_load() -> None:
    assert sorted(leyden.__all__) == PUBLIC
    assert dir(leyden) == PUBLIC
    assert all(getattr(leyden, name) is not None for name in PUBLIC)


def modules_after(code: str) -> tuple[float, set[str]]:
    """Seconds of CPU the code takes in a fresh interpreter, and the modules it loads."""
    script = (
        "import sys, time, json; began = time.process_time();"
        f"{code};"
        "print(json.dumps([time.process_time() - began, list(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    took, names = json.loads(done.stdout)
    return took, set(names)


def test_importing_leyden_loads_nothing_else_of_it() -> None:
    _, names = modules_after("import leyden")
    assert {name for name in names if name.startswith("leyden")} == {"leyden"}
    assert "opentelemetry" not in names


def test_the_light_sdk_loads_fast_and_without_server_packages() -> None:
    code = "import leyden; leyden.init, leyden.trace, leyden.rollout, leyden.reward"
    runs = [modules_after(code) for _ in range(3)]
    _, names = runs[0]
    assert not [name for name in names if name.partition(".")[0] in HEAVY]
    assert not [
        name
        for name in names
        if name.startswith(("leyden.server", "leyden.store", "leyden.ingest", "leyden.analysis"))
    ]
    assert "httpx" not in names
    assert "pydantic" not in names
    # CPU seconds, the best of three: what else the machine does is no fault of an import.
    assert min(took for took, _ in runs) < 0.3


def test_the_client_loads_no_server_package() -> None:
    _, names = modules_after("import leyden; leyden.Client('http://127.0.0.1:1')")
    assert not [name for name in names if name.partition(".")[0] in HEAVY]
