"""One conversation, as a chat: a page of its turns, and what is known of the session beside it."""

import itertools
from datetime import datetime
from decimal import Decimal
from typing import Any

from flask import Blueprint, Response, request

from conversation import access, cursors, http, pages, paging, pricing
from conversation.pages import bubbles, feedback, markdown
from logging_store import identity
from logging_store.errors import StoreUnavailable
from logging_store.repository import ConversationRepository

blueprint = Blueprint("pages_transcript", __name__)

TURNS = 50  # of a page: more are slow to read, for people and browsers
_NEIGHBOURS = 3


@blueprint.get("/sessions/<name:session>")
@access.page("read", restricted=True)
def transcript(session: str) -> Response:
    log = http.repository()
    found = _session(log, session)
    name = found["session_id"]
    asked = paging.read(request, paging.TurnsQuery)
    sought = identity.interaction(log.project, name, asked.turn).id if asked.turn else None
    query = {"limit": TURNS, "interaction_id": sought, "after": asked.after, "before": asked.before}
    query = {name: value for name, value in query.items() if value is not None}
    outline = _outline(log, name, query)
    # the turn before the page is read along: what is missing after it, and what is only said again, is told by it
    before = 1 if outline and outline["index"] else 0
    # without the outline the page that was asked for is read as far as its address tells
    after = (outline["context"] if before else outline["after"]) if outline else asked.after
    page = log.transcript(name, {"limit": TURNS + before} | ({"after": after} if after else {}))
    turns = [_turn(row) for row in page["interactions"]]
    _mark_gaps(turns)
    _fold_history(turns)
    turns = turns[before:]
    first = turns[0] if turns else None
    return pages.render(
        "transcript.html",
        session=found,
        turns=turns,
        outline=outline,
        costs=[_cost(model) for model in outline["models"]] if outline else [],
        complete=page.get("complete", True),
        next=cursors.transcript_cursor(page["after"]),
        previous=cursors.transcript_cursor(_place(first)) if first and outline and outline["index"] else None,
        sought=sought,
        is_found=sought is None or any(turn["interaction_id"] == sought for turn in turns),
        participants=_participants(log, name),
        neighbours=_neighbours(log, found),
        feedback=feedback.of_turns(log, name, turns),
        scores=feedback.SCORES,
        to_html=markdown.to_html,
    )


def _session(log: ConversationRepository, name: str) -> dict[str, Any]:
    try:
        return log.session(name)
    except StoreUnavailable:
        # what waits of it on this machine, if anything does
        waiting: dict[str, Any] = log.transcript(name, {"limit": 1})["session"]
        return waiting


def _outline(log: ConversationRepository, name: str, query: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return log.outline(name, query)
    except StoreUnavailable:
        return None  # what waits on this machine can be read all the same


def _participants(log: ConversationRepository, name: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = log.participants(name)["participants"]
    except StoreUnavailable:
        return []
    return found


def _turn(row: dict[str, Any]) -> dict[str, Any]:
    estimate = None
    if row["cost_usd"] is None:
        at = datetime.fromisoformat(row["started_at"] or row["created_at"])
        estimate = pricing.estimate(row["model"], row["provider"], row["input_tokens"], row["output_tokens"], at)
    return row | {"bubbles": bubbles.of(row), "missing": None, "sent_again": 0, "estimate": estimate}


def _cost(model: dict[str, Any]) -> dict[str, Any]:
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


def _fold_history(turns: list[dict[str, Any]]) -> None:
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


def _mark_gaps(turns: list[dict[str, Any]]) -> None:
    """Note before which turns others are missing, by the caller's own count: `missing` is the first and the last."""
    for before, turn in itertools.pairwise(turns):
        if before["turn"] is not None and turn["turn"] is not None and turn["turn"] > before["turn"] + 1:
            turn["missing"] = (before["turn"] + 1, turn["turn"] - 1)


def _place(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "turn": row["turn"] if row["turn"] is not None else cursors.UNCOUNTED,
        "at": row["started_at"] or row["created_at"],
        "interaction_id": row["interaction_id"],
    }


def _neighbours(log: ConversationRepository, session: dict[str, Any]) -> dict[str, Any] | None:
    """Return a session's folder, with the sessions before and after it; None if it is in none, or nobody can tell."""
    number = session["session_number"]
    if session["folder_id"] is None or pages.sees_only_their_own():
        return None
    query: dict[str, Any] = {"limit": _NEIGHBOURS}
    if number is not None and number > 1:
        query["after"] = {"number": number - 2, "session_id": cursors.LAST_ID}
    try:
        found = log.folder(session["folder_id"], query)
    except StoreUnavailable:
        return None
    near = found["sessions"] if number is not None else []
    return {
        "folder": found["folder"],
        "before": next((each for each in near if each["session_number"] == (number or 0) - 1), None),
        "after": next((each for each in near if each["session_number"] == (number or 0) + 1), None),
    }
