"""Requests that could not be sent, kept on disk until a server takes them.

Layout: `<spool dir>/<destination>/<owner>/NNNNNNNN.seg`, one folder per process, one line per request:
spans, path, body (JSON without line breaks), separated by tabs.

Promises:
1. A process writes only its own folder and holds an operating-system lock on it while it lives. Whoever gets that lock
   later knows the owner is dead and may send what it left; the lock goes when its holder does, so no claim is ever stuck.
2. A line is written with one append. It survives the process (kill −9), not a crash of the machine; a line that was cut
   is skipped and counted.
3. All folders of a spool directory together stay within its size: the oldest segment goes first, and its spans are counted.
4. Requests come back oldest first. A segment is deleted once all of it was sent; after a crash in between it is sent
   again (the server stores a span once).
5. Folders are readable by their user only. A destination is an address and a key: nothing reaches another project.
"""

import contextlib
import os
import sys
import threading
from collections import deque
from pathlib import Path
from typing import NamedTuple

_SEGMENT_BYTES = 2**20


class Request(NamedTuple):
    """One POST to the server: path, JSON body, and how many spans it carries."""

    path: str
    body: bytes
    spans: int


class Spool:
    """The spool of one process for one destination. Safe to share between threads."""

    def __init__(self, root: Path, *, limit_bytes: int) -> None:
        self._root = root
        self._limit = limit_bytes
        self._segment_limit = max(1, min(_SEGMENT_BYTES, limit_bytes // 4))
        self._lock = threading.RLock()
        self._own: Path | None = None
        self._locks: dict[Path, int] = {}
        self._segments: list[Path] = []
        self._writer: int | None = None
        self._written = 0
        self._number = 0
        self._loaded: deque[Request] = deque()
        self._loaded_from: Path | None = None
        self.lost_spans = 0

    def __bool__(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._loaded or self._segments)

    def append(self, request: Request) -> bool:
        """Keep a request behind all others; False when the disk refuses it."""
        line = b"%d\t%s\t%s\n" % (request.spans, request.path.encode(), request.body)
        if len(line) > self._limit:
            return False
        with self._lock:
            try:
                if self._writer is None or self._written + len(line) > self._segment_limit:
                    self._new_segment(len(line))
                if self._writer is None or os.write(self._writer, line) != len(line):
                    return False
                self._written += len(line)
            except OSError:
                return False
            return True

    def peek(self) -> Request | None:
        """The oldest request, or None when nothing waits."""
        with self._lock:
            while not self._loaded:
                if self._loaded_from is not None:
                    self._delete(self._loaded_from)
                    self._loaded_from = None
                if not self._segments:
                    return None
                self._load(self._segments.pop(0))
            return self._loaded[0]

    def advance(self) -> None:
        """Forget the request that `peek` returned: it was sent or given up."""
        with self._lock:
            if self._loaded:
                self._loaded.popleft()

    def waiting(self) -> bool:
        """Whether some process left something for this destination."""
        try:
            return any(self._root.glob("*/*.seg"))
        except OSError:
            return False

    def adopt(self) -> None:
        """Take over what dead processes left for this destination; what they left goes first."""
        with self._lock:
            try:
                folders = sorted(path for path in self._root.iterdir() if path.is_dir())
            except OSError:
                return
            for folder in folders:
                if folder in self._locks:
                    continue
                with contextlib.suppress(OSError):
                    self._adopt(folder)

    def close(self) -> None:
        """Release every lock; what still waits is for the next process."""
        with self._lock:
            self._seal()
            for folder in list(self._locks):
                self._leave(folder)

    def forget(self) -> None:
        """In a forked child: drop the parent's handles without touching its files or its lock."""
        for handle in [*self._locks.values(), *([self._writer] if self._writer is not None else [])]:
            with contextlib.suppress(OSError):
                os.close(handle)

    def _adopt(self, folder: Path) -> None:
        handle = _lock_folder(folder)
        if handle is None:
            return
        self._locks[folder] = handle
        segments = sorted(folder.glob("*.seg"))
        self._segments[:0] = segments
        if not segments:
            self._leave(folder)

    def _new_segment(self, needed: int) -> None:
        self._seal()
        self._make_room(needed)
        if self._own is None:
            self._own = self._claim_folder()
        self._number += 1
        path = self._own / f"{self._number:08d}.seg"
        self._writer = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_EXCL, 0o600)
        self._written = 0
        self._segments.append(path)

    def _claim_folder(self) -> Path:
        while True:
            folder = self._root / f"{os.getpid()}-{os.urandom(4).hex()}"
            folder.mkdir(parents=True, mode=0o700)
            handle = _lock_folder(folder)
            if handle is not None:
                self._locks[folder] = handle
                return folder

    def _make_room(self, needed: int) -> None:
        """Delete the oldest segments of the whole spool directory until one more fits."""
        sizes: list[tuple[float, int, Path]] = []
        for path in self._root.parent.glob("*/*/*.seg"):
            with contextlib.suppress(OSError):
                info = path.stat()
                sizes.append((info.st_mtime, info.st_size, path))
        sizes.sort()
        total = sum(size for _, size, _ in sizes) + max(needed, self._segment_limit)
        for _, size, path in sizes:
            if total <= self._limit:
                return
            self._drop(path)
            total -= size

    def _drop(self, path: Path) -> None:
        if path == self._loaded_from:
            self.lost_spans += sum(request.spans for request in self._loaded)
            self._loaded.clear()
            self._loaded_from = None
        else:
            requests, cut = _read(path)
            self.lost_spans += sum(request.spans for request in requests) + cut
        if path in self._segments:
            self._segments.remove(path)
        with contextlib.suppress(OSError):
            path.unlink()

    def _load(self, path: Path) -> None:
        if self._own is not None and path == self._own / f"{self._number:08d}.seg":
            self._seal()
        requests, cut = _read(path)
        self.lost_spans += cut
        self._loaded.extend(requests)
        self._loaded_from = path

    def _delete(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink()
        if path.parent != self._own and not any(segment.parent == path.parent for segment in self._segments):
            self._leave(path.parent)

    def _leave(self, folder: Path) -> None:
        """Release a folder, removing it when it is empty."""
        with contextlib.suppress(OSError):
            if not any(folder.glob("*.seg")):
                (folder / "lock").unlink(missing_ok=True)
                folder.rmdir()
        os.close(self._locks.pop(folder))
        if folder == self._own:
            self._own = None

    def _seal(self) -> None:
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None


def _read(path: Path) -> tuple[list[Request], int]:
    """The requests of a segment and how many lines of it were cut."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return [], 0
    cut = 1 if lines.pop() else 0
    requests: list[Request] = []
    for line in lines:
        spans, _, rest = line.partition(b"\t")
        target, _, body = rest.partition(b"\t")
        if spans.isdigit() and target.startswith(b"/") and body:
            requests.append(Request(target.decode("utf-8", "replace"), body, int(spans)))
        else:
            cut += 1
    return requests, cut


def _lock_folder(folder: Path) -> int | None:
    """An open, locked handle on the folder's lock file; None while a living process holds it."""
    path = folder / "lock"
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        # The file may have been removed with its folder between open and lock: that lock would guard nothing.
        if _try_lock(handle) and os.path.samestat(os.fstat(handle), os.stat(path)):
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
