"""The dead letters: acknowledged records that the store rejected later. Administrators resend or discard them.

They lie on the disk of the machine that serves the page, like the spool that they come from.
"""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, current_app, request, url_for

from conversation import access, pages
from conversation.api import audit, caller
from conversation.refusals.codes import Refused
from conversation.settings import Settings
from logging_store.batches import Receipt
from logging_store.spool import DeadLetters
from logging_store.spool import dead_letters as letters_module
from logging_store.spool.dead_letters import DeadLetter

blueprint = Blueprint("pages_dead_letters", __name__)

_PAGE = 50


@blueprint.get("/dead-letters")
@access.page("admin", service_wide=True)
def dead_letters() -> Response:
    return _page(request.args.get("after", 0, type=int))


@blueprint.post("/dead-letters/<int:number>/retry")
@access.page("admin", service_wide=True)
def retry(number: int) -> Response:
    receipt, is_resolved = letters_module.retry(caller.repository().store, _letters(), _find(number))
    if not is_resolved:
        return _page(number - 1, 409, rejected=(number, letters_module.describe(receipt, ": ")))
    message = {"spooled": "letter-spooled", "rejected": "letter-erased"}.get(receipt.receipt, "letter-stored")
    return pages.redirect_after_post("pages_dead_letters.dead_letters", message=message)


@blueprint.post("/dead-letters/<int:number>/discard")
@access.page("admin", service_wide=True)
def discard(number: int) -> Response:
    _letters().remove(_find(number).number)
    return pages.redirect_after_post("pages_dead_letters.dead_letters", message="letter-discarded")


def _page(after: int, status: int = 200, **more: Any) -> Response:
    letters = _letters()
    readable = letters.count() is not None
    found = letters.list(_PAGE + 1, max(after, 0)) if readable else []
    shown = found[:_PAGE]
    audit.note({letter.session_id for letter in shown})
    return pages.render(
        "dead_letters.html",
        status,
        readable=readable,
        letters=[_view_of(letter) for letter in shown],
        next=url_for(".dead_letters", after=shown[-1].number) if len(found) > _PAGE else None,
        **more,
    )


def _view_of(letter: DeadLetter) -> dict[str, Any]:
    return {
        "number": letter.number,
        "project": letter.project,
        "session_id": letter.session_id,
        "record_id": letter.record_id,
        "acknowledged_at": datetime.fromtimestamp(letter.spooled_at, UTC),
        "rejected_at": datetime.fromtimestamp(letter.rejected_at, UTC),
        "reason": letters_module.describe(Receipt.model_validate(letter.receipt), ": "),
        "receipt": letter.receipt,
        "batch": letter.batch.to_json(),
    }


def _find(number: int) -> DeadLetter:
    letter = _letters().get(number)
    if letter is None:
        raise Refused(
            "not-found",
            f"There is no dead letter {number} on this machine. It may have been resent or discarded already",
        )
    return letter


def _letters() -> DeadLetters:
    settings: Settings = current_app.extensions["turnlog_settings"]
    return DeadLetters(settings.spool_dir)
