"""Writes openapi.json, the HTTP contract, from the code.

`python scripts/openapi.py` writes; tests/server/test_openapi.py compares, so the contract is never older than the routes.
"""

import json
from pathlib import Path

from leyden.server.app import create_app
from leyden.settings import Settings

FILE = Path(__file__).parent.parent / "openapi.json"


def contract() -> str:
    """The document as it is committed."""
    server = create_app(Settings(db=":memory:"))
    try:
        return json.dumps(server.api.openapi(), indent=1, sort_keys=True) + "\n"
    finally:
        server.context.store.close()


if __name__ == "__main__":
    FILE.write_text(contract())
    print(FILE)
