"""What people said of the turns of a conversation, and the form that says it, on that conversation's page."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from flask import Blueprint, Response, request, url_for
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from conversation import access, pages
from conversation.api import http, problems, requests
from logging_store import operations as ops
from logging_store.batches import Receipt
from logging_store.records.models import Feedback
from logging_store.records.values import MAX_FEEDBACK

blueprint = Blueprint("pages_feedback", __name__)

SCORES = range(1, 6)
SHOWN = 1000  # of a page's turns
_THUMBS = {"up": True, "down": False}


def _no_blank(text: object) -> object:
    # browsers send what was left empty, and end lines as mail does
    return text.replace("\r\n", "\n").strip() or None if isinstance(text, str) else text


_EMPTY = BeforeValidator(_no_blank)


class _Form(BaseModel):
    """What the form sends: any of these; what is left empty isn't said."""

    model_config = ConfigDict(extra="ignore")

    rating: Annotated[Literal["up", "down"] | None, _EMPTY] = None
    score: Annotated[Annotated[int, Field(ge=SCORES[0], le=SCORES[-1])] | None, _EMPTY] = None
    note: Annotated[Annotated[str, Field(max_length=MAX_FEEDBACK)] | None, _EMPTY] = None

    def values(self) -> dict[str, Any]:
        """Return what is said, by the names under which it is kept."""
        rating = None if self.rating is None else _THUMBS[self.rating]
        said = {"rating": rating, "score": self.score, "note": self.note}
        return {name: value for name, value in said.items() if value is not None}


@blueprint.post("/sessions/<name:session>/interactions/<name:interaction>/feedback")
@access.page("log", restricted=True)
def give(session: str, interaction: str) -> Response:
    values = requests.validate(_Form, request.form.to_dict()).values()
    if not values:
        return _back(session, interaction, "nothing-said")
    of_turn = {"session_id": session, "interaction_id": interaction, "author": author()}
    stated = [requests.validate(Feedback, {**of_turn, "name": name, "value": value}) for name, value in values.items()]
    kept = http.repository().write(stated)
    if refused := next((one.receipt for one in kept if not one.receipt.acknowledged), None):
        return problems.refused(refused, {})
    return _back(session, interaction, _said([one.receipt for one in kept]))


def author() -> str:
    """Return whose word it is: the user's who signed in, or that of the key with which somebody did."""
    caller = pages.visitor()
    return caller.user_id or caller.name or caller.kind


class OfTurns(NamedTuple):
    """What was said of turns, by their ids; None while nobody can tell. `own`: what the visitor said, by name."""

    by_turn: dict[str, list[ops.Feedback]] | None
    own: dict[str, dict[str, Any]]
    complete: bool


def of_turns(page: ops.FeedbackPage[Any] | None) -> OfTurns:
    if page is None:
        return OfTurns(None, {}, complete=False)
    by_turn: dict[str, list[ops.Feedback]] = {}
    own: dict[str, dict[str, Any]] = {}
    me = author()
    for row in page["feedback"]:
        by_turn.setdefault(row["interaction_id"], []).append(row)
        if row["author"] == me:
            own.setdefault(row["interaction_id"], {})[row["name"]] = row["value"]
    return OfTurns(by_turn, own, page["after"] is None)


def _said(receipts: Sequence[Receipt]) -> str:
    if any(each.reason for each in receipts):  # that it is older than what is stored
        return "feedback-older"
    return "feedback-waits" if any(each.receipt == "spooled" for each in receipts) else "feedback-kept"


def _back(session: str, interaction: str, said: str) -> Response:
    where = url_for("pages_transcript.transcript", session=session, turn=interaction, said=said)
    return pages.send_on(f"{where}#i-{http.repository().interaction_id(session, interaction)}")
