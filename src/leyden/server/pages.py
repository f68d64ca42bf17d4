"""Which web pages reach a server that asks for no key: those of this machine and its network, not whatever its user has open.

A browser sends requests for any page. Two headers that no page can forge tell whose they are: `Origin`, of everything that changes
something, and `Host`, which holds the attacker's own domain when that was made to resolve to this machine (DNS rebinding), so that its
page could read the answers. Programs send no `Origin`, and the `Host` they were given.

Promises: a header value is judged once and remembered; a request costs two look-ups.
"""

import ipaddress
import socket
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from leyden.errors import Forbidden

_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
# Names that no stranger can own.
_OWN_SUFFIXES = (".localhost", ".local", ".internal", ".lan")
_MOST_REMEMBERED = 256


class Pages:
    """Judges requests that bring no key. any_host: whether the server may go by any name, behind a proxy for instance."""

    def __init__(self, *, any_host: bool = False) -> None:
        self._any_host = any_host
        self._own = {socket.gethostname().lower()}
        self._hosts: dict[bytes, bool] = {}
        self._origins: dict[bytes, bool] = {}

    def check(self, method: str, host: bytes, origin: bytes, *, listed: Collection[str]) -> None:
        """Raises Forbidden for what the page of a stranger may have sent. Each b"" when absent; listed: origins that may call, "*" for all."""
        if not self._any_host and not _remembered(self._hosts, host, self._is_own_host):
            raise Forbidden(
                f"A server that asks for no key is not to be reached as {_shown(host)}",
                hint="use http://localhost or an IP address; behind a proxy, create a key and set LEYDEN_REQUIRE_KEYS=1,"
                " or set LEYDEN_OPEN_BIND=1",
            )
        if not origin or method in _HARMLESS or _remembered(self._origins, origin, self._is_own_origin):
            return
        if self._any_host and origin.partition(b"://")[2] == host:
            return
        if "*" not in listed and origin.decode("latin-1") not in listed:
            raise Forbidden(
                f"Pages of {_shown(origin)} may not change anything on a server that asks for no key",
                hint="open the page on localhost, name its origin (`agl store --cors-origin`), or create a key and send it",
            )

    def _is_own_host(self, host: bytes) -> bool:
        return not host or self._is_own_name(_name(f"//{host.decode('latin-1')}"), is_page=False)

    def _is_own_origin(self, origin: bytes) -> bool:
        # "null", of sandboxed frames and files, has no name.
        return self._is_own_name(_name(origin.decode("latin-1")), is_page=True)

    def _is_own_name(self, name: str, *, is_page: bool) -> bool:
        if not name:
            return False
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return "." not in name or name.endswith(_OWN_SUFFIXES) or name in self._own
        # An address is no name that could be made to resolve to this machine, but anybody may serve pages on one.
        return not (is_page and address.is_global)


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _remembered(verdicts: dict[bytes, bool], value: bytes, judge: Callable[[bytes], bool]) -> bool:
    verdict = verdicts.get(value)
    if verdict is None:
        if len(verdicts) >= _MOST_REMEMBERED:
            verdicts.clear()
        verdict = verdicts[value] = judge(value)
    return verdict


def _shown(value: bytes) -> str:
    return repr(value[:100].decode("latin-1"))
