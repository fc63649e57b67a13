"""One session as a chat: a page of its turns, and the session's details beside it."""

import itertools
from datetime import datetime
from decimal import Decimal
from typing import Any

from flask import Blueprint, Response, request

from conversation import access, pages
from conversation.api import caller, cursors, pagination, pricing
from conversation.pages import bubbles, feedback_page, markdown
from logging_store import operations as ops
from logging_store.records.json_values import NO_TURN

blueprint = Blueprint("pages_session", __name__)

TURNS = 50  # of a page; more would be slow to render
_NEIGHBOURS = 3


class Turn(ops.Interaction):
    """An interaction as the page shows it.

    `missing`: the first and the last number of a gap in the turns before it. `resent`: how many messages at the start
    of its prompt repeat earlier turns. `estimate`: its cost in USD by public prices, if none was logged.
    """

    bubbles: list[bubbles.Bubble]
    missing: tuple[int, int] | None
    resent: int
    estimate: Decimal | None


@blueprint.get("/sessions/<name:session>")
@access.page("read", restricted=True)
def session_page(session: str) -> Response:
    log = caller.repository()
    query = pagination.read(request, pagination.TurnsQuery)
    target = log.interaction_id(session, query.turn) if query.turn else None
    found = log.conversation(session, _conversation_query(query, target))
    outline, page = found["outline"], found["transcript"]
    assert page is not None  # noqa: S101 - it was asked for
    # the page starts with the turn before it, which shows gaps and resent messages at the page's first turn
    before = 1 if outline and outline["index"] else 0
    turns = [_turn(row) for row in page["interactions"]]
    _mark_gaps(turns)
    _hide_resent_messages(turns)
    turns = turns[before:]
    first = turns[0] if turns else None
    people = found["participants"]
    return pages.render(
        "session.html",
        session=found["session"],
        turns=turns,
        outline=outline,
        costs=[_cost(model) for model in outline["models"]] if outline else [],
        complete=page["complete"],
        next=cursors.transcript_cursor(page["after"]),
        previous=cursors.transcript_cursor(_place(first)) if first and outline and outline["index"] else None,
        target=target,
        has_target=target is None or any(turn["interaction_id"] == target for turn in turns),
        participants=people["participants"] if people else [],
        neighbours=_neighbours(found["session"], found["folder"]),
        feedback=feedback_page.by_turn_of(found["feedback"]),
        scores=feedback_page.SCORES,
        to_html=markdown.to_html,
    )


def _conversation_query(parameters: pagination.TurnsQuery, target: str | None) -> ops.ConversationOptions:
    query: ops.ConversationOptions = {"limit": TURNS, "feedback": feedback_page.MAX_SHOWN}
    if target:
        query["interaction_id"] = target
    if parameters.after:
        query["after"] = parameters.after
    if parameters.before:
        query["before"] = parameters.before
    if not pages.is_restricted():
        query["neighbours"] = _NEIGHBOURS
    return query


def _turn(row: ops.Interaction) -> Turn:
    estimate = None
    if row["cost_usd"] is None:
        at = datetime.fromisoformat(row["started_at"] or row["created_at"])
        estimate = pricing.estimate(row["model"], row["provider"], row["input_tokens"], row["output_tokens"], at)
    return {**row, "bubbles": bubbles.of_interaction(row), "missing": None, "resent": 0, "estimate": estimate}


def _cost(model: ops.ModelOfSession) -> dict[str, Any]:
    """Return the cost of a model in a session, `usd` None if unknown, and whether a part of it is estimated."""
    unpriced, estimate = model["unpriced"], None
    if unpriced["interactions"]:
        estimate = pricing.estimate_sum(
            model["model"],
            model["provider"],
            unpriced["interactions"],
            unpriced["input_tokens"] or 0,
            unpriced["output_tokens"] or 0,
        )
    logged = None if model["cost_usd"] is None else Decimal(str(model["cost_usd"]))
    usd = None if logged is None and estimate is None else (logged or 0) + (estimate or 0)
    return {"usd": usd, "estimated": estimate is not None}


def _hide_resent_messages(turns: list[Turn]) -> None:
    """Hide the messages of earlier turns, which stateless clients send again with each prompt."""
    for before, turn in itertools.pairwise(turns):
        if isinstance(before["prompt"], list) and isinstance(turn["prompt"], list):
            count = _count_resent([*before["prompt"], *_messages(before["response"])], turn["prompt"])
            turn["resent"] = count
            turn["bubbles"] = turn["bubbles"][count:]


def _messages(response: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    if isinstance(response, str):
        return [{"role": "assistant", "content": response}]
    return response or []


def _count_resent(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> int:
    """Return how many messages at the start of `now` are those of `before`; its last one is never counted."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, now[:-1], strict=False))
    return sum(1 for _ in same)


def _mark_gaps(turns: list[Turn]) -> None:
    """Set `missing` of each turn whose number leaves a gap after the turn before it."""
    for before, turn in itertools.pairwise(turns):
        if before["turn"] is not None and turn["turn"] is not None and turn["turn"] > before["turn"] + 1:
            turn["missing"] = (before["turn"] + 1, turn["turn"] - 1)


def _place(row: ops.Interaction) -> ops.TurnCursor:
    return {
        "turn": row["turn"] if row["turn"] is not None else NO_TURN,
        "at": row["started_at"] or row["created_at"],
        "interaction_id": row["interaction_id"],
    }


def _neighbours(session: ops.Session, page: ops.FolderPage[Any] | None) -> dict[str, Any] | None:
    """Return a session's folder and its neighbours there; None if it has no folder, or while the store is away."""
    if page is None:
        return None
    number = session["session_number"]
    by_number = {each["session_number"]: each for each in page["sessions"]} if number is not None else {}
    return {
        "folder": page["folder"],
        "before": by_number.get((number or 0) - 1),
        "after": by_number.get((number or 0) + 1),
    }
