"""One session as a chat: a page of a branch's turns, and the session's details beside it."""

import itertools
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from flask import Blueprint, Response, request, url_for

from conversation import access, pages
from conversation.api import caller, cursors, pagination, pricing
from conversation.pages import bubbles, feedback_page, markdown
from logging_store import operations as ops
from logging_store.repository import ConversationRepository

blueprint = Blueprint("pages_session", __name__)

TURNS = 50  # of a page; more would be slow to render
_NEIGHBOURS = 3
_MAX_GAPS = 1000
_MAX_REVISIONS = 100  # of all turns of a page
_SHOWN_FACTS = frozenset({"prompt", "response", "error", "completed_at"})  # the last as the time of the whole


class Turn(ops.Interaction):
    """An interaction as the page shows it.

    `missing`: the first and the last number of each gap in the turns before it. `resent`: how many messages of its
    prompt repeat earlier turns. `estimate`: its cost in USD by known prices, if none was logged.
    `place`: its place among its alternatives, if it has any. `asked`: its question, if it is another answer to one and
    has no prompt of its own. `earlier`: what was said of it and isn't shown, newest first.
    """

    bubbles: list[bubbles.Bubble]
    missing: list[tuple[int, int]]
    resent: int
    estimate: Decimal | None
    place: "Place | None"
    asked: "Asked | None"
    earlier: list["Version"]


class Version(NamedTuple):
    """A revision. `others`: its facts beside those and its end."""

    said_at: str
    status: str | None
    bubbles: list[bubbles.Bubble]
    error: str | None
    others: dict[str, Any]


class Asked(NamedTuple):
    """What an interaction asked."""

    session_id: str
    interaction_id: str
    bubbles: list[bubbles.Bubble]


class Place(NamedTuple):
    """The how manieth of how many alternatives, the ids of its neighbours, and whether it is the current one."""

    nth: int
    total: int
    previous: str | None
    next: str | None
    is_current: bool


@blueprint.get("/sessions/<name:session>")
@access.page("read", restricted=True)
def session_page(session: str) -> Response:
    log = caller.repository()
    query = pagination.read(request, pagination.TurnsQuery)
    target = log.interaction_id(session, query.turn) if query.turn else None
    branch = log.interaction_id(session, query.branch) if query.branch else None
    found = log.conversation(session, _conversation_query(query, target, branch))
    outline, page = found["outline"], found["transcript"]
    assert page is not None  # noqa: S101 - it was asked for
    # the page starts with the turn before it, which shows gaps and resent messages at the page's first turn
    before = 1 if outline and outline["index"] else 0
    history = bubbles.History()
    revisions = found["revisions"]["revisions"] if found["revisions"] else []
    turns = [_turn(row, history, revisions) for row in page["interactions"]]
    _mark_gaps(turns, _known_gaps(log, session) if outline and outline["others"] else None)
    turns = turns[before:]
    first = turns[0] if turns else None
    people = found["participants"]
    return pages.render(
        "session.html",
        session=found["session"],
        turns=turns,
        outline=outline,
        costs=[_cost(model, _began(found["session"])) for model in outline["models"]] if outline else [],
        complete=page["complete"],
        next=cursors.transcript_cursor(page["after"]),
        previous=cursors.transcript_cursor(_cursor(first, outline)) if first and outline and outline["index"] else None,
        branch=page["branch"],
        target=target,
        has_target=target is None or any(turn["interaction_id"] == target for turn in turns),
        has_branch=branch is None or page["branch"] is not None,
        participants=people["participants"] if people else [],
        neighbours=_neighbours(found["session"], found["folder"]),
        feedback=feedback_page.by_turn_of(found["feedback"]),
        has_all_revisions=found["revisions"] is not None and found["revisions"]["after"] is None,
        scores=feedback_page.SCORES,
        to_html=markdown.to_html,
    )


@blueprint.post("/sessions/<name:session>/interactions/<name:interaction>/choose")
@access.page("edit")
def choose(session: str, interaction: str) -> Response:
    log = caller.repository()
    log.choose(session, interaction)
    url = url_for("pages_session.session_page", session=session, turn=interaction, message="branch-chosen")
    return pages.redirect(f"{url}#i-{log.interaction_id(session, interaction)}")


def _conversation_query(
    parameters: pagination.TurnsQuery, target: str | None, branch: str | None
) -> ops.ConversationOptions:
    query: ops.ConversationOptions = {"limit": TURNS, "feedback": feedback_page.MAX_SHOWN, "branches": "current"}
    query["revisions"] = _MAX_REVISIONS
    if branch:
        query["branch"] = branch
    if target:
        query["interaction_id"] = target
    if parameters.after:
        query["after"] = parameters.after
    if parameters.before:
        query["before"] = parameters.before
    if not pages.is_restricted():
        query["neighbours"] = _NEIGHBOURS
    return query


def _turn(row: ops.Interaction, history: bubbles.History, revisions: Sequence[ops.Revision]) -> Turn:
    estimate = None
    if row["cost_usd"] is None:
        at = datetime.fromisoformat(row["started_at"] or row["created_at"])
        estimate = pricing.prices().estimate(row["model"], row["provider"], row, at)
    new = history.new_bubbles(row)
    return {
        **row,
        "bubbles": new,
        "missing": [],
        "resent": len(bubbles.of_interaction(row)) - len(new),
        "estimate": estimate,
        "place": _place(row),
        "asked": _asked(row),
        "earlier": [_version(row, each) for each in revisions if each["interaction_id"] == row["interaction_id"]],
    }


def _asked(row: ops.Interaction) -> Asked | None:
    question = row.get("question")
    return question and Asked(row["session_id"], question["interaction_id"], bubbles.of_question(row))


def _version(row: ops.Interaction, revision: ops.Revision) -> Version:
    facts = revision["facts"]
    said: ops.Interaction = {**row, "prompt": facts.get("prompt"), "response": facts.get("response")}
    said["model"] = facts.get("model", row["model"])
    others = {name: value for name, value in facts.items() if name not in _SHOWN_FACTS}
    shown = bubbles.without_images(bubbles.of_interaction(said))
    return Version(revision["said_at"], revision["status"], shown, facts.get("error"), others)


def _place(row: ops.Interaction) -> Place | None:
    ids = [each["interaction_id"] for each in row["alternatives"]]
    if row["interaction_id"] not in ids:
        return None
    n = ids.index(row["interaction_id"])
    following = ids[n + 1] if n + 1 < len(ids) else None
    return Place(n + 1, len(ids), ids[n - 1] if n else None, following, row["alternatives"][n]["current"])


def _cursor(row: ops.Interaction, outline: ops.Outline) -> ops.TurnCursor:
    cursor = ops.cursor_of(row)
    return {**cursor, "branch": outline["last"]} if outline["last"] else cursor


def _cost(model: ops.ModelOfSession, at: datetime) -> dict[str, Any]:
    """Return the cost of a model in a session, `usd` None if unknown, and whether a part of it is estimated.

    `at`: the time whose prices apply.
    """
    unpriced, estimate = model["unpriced"], None
    if unpriced["interactions"]:
        estimate = pricing.prices().estimate_sum(model["model"], model["provider"], unpriced, pricing.noon(at))
    logged = None if model["cost_usd"] is None else Decimal(str(model["cost_usd"]))
    usd = None if logged is None and estimate is None else (logged or 0) + (estimate or 0)
    return {"usd": usd, "estimated": estimate is not None}


def _began(session: ops.Session) -> datetime:
    return datetime.fromisoformat(session["started_at"] or session["created_at"])


def _mark_gaps(turns: list[Turn], known: list[ops.TurnRange] | None) -> None:
    """Set `missing` of each turn whose number leaves a gap after the turn before it.

    `known`: the gaps of the session, since the numbers between two turns of a branch may be on other branches.
    """
    for before, turn in itertools.pairwise(turns):
        if before["turn"] is not None and turn["turn"] is not None and turn["turn"] > before["turn"] + 1:
            first, last = before["turn"] + 1, turn["turn"] - 1
            if known is None:
                turn["missing"] = [(first, last)]
            else:
                turn["missing"] = [
                    (gap["from"], gap["to"]) for gap in known if gap["from"] >= first and gap["to"] <= last
                ]


def _known_gaps(log: ConversationRepository, session: str) -> list[ops.TurnRange]:
    return log.gaps(session, _MAX_GAPS)["gaps"]


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
