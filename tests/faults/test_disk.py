"""A database that is locked, full, foreign, unreachable or gone: one clear answer, nothing half-written, and on when it is over."""

import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from faults.conftest import problems
from faults.processes import leyden, until
from leyden.server.app import create_app
from leyden.settings import Settings
from leyden.store.opening import open_store
from server.test_store_protocol import SPAN


def serving(settings: Settings) -> TestClient:
    return TestClient(create_app(settings), raise_server_exceptions=False)


def spans_of(http: TestClient) -> int:
    return http.get("/api/info").json()["counts"]["spans"]


# ── Full ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class SmallDisk:
    """A folder on a file system of its own, small enough to fill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, http: TestClient) -> None:
        with open(self.folder / "filler", "wb", buffering=0) as filler:
            for size in (2**20, 4096):
                try:
                    while filler.write(b"\0" * size) == size:
                        pass
                except OSError:
                    continue

    def free(self, http: TestClient) -> None:
        (self.folder / "filler").unlink()


class PageLimit(SmallDisk):
    """The same for those who may not mount: SQLite itself refuses to grow."""

    def fill(self, http: TestClient) -> None:
        self._limit(http, "page_count")

    def free(self, http: TestClient) -> None:
        self._limit(http, "1000000")

    def _limit(self, http: TestClient, pages: str) -> None:
        writer = http.app.context.store.writer  # pyright: ignore[reportAttributeAccessIssue]
        if pages == "page_count":
            pages = writer.run(lambda tx: tx.driver("PRAGMA page_count")[0][0])
        writer.run(lambda tx: tx.driver(f"PRAGMA max_page_count={pages}"))


def mounted(folder: Path, options: str) -> bool:
    """Whether a tmpfs now lies there; only root may, and not in every container."""
    if os.geteuid() != 0:
        return False
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.fixture(params=["disk", "pages"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "small"
    folder.mkdir()
    if request.param == "disk" and mounted(folder, "size=8m"):
        yield SmallDisk(folder)
        subprocess.run(["umount", "-l", folder], check=True)
    else:
        yield PageLimit(folder)


def test_a_full_disk_is_one_clear_answer_and_the_server_goes_on_when_space_returns(
    small_disk: SmallDisk,
) -> None:
    with serving(Settings(db=str(small_disk.folder / "leyden.db"))) as http:
        item = http.post("/v1/agl/rollouts", json={"input": 1}).json()
        ids = {"rollout_id": item["rollout_id"], "attempt_id": item["attempt"]["attempt_id"]}
        big = {"attributes": {"text": "x" * 100_000}}

        def post(number: int, batch: int = 10) -> Any:
            spans = [{**SPAN, **ids, **big, "span_id": f"{number:08x}{n:08x}"} for n in range(batch)]
            return http.post("/v1/agl/spans", json=spans)

        assert post(0).status_code == 201
        small_disk.fill(http)
        # The write-ahead log may still have room from before.
        refused = until(lambda: next((a for n in range(1, 40) if (a := post(n)).status_code != 201), None))
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "store_full")
        assert refused.json()["error"]["message"].startswith("No space left for the database ")
        held = spans_of(http)
        assert held % 10 == 0, "a batch was written in part"
        with http.app.context.store.database.read() as tx:  # pyright: ignore[reportAttributeAccessIssue]
            assert tx.first(sa.text("SELECT count(*) FROM span_payload"))[0] == held
            assert tx.driver("PRAGMA integrity_check") == [("ok",)]
        assert http.get(f"/v1/agl/rollouts/{ids['rollout_id']}").json()["status"] == "running"
        small_disk.free(http)
        until(lambda: post(1000).status_code == 201)
        assert spans_of(http) == held + 10
    with serving(Settings(db=str(small_disk.folder / "leyden.db"))) as http:
        assert spans_of(http) == held + 10
    assert problems(str(small_disk.folder / "leyden.db")) == []


def test_an_exporter_is_told_to_come_back_when_the_disk_is_full(tmp_path: Path) -> None:
    limit = PageLimit(tmp_path)
    with serving(Settings(db=str(tmp_path / "leyden.db"))) as http:
        limit.fill(http)
        span = {
            "traceId": "a" * 32,
            "spanId": "b" * 16,
            "name": "x" * 1_000_000,
            "startTimeUnixNano": "1",
            "endTimeUnixNano": "2",
        }
        answer = http.post("/v1/traces", json={"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "No space left" in answer.json()["message"]
        assert http.get("/api/info").json()["counts"] == {"rollouts": 0, "attempts": 0, "spans": 0}


# ── Locked ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_database_locked_by_another_program_is_a_503_within_the_timeout_for_everybody(
    tmp_path: Path,
) -> None:
    path = tmp_path / "leyden.db"
    with serving(Settings(db=str(path), busy_timeout_s=0.5)) as http:
        body = {"rollouts": [{"input": 1}]}
        assert http.post("/v1/agl/queues/rollouts/enqueue", json=body).status_code == 201
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        answers: list[Any] = []

        def post() -> None:
            answers.append(http.post("/v1/agl/queues/rollouts/enqueue", json=body))

        threads = [threading.Thread(target=post) for _ in range(12)]
        before = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - before
        assert {(a.status_code, a.headers["retry-after"], a.json()["error"]["code"]) for a in answers} == {
            (503, "1", "store_busy")
        }
        assert len(answers) == 12
        # One group waits while the next gathers: two timeouts at most, not one for each request.
        assert took_s < 3
        assert http.get("/v1/agl/rollouts").json()["total"] == 1
        other.execute("ROLLBACK")
        other.close()
        assert http.post("/v1/agl/queues/rollouts/enqueue", json=body).status_code == 201
        assert http.get("/v1/agl/rollouts").json()["total"] == 2


# ── Gone ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def cut_connections(url: str) -> int:
    """End every other connection of the database, as a restart of PostgreSQL does."""
    with psycopg.connect(url, autocommit=True) as admin:
        rows = admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    return len(rows)


def test_a_server_whose_connections_were_cut_writes_and_reads_on(postgres_database: str) -> None:
    with serving(Settings(db=postgres_database)) as http:
        body = {"rollouts": [{"input": 1}]}
        for number in range(1, 4):
            answers = [http.post("/v1/agl/queues/rollouts/enqueue", json=body).status_code for _ in range(2)]
            assert answers[-1] == 201
            assert http.get("/v1/agl/rollouts").json()["total"] >= number
            assert cut_connections(postgres_database) > 0
        assert http.get("/readyz").status_code == 200


def test_a_claim_whose_connection_is_cut_before_the_commit_hands_nothing_out(postgres_database: str) -> None:
    store = open_store(Settings(db=postgres_database))

    def cut(tx: Any) -> None:
        tx.run(sa.text("INSERT INTO project VALUES ('half', 1.0)"))
        cut_connections(postgres_database)
        tx.run(sa.text("INSERT INTO project VALUES ('whole', 1.0)"))

    with pytest.raises(Exception, match="does not answer") as caught:
        store.writer.run(cut)
    assert (caught.value.code, caught.value.status) == ("store_busy", 503)  # pyright: ignore[reportAttributeAccessIssue]
    store.writer.run(lambda tx: tx.run(sa.text("INSERT INTO project VALUES ('after', 1.0)")))
    with store.database.read() as tx:
        assert {row[0] for row in tx.all(sa.text("SELECT name FROM project"))} >= {"after"}
        assert tx.first(sa.text("SELECT 1 FROM project WHERE name = 'half'")) is None
    store.close()


# ── Not ours ─────────────────────────────────────────────────────────────────────────────────────────────────────


def refused(run: subprocess.CompletedProcess[str]) -> str:
    """The one line a person reads, after checking that it is one, with at most a hint under it."""
    lines = run.stderr.splitlines()
    assert (run.returncode, run.stdout) == (1, ""), run.stderr
    assert lines[0].startswith("Error: ")
    assert len(lines) <= 2
    assert "defect" not in run.stderr
    return lines[0]


COMMANDS = [("info",), ("keys", "create", "--name", "x")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize(
    "content", [b"this is a letter, not a database\n" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_told_by_its_name(
    tmp_path: Path, command: tuple[str, ...], content: bytes
) -> None:
    path = tmp_path / "letter.db"
    path.write_bytes(content)
    said = refused(leyden(*command, "--db", str(path)))
    assert str(path) in said
    assert "is not a Leyden database" in said
    assert path.read_bytes() == content


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_a_folder_in_the_place_of_the_database_is_told_by_its_name(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    assert str(tmp_path) in refused(leyden(*command, "--db", str(tmp_path)))


def test_a_file_in_the_place_of_the_folder_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused(
        leyden("keys", "create", "--name", "x", "--db", str(tmp_path / "file" / "x.db"))
    )


def test_a_postgresql_that_does_not_answer_is_told_in_one_line(tmp_path: Path) -> None:
    said = refused(leyden("info", "--db", f"postgresql://me:secret@/nothing?host={tmp_path}"))
    assert "does not answer" in said
    assert "secret" not in said


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[list[Path]]:
    """Databases that cannot be written: one of ours and one to be made, in a read-only folder."""
    folder = tmp_path / "archive"
    folder.mkdir()
    on_tmpfs = mounted(folder, "size=8m")
    if os.geteuid() == 0 and not on_tmpfs:  # root writes everywhere but where the kernel itself refuses
        yield [Path("/proc/new.db")]
        return
    path = folder / "leyden.db"
    with serving(Settings(db=str(path))) as http:
        http.post("/v1/agl/rollouts", json={"input": 1})
    if on_tmpfs:
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    else:
        path.chmod(0o444)
        folder.chmod(0o555)
    yield [path, folder / "new.db"]
    if on_tmpfs:
        subprocess.run(["umount", "-l", folder], check=True)
    else:
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_told_in_one_line(unwritable: list[Path]) -> None:
    for path in unwritable:
        said = refused(leyden("keys", "create", "--name", "x", "--db", str(path)))
        assert str(path) in said
        assert "cannot be written" in said or "cannot be opened" in said
