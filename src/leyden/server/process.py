"""What the process asks of the system and the interpreter before it serves: few arenas to allocate from, as many open files as it may
have, short turns of its threads, and a garbage collector that looks around less often.

glibc gives each thread that allocates an arena of its own, up to eight per core, and returns little of what was freed inside one. A server
with a few dozen threads, each of which once held a large answer, would stand at several times what it uses. A call through the gateway takes two files, so a thousand, the usual number, are 500 calls.
"""

import contextlib
import ctypes
import gc
import sys

ARENAS = 2
OPEN_FILES = 65_536
# Twice and a half as often as usual: the event loop waits shorter for those who decode, record and write. A quarter of it cost ingest 7 %.
SWITCH_S = 0.002
# New objects between two looks at the youngest, and such looks before one at the older. By default (700, 10, 10) each five streams cost a
# look at all that the streams under way hold, a seventh of the gateway's CPU; with ten times as many a look itself takes milliseconds.
COLLECT = (5_000, 20, 20)
_M_ARENA_MAX = -8  # <malloc.h>


def share_arenas() -> bool:
    """Let all threads allocate from two arenas; False where the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, ARENAS))


def raise_open_files() -> None:
    """Let this process open as many files as it may without asking anybody, up to `OPEN_FILES`."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # some systems say more than they give
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def switch_often() -> None:
    """Let threads take turns every `SWITCH_S` seconds."""
    sys.setswitchinterval(SWITCH_S)


def collect_rarely() -> None:
    """Let the collector of reference cycles look around as seldom as `COLLECT` says."""
    gc.set_threshold(*COLLECT)
