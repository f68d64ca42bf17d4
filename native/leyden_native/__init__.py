"""The two loops of Leyden's ingest that cost most, in C. Leyden uses it when it is installed; nothing else should."""

from leyden_native._decoder import Reader, spans_json

__all__ = ["Reader", "spans_json"]
