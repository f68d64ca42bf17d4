"""Calls about full-text search."""

from typing import Literal

from pydantic import BaseModel

from leyden.sdk.calls.base import API, Calls, present, read
from leyden.types import Mode, RolloutStatus, SpanKind, SpanSummary


class SnippetPiece(BaseModel):
    """A part of a snippet, as it was recorded; `match` when it is what was looked for."""

    text: str
    match: bool


class SearchRollout(BaseModel):
    """The rollout of a span that was found. start_time in unix seconds."""

    rollout_id: str
    status: RolloutStatus
    mode: Mode | None = None
    start_time: float
    reward: float | None = None


class SearchHit(BaseModel):
    """A span that says it. snippets: of up to three of its texts the part that shows most, each as pieces in order."""

    span: SpanSummary
    rollout: SearchRollout
    snippets: list[list[SnippetPiece]]


class SearchPage(BaseModel):
    """What was found, newest first.

    cursor: where the next page begins, None at the end. complete: false when the search stopped before the page was full.
    waiting: how many ended rollouts are not indexed yet.
    """

    items: list[SearchHit]
    cursor: str | None = None
    complete: bool
    waiting: int = 0


class SearchCalls(Calls):
    """Find spans by what they say."""

    def search(
        self,
        query: str,
        *,
        filter: str | None = None,
        since: float | None = None,
        until: float | None = None,
        agent: str | None = None,
        model: str | None = None,
        tool: str | None = None,
        kind: SpanKind | None = None,
        status: Literal["unset", "ok", "error"] | None = None,
        mode: Mode | None = None,
        rollout_id: str | None = None,
        min_reward: float | None = None,
        max_reward: float | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> SearchPage:
        """Spans whose texts hold the words, newest first. `word "a phrase" begin* -without one OR other`.

        filter: `agent:router status:error cost>0.01`. since, until: unix seconds of the span's start. min_reward, max_reward: of its rollout. Raises BadInput
        for a query without a word to look for and a filter that is none.
        """
        params = present(
            q=query, filter=filter, since=since, until=until, agent=agent, model=model, tool=tool, kind=kind, status=status, mode=mode,
            rollout_id=rollout_id, min_reward=min_reward, max_reward=max_reward, limit=limit, cursor=cursor,
        )  # fmt: skip
        return read(SearchPage, self.request("GET", f"{API}/search", params=params))
