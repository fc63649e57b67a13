"""Dead letters, for who administers the service: what the store refused after it was acknowledged, and what to do.

They are on the disk of the machine that answers, like the spool that they come from.
"""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, current_app, request, url_for

from conversation import access, pages
from conversation.api import http
from conversation.problem_codes import Refused
from conversation.settings import Settings
from logging_store.batches import Receipt
from logging_store.spool import DeadLetters
from logging_store.spool import dead_letters as decisions
from logging_store.spool.dead_letters import DeadLetter

blueprint = Blueprint("pages_dead_letters", __name__)

_PAGE = 50


@blueprint.get("/dead-letters")
@access.page("admin", of_service=True)
def dead_letters() -> Response:
    return _page(request.args.get("after", 0, type=int))


@blueprint.post("/dead-letters/<int:number>/retry")
@access.page("admin", of_service=True)
def retry(number: int) -> Response:
    receipt, gone = decisions.retry(http.repository().store, _letters(), _find(number))
    if not gone:
        return _page(number - 1, 409, refused=(number, decisions.describe(receipt, ": ")))
    said = {"spooled": "letter-spooled", "rejected": "letter-erased"}.get(receipt.receipt, "letter-stored")
    return pages.go("pages_dead_letters.dead_letters", said=said)


@blueprint.post("/dead-letters/<int:number>/discard")
@access.page("admin", of_service=True)
def discard(number: int) -> Response:
    _letters().remove(_find(number).number)
    return pages.go("pages_dead_letters.dead_letters", said="letter-discarded")


def _page(after: int, status: int = 200, **more: Any) -> Response:
    letters = _letters()
    readable = letters.count() is not None
    found = letters.list(_PAGE + 1, max(after, 0)) if readable else []
    shown = found[:_PAGE]
    return pages.render(
        "dead_letters.html",
        status,
        readable=readable,
        letters=[_told(letter) for letter in shown],
        next=url_for(".dead_letters", after=shown[-1].number) if len(found) > _PAGE else None,
        **more,
    )


def _told(letter: DeadLetter) -> dict[str, Any]:
    return {
        "number": letter.number,
        "project": letter.project,
        "session_id": letter.session_id,
        "record_id": letter.record_id,
        "acknowledged_at": datetime.fromtimestamp(letter.spooled_at, UTC),
        "rejected_at": datetime.fromtimestamp(letter.rejected_at, UTC),
        "reason": decisions.describe(Receipt.model_validate(letter.receipt), ": "),
        "receipt": letter.receipt,
        "batch": letter.batch.to_json(),
    }


def _find(number: int) -> DeadLetter:
    letter = _letters().get(number)
    if letter is None:
        raise Refused(
            "not-found", f"There is no dead letter {number} on this machine: somebody may have dealt with it already"
        )
    return letter


def _letters() -> DeadLetters:
    settings: Settings = current_app.extensions["turnlog_settings"]
    return DeadLetters(settings.spool_dir)
