"""How one upstream is addressed: URLs, headers, keys. Prepared once, because every call pays for what is left to do.

Promises: a key of ours (`lk_…`) never leaves; the client's own key leaves only where none is configured, for an upstream of the protocol
that the client speaks, or one that is told to take anybody's. No I/O.
"""

import re
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from yarl import URL

from leyden.errors import BadInput
from leyden.gateway.call import Family
from leyden.gateway.config import Upstream
from leyden.gateway.kinds import Auth
from leyden.gateway.routing import Target

Headers = Sequence[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_KEY_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
# What concerns this connection only, or us only.
_NOT_FORWARDED = HOP_BY_HOP | _KEY_HEADERS | {b"host", b"content-length", b"expect"}
_OURS = b"x-leyden-"
_OUR_KEY = b"lk_"
ANTHROPIC_VERSION = "2023-06-01"

_PATH = re.compile(r"/[\x21-\x7e]*")
_AZURE_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_AZURE_DEPLOYMENT_PATHS = ("/chat/", "/completions", "/embeddings", "/images/", "/audio/")
_REMEMBERED = 1024


class Endpoint:
    """One upstream, ready to be called."""

    def __init__(self, name: str, upstream: Upstream) -> None:
        self.name, self.upstream = name, upstream
        self.root = root_url(upstream)
        self.host = urlsplit(self.root).netloc
        self._set = {name.lower(): value.get_secret_value() for name, value in upstream.headers.items()}
        if upstream.api_key is not None:
            header, value = key_header(upstream.auth, upstream.api_key.get_secret_value())
            self._set.setdefault(header, value)
        self._set_names = frozenset(name.encode("latin-1", "replace") for name in self._set)
        self._not_forwarded = _NOT_FORWARDED | self._set_names
        self._set_items = list(self._set.items())
        self._client_keys = upstream.client_keys if upstream.api_key is None else "drop"
        self._urls: dict[tuple[str, str], URL] = {}

    def url(self, path: str, model: str) -> URL:
        """The URL of a path below the base URL, with its query. Raises BadInput for one that cannot be sent."""
        url = self._urls.get((path, model))
        if url is None:
            if not _PATH.fullmatch(path):
                raise BadInput("The path of this call holds characters that no URL may hold")
            url = URL(self._address(path, model), encoded=True)
            if len(self._urls) >= _REMEMBERED:
                self._urls.clear()
            self._urls[path, model] = url
        return url

    def headers(self, given: Headers, target: Target, *, client: Family) -> list[tuple[str, str]]:
        """What goes to the upstream of the client's headers (lower-case names), and what is set on every call.

        client: the protocol that it speaks, which says whose keys it has.
        """
        kept = [
            (name.decode("latin-1"), _text(value))
            for name, value in given
            if name not in self._not_forwarded and not name.startswith(_OURS)
        ]
        kept += self._set_items
        takes_key = self._client_keys == "forward" or (self._client_keys == "own" and client == target.family)
        if takes_key and not _KEY_HEADERS & self._set_names:
            kept += self._clients_key(given, target)
        if target.family == "anthropic" and not any(name == "anthropic-version" for name, _ in kept):
            kept.append(("anthropic-version", ANTHROPIC_VERSION))
        return kept

    def _clients_key(self, given: Headers, target: Target) -> list[tuple[str, str]]:
        """The client's own key, in the header that this upstream reads."""
        for name, value in given:
            if name in _KEY_HEADERS:
                key = _key_in(name, value)
                if key is not None and not key.startswith(_OUR_KEY):
                    auth = "bearer" if _stays_bearer(name, key, target) else self.upstream.auth
                    return [key_header(auth, key.decode("latin-1"))]
        return []

    def _address(self, path: str, model: str) -> str:
        version = self.upstream.api_version
        if self.upstream.kind != "azure" or not version:
            return self.root + path
        bare, _, query = path.partition("?")
        is_dated = _AZURE_DATE.fullmatch(version) is not None
        # A dated version names the deployment in the URL; the v1 surface reads it from the body's `model`.
        is_deployment = is_dated and bare.startswith(_AZURE_DEPLOYMENT_PATHS)
        between = f"/deployments/{quote(model, safe='')}" if is_deployment else ""
        # Azure's client names a version itself; the one that is configured counts.
        others = [part for part in query.split("&") if part and not part.startswith("api-version=")]
        return f"{self.root}{between}{bare}?{'&'.join([f'api-version={quote(version)}', *others])}"


def _text(value: bytes) -> str:
    """A header's value as what its bytes come of again."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def root_url(upstream: Upstream) -> str:
    """The base URL as paths are put behind it: with the version that people leave out, without a slash at its end."""
    base = upstream.base_url.rstrip("/")
    path = urlsplit(base).path
    if upstream.kind == "azure":
        wanted = "/openai" if _AZURE_DATE.fullmatch(upstream.api_version or "") else "/openai/v1"
        return base.removesuffix("/v1").removesuffix("/openai") + wanted
    if upstream.family == "anthropic":
        # Anthropic's clients are given the address without the version.
        return base if path.endswith("/v1") else f"{base}/v1"
    return base if path else f"{base}/v1"


def key_header(auth: Auth, key: str) -> tuple[str, str]:
    """The header that carries a key."""
    return ("authorization", f"Bearer {key}") if auth == "bearer" else (auth, key)


def _key_in(name: bytes, value: bytes) -> bytes | None:
    """The key in a header; None for `Authorization` of another scheme, where a key of ours could hide in base64."""
    if name != b"authorization":
        return value.strip()
    return value[7:].strip() if value[:7].lower() == b"bearer " else None


def _stays_bearer(name: bytes, key: bytes, target: Target) -> bool:
    """Whether a bearer token stays one where the upstream's keys go elsewhere: the login tokens of Anthropic and Azure, and whatever a
    client that speaks Anthropic's protocol itself chose to send so."""
    if name != b"authorization":
        return False
    is_at_home = target.family == "anthropic" and not target.needs_translation
    return is_at_home or key.startswith((b"sk-ant-oat", b"eyJ"))
