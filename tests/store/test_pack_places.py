"""Packs outside the database: a directory, and a bucket of a local S3 server."""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from leyden.errors import BadInput, StoreBusy, StoreError
from leyden.settings import Settings
from leyden.store import bucket, pack, payloads, tables
from leyden.store.opening import Store, open_store
from store.conftest import delete
from store.test_packs import NOW, add, begin, count, end, expected, is_due, read


class Place:
    """Somewhere packs may lie: its url, the objects there, and a switch that takes it away."""

    def __init__(self, url: str) -> None:
        self.url = url

    def objects(self) -> list[str]:
        raise NotImplementedError

    def away(self) -> None:
        raise NotImplementedError

    def back(self) -> None:
        raise NotImplementedError


class Folder(Place):
    """A directory; away, a file lies where it was."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path, self._hidden = path, path.with_name("hidden")

    def objects(self) -> list[str]:
        return sorted(f"file://{path}" for path in self._path.rglob("*.zst"))

    def away(self) -> None:
        self._path.mkdir(exist_ok=True)
        self._path.rename(self._hidden)
        self._path.write_text("not a directory")

    def back(self) -> None:
        self._path.unlink()
        self._hidden.rename(self._path)


class S3(Place):
    """A bucket of a local server; away, nothing listens on its port."""

    def __init__(self) -> None:
        self.bucket = f"packs-{uuid.uuid4().hex}"  # the local server never forgets one
        super().__init__(f"s3://{self.bucket}/of leyden")
        self.back()
        self._fs().mkdir(self.bucket)

    def _fs(self) -> Any:
        import s3fs

        return s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)

    def objects(self) -> list[str]:
        return sorted(f"s3://{path}" for path in self._fs().find(self.bucket))

    def away(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def back(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", _port(), app, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if request.param == "folder":
        yield Folder(tmp_path / "cold packs")
        return
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{_port()}")
    try:
        found = S3()
    except ImportError as error:
        pytest.skip(f"no local S3 server: {error}")
    yield found
    found.away()


@cache
def _port() -> int:
    """One for all tests: clients are kept in the process under what they were made with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def store(settings: Settings, place: Place) -> Iterator[Store]:
    opened = open_store(replace(settings, pack_url=place.url))
    yield opened
    opened.close()


def test_packs_in_a_bucket_read_as_packs_in_the_database(store: Store, place: Place) -> None:
    begin(store)
    add(store, range(1, 20))
    end(store)
    pack.pack_all(store, now=NOW)
    with store.database.read() as tx:
        (row,) = tx.all(sa.select(tables.pack.c.url, tables.pack.c.frame))
    assert (place.objects(), row.frame) == ([row.url], None)
    payloads.forget_lately()
    assert read(store) == expected(range(1, 20))


def test_an_object_goes_once_nothing_points_at_it(store: Store, place: Place) -> None:
    begin(store)
    add(store, range(1, 5))
    end(store)
    pack.pack_all(store, now=NOW)
    (first,) = place.objects()
    add(store, range(5, 9))
    pack.pack_all(store, now=NOW)
    assert len(place.objects()) == 2, "the old one is there until the commit, and readers may be at it"
    assert pack.sweep(store, now=NOW) == 1
    assert first not in place.objects()
    payloads.forget_lately()
    assert read(store) == expected(range(1, 9))
    store.writer.run(lambda tx: delete(tx, "ro-1", project="default"))
    assert pack.sweep(store, now=NOW) == 1
    assert place.objects() == []
    assert count(store, tables.pack_object) == 0


def test_what_a_crash_left_in_the_bucket_is_swept_after_an_hour(store: Store, place: Place) -> None:
    begin(store)
    add(store, range(1, 5))
    end(store)
    works, _ = pack._plan(store, ["ro-1"])  # pyright: ignore[reportPrivateUsage]
    assert pack._compress(store, works[0], now=NOW)  # pyright: ignore[reportPrivateUsage]
    assert len(place.objects()) == 1
    assert pack.sweep(store, now=NOW + 10) == 0, "its pack may be about to be written"
    assert pack.sweep(store, now=NOW + 4000) == 1
    assert place.objects() == []
    assert pack._write(store, works, now=NOW) == [], "a pack without its object is never written"  # pyright: ignore[reportPrivateUsage]
    pack.pack_all(store, now=NOW)
    payloads.forget_lately()
    assert read(store) == expected(range(1, 5))


def test_while_a_bucket_is_away_rollouts_stay_as_they_are_and_reads_of_packs_say_so(
    store: Store, place: Place
) -> None:
    for rollout_id in ("ro-1", "ro-2"):
        begin(store, rollout_id)
        end(store, rollout_id)
    add(store, range(1, 5))
    pack.pack_all(store, now=NOW)
    add(store, range(1, 5), rollout_id="ro-2")
    payloads.forget_lately()
    place.away()
    with pytest.raises(StoreBusy, match="cannot be reached") as caught:
        pack.pack_all(store, now=NOW)
    assert "LEYDEN_PACK_URL" in str(caught.value.hint)
    assert read(store, "ro-2") == expected(range(1, 5), "ro-2")
    with pytest.raises(StoreBusy, match="cannot be reached"):
        read(store)
    place.back()
    place_is_empty = place.objects() == []
    if not place_is_empty:  # the local S3 server keeps its objects in memory
        assert read(store) == expected(range(1, 5))
    assert pack.pack_all(store, now=NOW).spans == 4
    payloads.forget_lately()
    assert read(store, "ro-2") == expected(range(1, 5), "ro-2")


def test_an_object_that_somebody_removed_is_one_clear_error(store: Store, place: Place) -> None:
    begin(store)
    add(store, range(1, 5))
    end(store)
    pack.pack_all(store, now=NOW)
    (url,) = place.objects()
    bucket.remove(url)
    payloads.forget_lately()
    with pytest.raises(StoreError, match="damaged: there is nothing at") as caught:
        read(store)
    assert not isinstance(caught.value, StoreBusy)
    assert not is_due(store)


def test_a_place_that_cannot_be_is_refused_when_the_store_opens(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Packs cannot lie at 'nowhere://x'"):
        open_store(Settings(db=str(tmp_path / "a.db"), pack_url="nowhere://x"))
