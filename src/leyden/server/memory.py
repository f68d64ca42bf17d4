"""What the process keeps of the memory it freed: a setting of the C library, made once before threads start.

glibc gives each thread that allocates an arena of its own, up to eight per core, and returns little of what was freed inside one. A server
with a few dozen threads, each of which once held a large answer, would stand at several times what it uses.
"""

import ctypes
import sys

ARENAS = 2
_M_ARENA_MAX = -8  # <malloc.h>


def share_arenas() -> bool:
    """Let all threads allocate from two arenas; False where the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, ARENAS))
