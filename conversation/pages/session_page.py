"""One conversation, as a chat: a page of its turns, and what is known of the session beside it."""

import itertools
from datetime import datetime
from decimal import Decimal
from typing import Any

from flask import Blueprint, Response, request

from conversation import access, pages
from conversation.api import cursors, http, pagination, pricing
from conversation.pages import bubbles, feedback_page, markdown
from logging_store import operations as ops
from logging_store.records.json_values import NO_TURN

blueprint = Blueprint("pages_transcript", __name__)

TURNS = 50  # of a page: more are slow to read, for people and browsers
_NEIGHBOURS = 3


class Turn(ops.Interaction):
    """An interaction as the page shows it.

    `missing`: the first and the last turn that nobody logged before it. `sent_again`: messages that it only repeats.
    `estimate`: what it cost by public prices, where nobody stated it.
    """

    bubbles: list[bubbles.Bubble]
    missing: tuple[int, int] | None
    sent_again: int
    estimate: Decimal | None


@blueprint.get("/sessions/<name:session>")
@access.page("read", restricted=True)
def transcript(session: str) -> Response:
    log = http.repository()
    asked = pagination.read(request, pagination.TurnsQuery)
    sought = log.interaction_id(session, asked.turn) if asked.turn else None
    found = log.conversation(session, _query(asked, sought))
    outline, page = found["outline"], found["transcript"]
    assert page is not None  # noqa: S101 - only a session that can't be read has none
    # the turn before the page is read along: what is missing after it, and what is only said again, is told by it
    before = 1 if outline and outline["index"] else 0
    turns = [_turn(row) for row in page["interactions"]]
    _mark_gaps(turns)
    _fold_history(turns)
    turns = turns[before:]
    first = turns[0] if turns else None
    people = found["participants"]
    return pages.render(
        "transcript.html",
        session=found["session"],
        turns=turns,
        outline=outline,
        costs=[_cost(model) for model in outline["models"]] if outline else [],
        complete=page["complete"],
        next=cursors.transcript_cursor(page["after"]),
        previous=cursors.transcript_cursor(_place(first)) if first and outline and outline["index"] else None,
        sought=sought,
        is_found=sought is None or any(turn["interaction_id"] == sought for turn in turns),
        participants=people["participants"] if people else [],
        neighbours=_neighbours(found["session"], found["folder"]),
        feedback=feedback_page.of_turns(found["feedback"]),
        scores=feedback_page.SCORES,
        to_html=markdown.to_html,
    )


def _query(asked: pagination.TurnsQuery, sought: str | None) -> ops.ConversationOptions:
    query: ops.ConversationOptions = {"limit": TURNS, "feedback": feedback_page.SHOWN}
    if sought:
        query["interaction_id"] = sought
    if asked.after:
        query["after"] = asked.after
    if asked.before:
        query["before"] = asked.before
    if not pages.sees_only_their_own():
        query["neighbours"] = _NEIGHBOURS
    return query


def _turn(row: ops.Interaction) -> Turn:
    estimate = None
    if row["cost_usd"] is None:
        at = datetime.fromisoformat(row["started_at"] or row["created_at"])
        estimate = pricing.estimate(row["model"], row["provider"], row["input_tokens"], row["output_tokens"], at)
    return {**row, "bubbles": bubbles.of(row), "missing": None, "sent_again": 0, "estimate": estimate}


def _cost(model: ops.ModelOfSession) -> dict[str, Any]:
    """Return what a model cost in a session: what was stated, and what had to be estimated of it; None if unknown."""
    unpriced, estimate = model["unpriced"], None
    if unpriced["interactions"]:
        estimate = pricing.estimate_sum(
            model["model"],
            model["provider"],
            unpriced["interactions"],
            unpriced["input_tokens"] or 0,
            unpriced["output_tokens"] or 0,
        )
    stated = None if model["cost_usd"] is None else Decimal(str(model["cost_usd"]))
    usd = None if stated is None and estimate is None else (stated or 0) + (estimate or 0)
    return {"usd": usd, "estimated": estimate is not None}


def _fold_history(turns: list[Turn]) -> None:
    """Leave out of a turn what it only says again: clients of a model send it all that was said before, each time."""
    for before, turn in itertools.pairwise(turns):
        if isinstance(before["prompt"], list) and isinstance(turn["prompt"], list):
            again = _said_again([*before["prompt"], *_messages(before["response"])], turn["prompt"])
            turn["sent_again"] = again
            turn["bubbles"] = turn["bubbles"][again:]


def _messages(response: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    if isinstance(response, str):
        return [{"role": "assistant", "content": response}]
    return response or []


def _said_again(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> int:
    """Return how many messages at the beginning are the same; the last one is never among them."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, now[:-1], strict=False))
    return sum(1 for _ in same)


def _mark_gaps(turns: list[Turn]) -> None:
    """Note before which turns others are missing, by the caller's own count: `missing` is the first and the last."""
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
    """Return a session's folder, with the sessions before and after it; None if it is in none, or nobody can tell."""
    if page is None:
        return None
    number = session["session_number"]
    near = {each["session_number"]: each for each in page["sessions"]} if number is not None else {}
    return {"folder": page["folder"], "before": near.get((number or 0) - 1), "after": near.get((number or 0) + 1)}
