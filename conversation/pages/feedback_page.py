"""Feedback on a session's page: reading it, and the form that gives it."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from flask import Blueprint, Response, request, url_for
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from conversation import access, pages
from conversation.api import caller, problems, requests
from logging_store import operations as ops
from logging_store.batches import Receipt
from logging_store.records.models import Feedback
from logging_store.records.values import MAX_FEEDBACK

blueprint = Blueprint("pages_feedback", __name__)

SCORES = range(1, 6)
MAX_SHOWN = 1000  # for all turns of a page
_THUMBS = {"up": True, "down": False}


def _blank_to_none(text: object) -> object:
    # browsers send empty fields, and CRLF line ends
    return text.replace("\r\n", "\n").strip() or None if isinstance(text, str) else text


_EMPTY = BeforeValidator(_blank_to_none)


class _Form(BaseModel):
    """The fields of the form, each optional."""

    model_config = ConfigDict(extra="ignore")

    rating: Annotated[Literal["up", "down"] | None, _EMPTY] = None
    score: Annotated[Annotated[int, Field(ge=SCORES[0], le=SCORES[-1])] | None, _EMPTY] = None
    note: Annotated[Annotated[str, Field(max_length=MAX_FEEDBACK)] | None, _EMPTY] = None

    def values(self) -> dict[str, Any]:
        """Return the values given, by the names under which they are stored."""
        rating = None if self.rating is None else _THUMBS[self.rating]
        values = {"rating": rating, "score": self.score, "note": self.note}
        return {name: value for name, value in values.items() if value is not None}


@blueprint.post("/sessions/<name:session>/interactions/<name:interaction>/feedback")
@access.page("log", restricted=True)
def give(session: str, interaction: str) -> Response:
    values = requests.validate(_Form, request.form.to_dict()).values()
    if not values:
        return _back(session, interaction, "feedback-empty")
    about = {"session_id": session, "interaction_id": interaction, "author": author()}
    records = [requests.validate(Feedback, {**about, "name": name, "value": value}) for name, value in values.items()]
    results = caller.repository().write(records)
    if rejected := next((each.receipt for each in results if not each.receipt.acknowledged), None):
        return problems.receipt_problem(rejected, {})
    return _back(session, interaction, _message([each.receipt for each in results]))


def author() -> str:
    """Return the author of the visitor's feedback: the signed-in user, or the key of the sign-in."""
    caller = pages.visitor()
    return caller.user_id or caller.name or caller.kind


class TurnFeedback(NamedTuple):
    """The feedback on a page's turns. `by_turn`: by interaction id; None while the store is away.

    `own`: the visitor's values, by interaction id and name. `complete`: whether this is all feedback on the turns.
    """

    by_turn: dict[str, list[ops.Feedback]] | None
    own: dict[str, dict[str, Any]]
    complete: bool


def by_turn_of(page: ops.FeedbackPage[Any] | None) -> TurnFeedback:
    if page is None:
        return TurnFeedback(None, {}, complete=False)
    by_turn: dict[str, list[ops.Feedback]] = {}
    own: dict[str, dict[str, Any]] = {}
    visitor = author()
    for row in page["feedback"]:
        by_turn.setdefault(row["interaction_id"], []).append(row)
        if row["author"] == visitor:
            own.setdefault(row["interaction_id"], {})[row["name"]] = row["value"]
    return TurnFeedback(by_turn, own, page["after"] is None)


def _message(receipts: Sequence[Receipt]) -> str:
    if any(each.reason for each in receipts):  # the only one: it is older than the stored value
        return "feedback-older"
    return "feedback-spooled" if any(each.receipt == "spooled" for each in receipts) else "feedback-saved"


def _back(session: str, interaction: str, message: str) -> Response:
    url = url_for("pages_session.session_page", session=session, turn=interaction, message=message)
    return pages.redirect(f"{url}#i-{caller.repository().interaction_id(session, interaction)}")
