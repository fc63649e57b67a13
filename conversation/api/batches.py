"""The endpoint that takes many interactions at once: one transaction, and a receipt for each item."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from conversation import access
from conversation.api import batch_log, dry_run, http, interaction_schemas, interactions, requests
from conversation.api.openapi import describe
from logging_store import write_pipeline
from logging_store.batches import OnConflict
from logging_store.records.models import Interaction
from logging_store.records.values import KeyFields
from logging_store.repository import WriteResult

blueprint = Blueprint("batches", __name__)

LARGEST_BATCH = 1000
_ITEMS = TypeAdapter(list[Interaction])


class InteractionBatch(BaseModel):
    """Up to 1,000 interactions, of any sessions."""

    model_config = ConfigDict(strict=True, extra="forbid")

    interactions: Annotated[list[Any], Field(min_length=1, max_length=LARGEST_BATCH)]
    key_fields: KeyFields | None = None
    on_conflict: Annotated[
        OnConflict,
        Field(
            description="Where an interaction is stored already: keep fills what is empty if nothing contradicts, "
            "report changes nothing, fill fills what is empty although something contradicts."
        ),
    ] = "keep"


class DescribedBatch(InteractionBatch):
    """Up to 1,000 interactions, of any sessions; each is checked by itself, so that a bad one harms no other.

    One interaction may stand in it any number of times; one named by a key of several parts, once.
    """

    interactions: Annotated[list[Interaction], Field(min_length=1, max_length=LARGEST_BATCH)]


@blueprint.post("/v1/interactions/batch")
@access.requires("log", restricted=True)
@describe(
    "Log up to 1,000 interactions in one transaction, with a receipt for each",
    DescribedBatch,
    {200: interaction_schemas.BatchAnswered, 202: interaction_schemas.BatchKept, 207: interaction_schemas.BatchKept},
    query=dry_run.Query,
)
def log_batch() -> Response:
    planning = dry_run.requested()
    batch = requests.read(InteractionBatch, 'Send the list as {"interactions": […]}')
    told: list[dict[str, Any]] = [{} for _ in batch.interactions]
    with batch_log.line(told, batch.on_conflict, batch.key_fields or (), dry_run=planning) as line:
        valid = _check(batch, told)
        repository = http.repository()
        if planning:
            write = repository.dry_run
        else:
            repository.ledger.reject(len(told) - len(valid))
            write = repository.write
        kept = write(list(valid.values()), on_conflict=batch.on_conflict, distinct_keys=True) if valid else []
        indexes = list(valid)
        for index, each in zip(indexes, kept, strict=True):
            told[index] = {"index": index} | _told(valid[index], each, index, indexes)
        line.count(list(valid.values()), kept)
    return _planned(valid, told) if planning else _written(told)


def _planned(valid: Mapping[int, Interaction], told: Sequence[dict[str, Any]]) -> Response:
    plan = [
        dry_run.plan_of(valid[index], item) if index in valid else dry_run.would(item)
        for index, item in enumerate(told)
    ]
    return http.answer(200, {"plan": plan, "counts": Counter(item["would"] for item in plan)})


def _written(told: Sequence[dict[str, Any]]) -> Response:
    counts = Counter(item["receipt"] for item in told)
    # also where some fields of a record were not taken: 200 would say that all of it is stored
    in_part = counts["rejected"] or counts["conflict"] or any("differs" in item for item in told)
    status = 207 if in_part else 202 if counts["spooled"] else 200
    return http.answer(status, {"receipts": told, "counts": counts})


def _check(batch: InteractionBatch, told: list[dict[str, Any]]) -> dict[int, Interaction]:
    """Return the valid items by their places; what is told of the others is put into the list."""
    if not batch.key_fields:
        with suppress(ValidationError):  # mostly all are valid: one call costs less than a thousand
            return dict(enumerate(_ITEMS.validate_python(batch.interactions)))
    valid: dict[int, Interaction] = {}
    for index, item in enumerate(batch.interactions):
        at = ("interactions", index)
        fields = _key_problems(item, batch.key_fields, at) if batch.key_fields else []
        try:
            valid[index] = requests.validate(Interaction, item, at)
        except requests.InvalidBody as error:
            fields = error.fields + fields
        if fields:
            valid.pop(index, None)
            told[index] = {"index": index, "receipt": "rejected", "reason": "invalid", "fields": fields}
    return valid


def _key_problems(item: Any, parts: Sequence[str], at: tuple[str | int, ...]) -> list[dict[str, str]]:
    """Name what an item's key lacks of the parts that its batch declares, and what it has beside them."""
    if not isinstance(item, dict):
        return []  # told already
    key = item.get("key")
    if key is None:
        detail = f"This batch declares a key with the parts {', '.join(parts)}, and this item has none"
        return [{"path": requests.json_path((*at, "key")), "detail": detail}]
    if not isinstance(key, dict):
        return []
    missing = dict.fromkeys(
        (part for part in parts if part not in key), "A part of the key that this batch declares is missing"
    )
    more = dict.fromkeys((part for part in key if part not in parts), "Not a part of the key that this batch declares")
    return [
        {"path": requests.json_path((*at, "key", part)), "detail": detail} for part, detail in (missing | more).items()
    ]


def _told(stated: Interaction, kept: WriteResult, index: int, indexes: Sequence[int]) -> dict[str, Any]:
    item = interactions.told(stated, kept, ("interactions", index))
    if stated.key is None:
        return item
    if places := kept.receipt.places:
        item["indexes"] = [indexes[place] for place in places]
        if kept.receipt.reason == write_pipeline.DUPLICATE_IN_BATCH and kept.receipt.receipt == "rejected":
            for field in item["fields"]:
                field["detail"] = f"Item {indexes[places[0]]} has the same key and says something else"
    return item
