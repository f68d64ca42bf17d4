"""Every error Leyden raises on purpose, in one tree; the class names the boundary that failed.

    LeydenError                     code = "error", http status 500
    ├── BadInput                    the caller sent something we refuse                     400
    │   ├── BadFormat               a file, body or record that does not parse              400
    │   ├── WebSocketRefused        a client that wants one where plain HTTP is spoken      426
    │   └── TooLarge                a body, span or nesting over its limit                  413
    ├── NotFound                    an id nobody knows                                      404
    ├── Forbidden                   no key, a wrong key, or a key without the scope         401, 403
    │   ├── Unauthorized                                                                    401
    │   └── ModelNotAllowed         a model that the key may not call                       403
    ├── RateLimited                 a key's calls, tokens or concurrency are used up        429
    ├── BudgetSpent                 a key's money for the day or the rollout is spent       402
    ├── InvalidTransition           a state change the transition table refuses             409
    ├── StoreError                  the database refused or failed                          500
    │   ├── StoreBusy               locked past its timeout, or the write queue is full     503
    │   ├── StoreFull               no space left where the database lives                  507
    │   ├── StoreUnwritable         read-only, not to be opened, or its disk fails          503
    │   └── SchemaTooNew            the database was written by a newer Leyden              500
    ├── ServerUnreachable           the client got no answer from a Leyden server           503
    ├── UpstreamError               a model server failed the gateway                       502
    │   ├── UpstreamUnreachable     no connection to it                                     502
    │   ├── UpstreamTimeout         one phase of a call took longer than it may             504
    │   └── UpstreamBroken          its answer stopped in the middle, or was no HTTP        502
    └── MissingExtra                a command or feature needs `pip install leyden[…]`      500

A message says what happened, to what, and what to do. `hint` holds the "what to do" when it is worth its own line.
"""

from typing import Any, Literal

UpstreamPhase = Literal["connect", "first byte", "idle", "total"]


class LeydenError(Exception):
    """Root of the tree. `code` is the stable machine-readable name sent over HTTP; `status` the HTTP status."""

    code = "error"
    status = 500

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        # Runners hand errors across processes. Made anew without __init__, whose arguments differ from class to class.
        return _made_anew, (type(self), self.args), vars(self)


def _made_anew(kind: type[LeydenError], args: tuple[Any, ...]) -> LeydenError:
    return kind.__new__(kind, *args)


class BadInput(LeydenError):
    """The caller sent something that cannot be right; sending it again will not help."""

    code = "bad_input"
    status = 400


class BadFormat(BadInput):
    """A body, file or record that does not parse as what it claims to be."""

    code = "bad_format"


class WebSocketRefused(BadInput):
    """A client wants a WebSocket where only plain HTTP is spoken; those that know both take the other then."""

    code = "websocket_refused"
    status = 426


class TooLarge(BadInput):
    """A body, span or nesting depth over its limit; the limits are settings."""

    code = "too_large"
    status = 413


class NotFound(LeydenError):
    """An id that no row has. The message keeps the words that published clients match on."""

    code = "not_found"
    status = 404


class Forbidden(LeydenError):
    """A valid key that lacks the scope a route needs."""

    code = "forbidden"
    status = 403


class Unauthorized(Forbidden):
    """No key where one is needed, or a key nobody issued."""

    code = "unauthorized"
    status = 401


class ModelNotAllowed(Forbidden):
    """A model that is not among those that the key may call."""

    code = "model_not_allowed"


class RateLimited(LeydenError):
    """A limit of a key that passes by itself: calls or tokens per minute, or calls at once. `retry_after_s`: when to try again."""

    code = "rate_limited"
    status = 429

    def __init__(self, message: str, hint: str | None = None, retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class BudgetSpent(LeydenError):
    """The money that a key may spend in a day or on a rollout is spent."""

    code = "budget_spent"
    status = 402


class InvalidTransition(LeydenError):
    """A state change that the transition table in `types.py` refuses."""

    code = "invalid_transition"
    status = 409


class StoreError(LeydenError):
    """The database refused or failed."""

    code = "store_error"


class StoreBusy(StoreError):
    """The database stayed locked past its timeout, or the write queue is full: try again in a second."""

    code = "store_busy"
    status = 503


class StoreFull(StoreError):
    """No space is left where the database lives; nothing of the refused write was kept."""

    code = "store_full"
    status = 507


class StoreUnwritable(StoreError):
    """The database takes no writes as things are: it is read-only, cannot be opened, or its disk fails. Somebody may mend that."""

    code = "store_unwritable"
    status = 503


class SchemaTooNew(StoreError):
    """The database was migrated by a newer Leyden than this one."""

    code = "schema_too_new"


class ServerUnreachable(LeydenError):
    """No Leyden server answered at the address."""

    code = "server_unreachable"
    status = 503


class UpstreamError(LeydenError):
    """A model server failed the gateway.

    phase: what the call waited for when it failed: "connect", "first byte" (of the answer's body), "idle" (its next bytes) or
    "total" (its end).
    """

    code = "upstream_error"
    status = 502

    def __init__(self, message: str, hint: str | None = None, phase: UpstreamPhase = "connect") -> None:
        super().__init__(message, hint)
        self.phase: UpstreamPhase = phase


class UpstreamUnreachable(UpstreamError):
    """No connection to a model server: its name, its port or its certificate."""

    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamError):
    """One phase of a call to a model server took longer than its limit."""

    code = "upstream_timeout"
    status = 504


class UpstreamBroken(UpstreamError):
    """A model server's answer stopped in the middle, or was no HTTP."""

    code = "upstream_broken"


class MissingExtra(LeydenError):
    """A feature whose packages are not installed; the message names the extra."""

    code = "missing_extra"
