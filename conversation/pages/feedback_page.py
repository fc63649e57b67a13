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
_THUMBS = {"up": True, "down": False, "none": None}


def _blank_to_none(text: object) -> object:
    # browsers send empty fields, and CRLF line ends
    return text.replace("\r\n", "\n").strip() or None if isinstance(text, str) else text


_EMPTY = BeforeValidator(_blank_to_none)


class _Form(BaseModel):
    """The fields of the form, each optional. `none` takes a thumb or a score back; `had_note`: the note was filled."""

    model_config = ConfigDict(extra="ignore")

    rating: Annotated[Literal["up", "down", "none"] | None, _EMPTY] = None
    score: Annotated[Annotated[int, Field(ge=SCORES[0], le=SCORES[-1])] | Literal["none"] | None, _EMPTY] = None
    note: Annotated[Annotated[str, Field(max_length=MAX_FEEDBACK)] | None, _EMPTY] = None
    had_note: Annotated[str | None, _EMPTY] = None

    def values(self) -> dict[str, Any]:
        """Return the values given, by the names under which they are stored; None takes one back."""
        values: dict[str, Any] = {}
        if self.rating is not None:
            values["rating"] = _THUMBS[self.rating]
        if self.score is not None:
            values["score"] = None if self.score == "none" else self.score
        if self.note is not None or self.had_note is not None:
            values["note"] = self.note
        return values


@blueprint.post("/sessions/<name:session>/interactions/<name:interaction>/feedback")
@access.page("log", restricted=True)
def give(session: str, interaction: str) -> Response:
    return _save({"session_id": session, "interaction_id": interaction})


@blueprint.post("/sessions/<name:session>/feedback")
@access.page("log", restricted=True)
def give_on_session(session: str) -> Response:
    return _save({"session_id": session})


def _save(on: dict[str, str]) -> Response:
    """Store the form's values. `on`: the session, and the interaction if the feedback is on one."""
    values = requests.validate(_Form, request.form.to_dict()).values()
    if not values:
        return _back(on, "feedback-empty")
    about = {**on, "author": author()}
    # refused if it can't be stored: the page that follows couldn't say that it was altered
    records = [
        requests.validate(Feedback, {**about, "name": name, "value": value}, replaces=False)
        for name, value in values.items()
    ]
    results = caller.repository().write(records)
    if rejected := next((each.receipt for each in results if not each.receipt.acknowledged), None):
        return problems.receipt_problem(rejected, {})
    receipts = [each.receipt for each in results]
    return _back(on, _message(receipts, is_taken_back=all(value is None for value in values.values())))


def author() -> str:
    """Return the author of the visitor's feedback: the signed-in user, or the key of the sign-in."""
    caller = pages.visitor()
    return caller.user_id or caller.name or caller.kind


class TurnFeedback(NamedTuple):
    """The feedback on a session and on a page's turns; None stands for the session. What was taken back is left out.

    `by_turn`: by interaction id; None while the store is away. `own`: the visitor's values, by interaction id and name.
    `complete`: whether this is all feedback on them.
    """

    by_turn: dict[str | None, list[ops.Feedback]] | None
    own: dict[str | None, dict[str, Any]]
    complete: bool


def by_turn_of(page: ops.FeedbackPage[Any] | None) -> TurnFeedback:
    if page is None:
        return TurnFeedback(None, {}, complete=False)
    by_turn: dict[str | None, list[ops.Feedback]] = {}
    own: dict[str | None, dict[str, Any]] = {}
    visitor = author()
    for row in page["feedback"]:
        if row["value"] is None:
            continue
        by_turn.setdefault(row["interaction_id"], []).append(row)
        if row["author"] == visitor:
            own.setdefault(row["interaction_id"], {})[row["name"]] = row["value"]
    return TurnFeedback(by_turn, own, page["after"] is None)


def _message(receipts: Sequence[Receipt], *, is_taken_back: bool) -> str:
    if any(each.reason for each in receipts):  # the only one: it is older than the stored value
        return "feedback-older"
    if any(each.receipt == "spooled" for each in receipts):
        return "feedback-spooled"
    return "feedback-taken-back" if is_taken_back else "feedback-saved"


def _back(on: dict[str, str], message: str) -> Response:
    session, interaction = on["session_id"], on.get("interaction_id")
    url = url_for("pages_session.session_page", session=session, turn=interaction, message=message)
    if interaction is None:
        return pages.redirect(f"{url}#feedback")
    return pages.redirect(f"{url}#i-{caller.repository().interaction_id(session, interaction)}")
