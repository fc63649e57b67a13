"""The interactions' endpoint, and what callers are told of an interaction. One record is a batch of one."""

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response

from conversation import access
from conversation.api import dry_run, http, interaction_schemas, problems, requests
from conversation.api.openapi import describe
from logging_store.records.models import Interaction
from logging_store.repository import WriteResult

blueprint = Blueprint("interactions", __name__)

_SEVERAL = 'Send several with POST /v1/interactions/batch as {"interactions": […]}'


def interaction_ids(kept: WriteResult) -> dict[str, Any]:
    session, interaction = kept.session, kept.interaction
    if interaction is None:
        return {"session_id": session.id, "session_key": session.key}
    return {
        "session_id": session.id,
        "session_key": session.key,
        "interaction_id": interaction.id,
        "interaction_key": interaction.key,
    }


def receipt_body(kept: WriteResult) -> dict[str, Any]:
    body_of = interaction_ids(kept)
    body_of["receipt"] = kept.receipt.receipt
    body_of["fields"] = kept.receipt.fields
    return body_of


def names_of(stated: Interaction, kept: WriteResult) -> dict[str, Any]:
    """Name an interaction: its ids, its key of several parts as it was sent, and what is stored in its place."""
    names = interaction_ids(kept)
    if stated.key is not None:
        names["key"] = stated.key
    if kept.receipt.receipt == "conflict" and kept.receipt.fields:
        names["held_by"] = names["interaction_id"]
    return names


def told(stated: Interaction, kept: WriteResult, at: Sequence[str | int] = ()) -> dict[str, Any]:
    """Return all that is to be told of an interaction. `at`: where in the body it stands."""
    receipt, item = kept.receipt, receipt_body(kept)
    if stated.key is not None:
        item["key"] = stated.key
    elif receipt.acknowledged and not receipt.differs:  # as nearly always
        return item
    if receipt.differs:
        item["differs"] = _field_problems(receipt.differs, "Another value is stored, and stays", at)
    if not receipt.acknowledged:
        item |= names_of(stated, kept)
        detail = receipt.reason if receipt.reason and receipt.receipt == "rejected" else "Another value is stored"
        item["fields"] = _field_problems(receipt.fields, detail, at)
        if receipt.constraint:
            item |= problems.clash(receipt)
    if receipt.reason:
        item["reason"] = receipt.reason
    return item


@blueprint.post("/v1/interactions")
@access.requires("log", restricted=True)
@describe(
    "Log an interaction; its session is ensured in the same transaction",
    Interaction,
    {
        201: interaction_schemas.InteractionKept,
        200: interaction_schemas.InteractionAnswered,
        202: interaction_schemas.InteractionSpooled,
    },
    query=dry_run.Query,
)
def log_interaction() -> Response:
    if dry_run.requested():
        stated = requests.read(Interaction, _SEVERAL)
        (kept,) = http.repository().dry_run([stated])
        return http.answer(200, dry_run.plan_of(stated, told(stated, kept)))
    stated = http.read_record(Interaction, _SEVERAL)
    (kept,) = http.repository().log([stated])
    if not kept.receipt.acknowledged:
        return problems.refused(kept.receipt, names_of(stated, kept))
    return http.answer(http.status_of(kept.receipt), receipt_body(kept))


def _field_problems(fields: Sequence[str], detail: str, at: Sequence[str | int]) -> list[dict[str, str]]:
    return [{"path": requests.json_path((*at, *field.split(".", 1))), "detail": detail} for field in fields]
