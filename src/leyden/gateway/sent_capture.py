"""Records of calls that go to another Leyden server, as OTLP, where the gateway has no store of its own to write to.

Promises: what `Capture` promises, with the server in the store's place. Refuses to know: how that server is reached.
"""

from typing import Any

import orjson

from leyden.errors import LeydenError, ServerUnreachable, StoreBusy
from leyden.gateway.call import Exchange
from leyden.gateway.capture import Capture
from leyden.gateway.recording import Recorded
from leyden.ingest.otlp_out import otlp_json_line
from leyden.ingest.record import GATEWAY
from leyden.ingest.shapes import object_or_empty
from leyden.sdk.client import Client

Calls = list[tuple[Exchange, Recorded]]


class SentCapture(Capture):
    """A capture that sends through `client`, which is somebody else's to close, after this."""

    def __init__(self, client: Client, *args: Any, **kwargs: Any) -> None:
        self._client = client
        super().__init__(*args, **kwargs)

    def _stored(self, calls: Calls, project: str, *, size: int) -> list[str]:
        records = [
            found.record._replace(attempt_id=exchange.call.identity.attempt_id or found.record.attempt_id)
            for exchange, found in calls
        ]
        body = otlp_json_line((r.payload, r.encoding, r.rollout_id, r.attempt_id, None) for r in records)
        try:
            if not self._send(body):
                return []
            # A rollout that nobody announced is refused with its spans; sending the others again changes nothing.
            for ids in {(record.rollout_id, record.attempt_id) for record in records}:
                self._client.register_rollout(*ids, metadata={"source": GATEWAY})
            return self._send(body)
        except (ServerUnreachable, StoreBusy):
            raise
        except LeydenError as error:
            return [error.message] * len(calls)

    def _send(self, body: bytes) -> list[str]:
        """Why spans were refused, as often as some were."""
        answer = self._client.export_otlp(body, "application/json")
        partial = object_or_empty(object_or_empty(orjson.loads(answer.body)).get("partialSuccess"))
        return [str(partial.get("errorMessage") or "refused")] * int(partial.get("rejectedSpans") or 0)
