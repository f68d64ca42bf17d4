"""One call from its plan to its last byte: asked of an upstream, handed to the client as it arrives, kept for the record.

Promises: bytes go to the client unchanged unless they have to be translated; whatever happens there is an `Exchange` that says so;
a client that leaves cancels the upstream's work. Refuses to know: who may call, what the record becomes.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from leyden.asgi import Receive, Send
from leyden.errors import BadFormat, BadInput, LeydenError, UpstreamBroken, UpstreamError, UpstreamTimeout
from leyden.gateway.call import Call, Door, Exchange, Outcome
from leyden.gateway.decoding import Decoded, Decoder, decoded
from leyden.gateway.heads import encoding_of, head_of, request_id_of
from leyden.gateway.hold import stopping
from leyden.gateway.leaving import Leaving
from leyden.gateway.outgoing import Request, Settled, request
from leyden.gateway.pool import Outgoing
from leyden.gateway.refusals import refusal
from leyden.gateway.routing import Target
from leyden.gateway.streams import WithoutUsage
from leyden.gateway.translate import StreamTranslator, Translator, translator
from leyden.gateway.upstreams import Reached, Try, Upstreams
from leyden.ingest.shapes import is_list, is_object

# An answer that is no stream is handed on in one piece, so that one which breaks off becomes a clean error; a larger one goes through.
_WHOLE_BYTES = 8 * 2**20
_MOST_TRANSLATED = 64 * 2**20
# Of every answer so much is kept for the record: its beginning and its end, where the counts of a stream are.
_HEAD_BYTES, _TAIL_BYTES = 16 * 2**20, 64 * 2**10
_LATE_S = 1.0
_WITHOUT_BODY = (204, 304)

log = logging.getLogger("leyden.gateway")

Settle = Callable[[Target], Settled]


class _ClientGone(Exception):
    """Nobody takes the answer any more. Never leaves this module."""


@dataclass(slots=True)
class Rendered:
    """What a target was sent, and what its answer needs."""

    request: Request
    door: Door
    translator: Translator | None


@dataclass
class Forward:
    """settle: what the configuration sets at a target. max_bytes: of the answer that are kept for the record, if more than
    `_HEAD_BYTES`.

    model: what the targets are asked for instead of what the configuration says; a deployment's.
    """

    upstreams: Upstreams
    call: Call
    settle: Settle
    send: Send
    max_bytes: int
    model: str | None = None
    kept: list[bytes] = field(default_factory=list[bytes])
    _kept_bytes: int = 0
    _tail: bytearray = field(default_factory=bytearray)
    _is_cut: bool = False
    _first_ns: int | None = None
    _started: bool = False
    _request_id: str | None = None
    _rendered: dict[Target, Rendered] = field(default_factory=dict[Target, Rendered])
    _reached: Reached | None = None
    _status: int = 0
    _last: Target | None = None
    _tries: int = 0
    _is_late: bool = False
    _expiry: asyncio.TimerHandle | None = None
    _last_words: Callable[[LeydenError], bytes] | None = None

    async def run(self, receive: Receive) -> Exchange:
        """Serve the call. Never raises; a cancellation that is neither the client's leaving nor the end of the call's time is the server's
        end, and ends the call."""
        outcome: Outcome = "ok"
        error: str | None = None
        task = asyncio.current_task()
        assert task is not None
        leaving = Leaving(receive, task)
        try:
            outcome = await self._forwarded(task)
        except asyncio.CancelledError:
            task.uncancel()
            if leaving.has_left:
                outcome = "cancelled"
            elif self._is_late:
                outcome, error = "timeout", "the client did not take the answer within timeouts.total_s"
            else:
                outcome, error = "broken", "the server stopped before the answer was over"
                await self._refuse(stopping())
        except _ClientGone:
            outcome = "cancelled"
        except LeydenError as failure:
            outcome, error = _outcome(failure), failure.message
            await self._refuse(failure)
        except Exception:  # a defect of ours; the client must be told, and the call recorded all the same
            log.exception("a call could not be served")
            outcome, error = "broken", broken().message
            await self._refuse(broken())
        finally:
            leaving.stop()
            if self._expiry is not None:
                self._expiry.cancel()
            if self._reached is not None and outcome != "ok":
                self._reached.abort()
        return self._exchange(outcome, error)

    async def _forwarded(self, task: "asyncio.Task[Any]") -> Outcome:
        call = self.call
        plan = self.upstreams.plan(
            call.model, call.door, family=call.family, rollout_id=call.identity.rollout_id
        )
        if self.model is not None:
            plan = [target._replace(model=self.model) for target in plan]
        reached = self._reached = await self.upstreams.open(
            plan=plan, render=self._render, on_try=self._tried
        )
        self._last, self._tries = reached.target, reached.tries
        self._status = reached.status
        self._request_id = request_id_of(call, reached)
        # Who waits for the client to take what it is given waits no longer than a call may take.
        self._expiry = asyncio.get_running_loop().call_at(reached.ends_at + _LATE_S, self._expire, task)
        is_translated = self._rendered[reached.target].translator is not None
        if not 200 <= reached.status < 600 or (is_translated and reached.status in _WITHOUT_BODY):
            raise UpstreamBroken(
                f"Upstream {reached.target.upstream!r} answered with the status {reached.status}, which is no answer"
            )
        if call.is_stream and reached.status < 400:
            await self._stream(reached)
        else:
            await self._whole(reached)
        return "ok" if reached.status < 400 else "error"

    def _expire(self, task: "asyncio.Task[Any]") -> None:
        self._is_late = True
        task.cancel()

    def _tried(self, done: Try) -> None:
        self._last = done.target
        self._tries += 1

    def _render(self, target: Target) -> Outgoing:
        call = self.call
        door: Door = call.door
        translate: Translator | None = None
        if target.needs_translation:
            door = "messages" if target.family == "anthropic" else "chat"
            translate = translator(call.door, door, now=call.began_ns // 10**9)
            if translate is None:
                raise BadInput(f"{target.upstream} does not serve {call.path}, and it cannot be translated")
        settled = self.settle(target)
        if translate is not None:
            # The translation asks where an upstream has to be asked, and tells the client of counts only if it asked itself.
            settled = settled._replace(ask_usage=False)
        asked = request(call, settled, model=target.model)
        path, body = call.path, asked.body
        if translate is not None:
            path, translated = translate.request(asked.asked)
            body = orjson.dumps({**translated, "model": target.model})
        elif call.query:
            path = f"{path}?{call.query.decode('latin-1')}"
        self._rendered[target] = Rendered(asked, door, translate)
        self._last = target  # it is asked now, whatever becomes of it
        headers = call.headers
        if translate is not None or asked.asks_usage:
            # Plain bytes need no undoing before they are translated, and only plain ones are looked into for counts.
            headers = [(name, value) for name, value in headers if name != b"accept-encoding"]
            headers.append((b"accept-encoding", b"identity"))
        # Asked twice, a file may be there twice.
        may_repeat = call.door != "other" or call.method == "GET"
        return Outgoing(call.method, path, headers, body, may_repeat, call.family)

    async def _whole(self, reached: Reached) -> None:
        """An answer that is read as a whole: an error, or JSON."""
        rendered = self._rendered[reached.target]
        most = 0 if self.call.door == "other" else _WHOLE_BYTES  # sound is played as it comes
        pieces: list[bytes] = []
        size = 0
        async for piece in reached.chunks():
            self._keep(piece)
            if self._started:
                await self._body(piece, more=True)
                continue
            pieces.append(piece)
            size += len(piece)
            if size > most and rendered.translator is None:
                await self._start(reached)
                await self._body(b"".join(pieces), more=True)
                pieces = []
            elif size > _MOST_TRANSLATED:
                name = reached.target.upstream
                raise UpstreamBroken(
                    f"Upstream {name!r} sent more than {_MOST_TRANSLATED} bytes, too many to translate"
                )
        if self._started:
            await self._body(b"", more=False)
            return
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if rendered.translator is not None:
            body = _answer(rendered.translator, reached, decoded(pieces, encoding_of(reached)))
        await self._start(reached, length=len(body))
        await self._body(body, more=False)

    async def _stream(self, reached: Reached) -> None:
        """Each piece to the client as it arrives; translated where the protocols differ."""
        translated = self._rendered[reached.target].translator
        change: StreamTranslator | WithoutUsage | None = None
        decoder: Decoder | None = None
        if translated is not None:
            change, decoder = translated.stream(), _decoder(reached)
        elif self._leaves_usage_out(reached):
            change = WithoutUsage()

        def last_words(failure: LeydenError) -> bytes:
            # Headers are long gone: the protocol's own error event tells what no status can.
            if translated is not None and not isinstance(change, WithoutUsage | None):
                return change.end(error=failure.message)
            return b"\n\n" + _error_event(failure, self.call)

        await self._start(reached)
        self._last_words = last_words
        async for piece in reached.chunks():
            self._keep(piece)
            for plain in (piece,) if decoder is None else _undone(decoder, piece, reached):
                said = plain if change is None else change.feed(plain)
                if said:
                    await self._body(said, more=True)
        rest = change.end() if change is not None else b""
        self._last_words = None
        await self._body(rest, more=False)

    async def _start(self, reached: Reached, *, length: int | None = None) -> None:
        rendered = self._rendered[reached.target]
        changes = rendered.translator is not None or self._leaves_usage_out(reached)
        headers = head_of(
            self.call,
            reached,
            changes=changes,
            is_translated=rendered.translator is not None,
            length=length,
            request_id=self._request_id,
        )
        self._started = True
        await self._tell({"type": "http.response.start", "status": reached.status, "headers": headers})

    def _leaves_usage_out(self, reached: Reached) -> bool:
        """Whether the client gets this stream without the counts that only we asked for. One that comes compressed, which it was asked not
        to, passes with them: the client reads it as it is."""
        asks = self.call.is_stream and self._rendered[reached.target].request.asks_usage
        return asks and reached.status < 400 and not encoding_of(reached)

    async def _body(self, piece: bytes, *, more: bool) -> None:
        await self._tell({"type": "http.response.body", "body": piece, "more_body": more})

    async def _tell(self, message: MutableMapping[str, Any]) -> None:
        try:
            await self.send(message)
        except Exception as error:
            log.debug("a client could not be told: %r", error)
            raise _ClientGone from error

    def _keep(self, piece: bytes) -> None:
        if self._first_ns is None:
            self._first_ns = time.time_ns()
        room = max(self.max_bytes, _HEAD_BYTES) - self._kept_bytes
        if head := piece[:room]:
            self.kept.append(head)
            self._kept_bytes += len(head)
        if len(piece) > room:
            self._tail += piece[room:]
            if len(self._tail) > 2 * _TAIL_BYTES:
                self._is_cut = True
                del self._tail[:-_TAIL_BYTES]

    async def _refuse(self, failure: LeydenError) -> None:
        """Tell the client in its own protocol: with a status when nothing was sent yet, in a stream with its last event."""
        if self._started:
            if self._last_words is not None:
                with suppress(Exception):
                    async with asyncio.timeout(_LATE_S):
                        await self._body(self._last_words(failure), more=False)
            return
        self._status, headers, body = refusal(failure, self.call.family)
        self._started = True
        with suppress(Exception):  # the client may be gone
            await self.send({"type": "http.response.start", "status": self._status, "headers": headers})
            await self._body(body, more=False)

    def _exchange(self, outcome: Outcome, error: str | None) -> Exchange:
        call, target = self.call, self._last
        rendered = None if target is None else self._rendered.get(target)
        if rendered is not None:
            call.changed = rendered.request.changed
        return Exchange(
            call=call,
            outcome=outcome,
            status=self._status,
            upstream=None if target is None else target.upstream,
            upstream_family=call.family if target is None else target.family,
            upstream_door=call.door if rendered is None else rendered.door,
            upstream_model=None if target is None else target.model,
            tries=self._tries or int(rendered is not None),
            body=self.kept if self._is_cut or not self._tail else [*self.kept, bytes(self._tail)],
            tail=bytes(self._tail) if self._is_cut else b"",
            encoding="" if self._reached is None else encoding_of(self._reached),
            is_cut=self._is_cut,
            first_byte_ns=self._first_ns,
            ended_ns=time.time_ns(),
            error=error,
            request_id=self._request_id,
        )


def broken() -> LeydenError:
    """What a call is told that a defect of ours ended."""
    return LeydenError("The gateway failed to serve this call", hint="its log says why")


def _decoder(reached: Reached) -> Decoder | None:
    """For a body that has to be read while it comes; None when it is plain. Raises UpstreamBroken for an encoding nobody knows."""
    encoding = encoding_of(reached)
    try:
        return Decoder(encoding) if encoding else None
    except BadFormat as fault:
        raise _undecodable(reached, fault) from fault


def _undone(decoder: Decoder, piece: bytes, reached: Reached) -> Iterator[bytes]:
    """What a piece says without its encoding, step by step. Raises UpstreamBroken behind what came before the fault."""
    try:
        yield from decoder.feed(piece)
    except BadFormat as fault:
        raise _undecodable(reached, fault) from fault


def _undecodable(reached: Reached, fault: BadFormat) -> UpstreamBroken:
    name, encoding = reached.target.upstream, encoding_of(reached)
    return UpstreamBroken(
        f"Upstream {name!r} sent an answer that is no {encoding}: {fault.message}", phase="idle"
    )


def _outcome(failure: LeydenError) -> Outcome:
    if isinstance(failure, UpstreamTimeout):
        return "timeout"
    if isinstance(failure, UpstreamBroken):
        return "broken"
    return "unreachable" if isinstance(failure, UpstreamError) else "refused"


def _answer(translate: Translator, reached: Reached, came: Decoded) -> bytes:
    """The answer in the client's protocol. Raises UpstreamBroken for a success that is no JSON object: a client would take it for one."""
    try:
        given = orjson.loads(came.data)
    except orjson.JSONDecodeError:
        given = came.data[:2000].decode("utf-8", "replace")
    if is_list(given):  # Gemini's errors come in a list of one
        given = next(iter(given), None)
    if not is_object(given) and reached.status < 400:
        why = f": {came.problem}" if came.problem else ""
        raise UpstreamBroken(
            f"Upstream {reached.target.upstream!r} sent an answer that is no JSON{why}", phase="idle"
        )
    return orjson.dumps(translate.answer(reached.status, given if is_object(given) else {"error": given}))


def _error_event(error: LeydenError, call: Call) -> bytes:
    _, _, body = refusal(error, call.family)
    name = b"event: error\n" if call.family == "anthropic" or call.door == "responses" else b""
    return name + b"data: " + body + b"\n\n"
