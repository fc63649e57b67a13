"""The interactions' endpoints. One record is a batch of one."""

from collections import Counter
from typing import Annotated, Any

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field

from conversation import access, answers, body, http, problems
from conversation.openapi import describe
from logging_store.records import Interaction
from logging_store.repository import Kept

blueprint = access.guard(Blueprint("interactions", __name__))

LARGEST_BATCH = 1000


class InteractionBatch(BaseModel):
    """Up to 1,000 interactions, of any sessions."""

    model_config = ConfigDict(strict=True, extra="forbid")

    interactions: Annotated[list[Any], Field(min_length=1, max_length=LARGEST_BATCH)]


class DescribedBatch(InteractionBatch):
    """Up to 1,000 interactions, of any sessions; each is checked by itself, so that a bad one harms no other.

    One interaction may stand in it a hundred times.
    """

    interactions: Annotated[list[Interaction], Field(min_length=1, max_length=LARGEST_BATCH)]


def interaction_ids(kept: Kept) -> dict[str, Any]:
    ids = {"session_id": kept.session.id, "session_key": kept.session.key}
    if kept.interaction is not None:
        ids |= {"interaction_id": kept.interaction.id, "interaction_key": kept.interaction.key}
    return ids


def receipt_body(kept: Kept) -> dict[str, Any]:
    return interaction_ids(kept) | {"receipt": kept.receipt.receipt, "fields": kept.receipt.fields}


@blueprint.post("/v1/interactions")
@describe(
    "Log an interaction; its session is ensured in the same transaction",
    Interaction,
    {201: answers.InteractionKept, 200: answers.InteractionKept, 202: answers.InteractionSpooled},
)
def log_interaction() -> Response:
    (kept,) = http.repository().log([http.read_record(Interaction)])
    if not kept.receipt.kept:
        return problems.refused(kept.receipt, interaction_ids(kept))
    return http.answer(http.status_of(kept.receipt), receipt_body(kept))


@blueprint.post("/v1/interactions/batch")
@describe(
    "Log up to 1,000 interactions in one transaction, with a receipt for each",
    DescribedBatch,
    {200: answers.BatchKept, 202: answers.BatchKept, 207: answers.BatchKept},
)
def log_batch() -> Response:
    items = body.read(InteractionBatch).interactions
    receipts: list[dict[str, Any]] = [{} for _ in items]
    valid: dict[int, Interaction] = {}
    for index, item in enumerate(items):
        try:
            valid[index] = body.validate(Interaction, item, ("interactions", index))
        except body.InvalidBody as error:
            receipts[index] = {
                "index": index,
                "receipt": "rejected",
                "reason": "invalid",
                "fields": error.fields,
            }
    http.repository().ledger.reject(len(items) - len(valid))
    if valid:
        for index, kept in zip(valid, http.repository().log(list(valid.values())), strict=True):
            receipts[index] = {"index": index} | _item(kept, index)
    counts = Counter(receipt["receipt"] for receipt in receipts)
    status = 207 if counts["rejected"] or counts["conflict"] else 202 if counts["spooled"] else 200
    return http.answer(status, {"receipts": receipts, "counts": counts})


def _item(kept: Kept, index: int) -> dict[str, Any]:
    receipt = kept.receipt
    item = receipt_body(kept)
    if not receipt.kept:
        detail = receipt.reason or "Another value is stored"
        item["fields"] = [
            {"path": body.json_path(("interactions", index, *field.split(".", 1))), "detail": detail}
            for field in receipt.fields
        ]
        if receipt.reason:
            item["reason"] = receipt.reason
        if receipt.constraint:
            item |= problems.clash(receipt)
    return item
