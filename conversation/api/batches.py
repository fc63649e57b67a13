"""Batches: up to 1,000 interactions in one transaction, with a receipt for each."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, FailFast, Field, RootModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from conversation import access
from conversation.api import batch_log, caller, dry_run, interactions, requests, responses
from conversation.api.interactions import InteractionPlan, InteractionReceipt, Would
from conversation.api.openapi import describe
from conversation.api.schemas import ResponseModel
from conversation.refusals.codes import Refused
from logging_store import write_pipeline
from logging_store.batches import Outcome
from logging_store.records.models import Interaction, OnConflict
from logging_store.records.values import MAX_KEY_PARTS, MAX_NAME, KeyFields
from logging_store.repository import WriteResult

blueprint = Blueprint("batches", __name__)

MAX_BATCH = requests.MAX_ITEMS
#: Bytes that a caller with few rights may have compared: see `_check_cost`. So many take about a second of a processor.
_MOST_COMPARED, _MOST_COMPARED_IN_DRY_RUN = 16_000_000, 4_000_000
_ITEMS = TypeAdapter(Annotated[list[Interaction], FailFast()])
_MOST_NAMES = len(Interaction.model_fields) + requests.MAX_FIELDS


class InteractionBatch(BaseModel):
    """Up to 1,000 interactions, of any sessions."""

    model_config = ConfigDict(strict=True, extra="forbid")

    interactions: Annotated[list[Any], Field(min_length=1, max_length=MAX_BATCH)]
    key_fields: KeyFields | None = None
    on_conflict: Annotated[
        OnConflict,
        Field(
            description="If an interaction is stored already: `keep` fills empty fields unless another one "
            "contradicts, `report` changes nothing, `fill` fills empty fields even then, `revise` shows what was said "
            "last and keeps the other as a revision."
        ),
    ] = "keep"


class DescribedBatch(InteractionBatch):
    """Up to 1,000 interactions, of any sessions. Each is validated alone: an invalid one doesn't affect the others.

    An interaction may occur several times; one with a key of several parts, once.
    """

    interactions: Annotated[list[Interaction], Field(min_length=1, max_length=MAX_BATCH)]


class BatchReceipt(InteractionReceipt):
    index: int
    receipt: Outcome


class BatchResult(ResponseModel):
    receipts: list[BatchReceipt]
    counts: dict[Outcome, int]


class BatchPlanItem(InteractionPlan):
    index: int


class BatchPlan(ResponseModel):
    """What writing this batch would do; nothing was written."""

    plan: list[BatchPlanItem]
    counts: dict[Would, int]


class BatchResponse(RootModel[BatchResult | BatchPlan]):
    """The receipts, or with `dry_run=true` the plan."""


@blueprint.post("/v1/interactions/batch")
@access.requires("log", restricted=True)
@describe(
    "Log up to 1,000 interactions in one transaction, with a receipt for each",
    DescribedBatch,
    {200: BatchResponse, 202: BatchResult, 207: BatchResult},
    query=dry_run.Query,
)
def log_batch() -> Response:
    is_dry_run = dry_run.requested()
    batch = requests.read(InteractionBatch, 'Send the list as {"interactions": […]}', items="interactions")
    receipts: list[dict[str, Any]] = [{} for _ in batch.interactions]
    with batch_log.log_batch(receipts, batch.on_conflict, batch.key_fields or (), dry_run=is_dry_run) as line:
        valid = _validate_items(batch, receipts)
        if caller.is_restricted():
            _check_cost(valid.values(), _MOST_COMPARED_IN_DRY_RUN if is_dry_run else _MOST_COMPARED)
        repository = caller.repository()
        if is_dry_run:
            write = repository.dry_run
        else:
            repository.ledger.reject(len(receipts) - len(valid))
            write = repository.write
        results = write(list(valid.values()), on_conflict=batch.on_conflict, distinct_keys=True) if valid else []
        indexes = list(valid)
        for index, result in zip(indexes, results, strict=True):
            receipts[index] = {"index": index} | _item_receipt(valid[index], result, index, indexes)
        line.count(list(valid.values()), results)
    return _plan_response(valid, receipts) if is_dry_run else _receipts_response(receipts)


def _check_cost(records: Iterable[Interaction], most: int) -> None:
    """Refuse items that take long to be compared: each of one interaction is, with what those before it left.

    What an interaction comes to is at most its largest texts and all of its metadata.
    """
    items: dict[tuple[str, str], list[Interaction]] = {}
    for record in records:
        if record.session_id is not None and record.interaction_id is not None:  # else it is a new one, or has a key
            items.setdefault((record.session_id, record.interaction_id), []).append(record)
    cost = 0
    for same in items.values():
        if len(same) > 1:
            text = max(len(to_json([each.prompt, each.context, each.response, each.error])) for each in same)
            cost += len(same) * (text + sum(len(to_json(each.metadata)) for each in same))
    if cost > most:
        raise Refused(
            "too-large",
            "Items of one interaction are compared one after the other. Their number times their size may come to "
            f"{most:,} bytes in one call, and comes to {cost:,}; send the last state of each, or several calls",
        )


def _plan_response(valid: Mapping[int, Interaction], receipts: Sequence[dict[str, Any]]) -> Response:
    plan = [
        dry_run.interaction_plan(valid[index], item) if index in valid else dry_run.receipt_as_plan(item)
        for index, item in enumerate(receipts)
    ]
    return responses.json_response(200, {"plan": plan, "counts": Counter(item["would"] for item in plan)})


def _receipts_response(receipts: Sequence[dict[str, Any]]) -> Response:
    counts = Counter(item["receipt"] for item in receipts)
    # also if some fields of a record were not stored: 200 means that everything was
    is_partial = counts["rejected"] or counts["conflict"] or any("differs" in item for item in receipts)
    status = 207 if is_partial else 202 if counts["spooled"] else 200
    return responses.json_response(status, {"receipts": receipts, "counts": counts})


def _validate_items(batch: InteractionBatch, receipts: list[dict[str, Any]]) -> dict[int, Interaction]:
    """Return the valid items by index; set the receipts of the invalid ones."""
    requests.require_proportion(len(batch.interactions), _repeated(batch.interactions))
    is_bounded = all(len(item) <= _MOST_NAMES for item in batch.interactions if isinstance(item, dict))
    if is_bounded and not batch.key_fields:
        with suppress(ValidationError):  # usually all are valid, and one call is cheaper than a thousand
            intake = requests.intake()
            items = _ITEMS.validate_python(batch.interactions, context=intake)
            if not intake.altered:
                return dict(enumerate(items))
    valid: dict[int, Interaction] = {}
    for index, item in enumerate(batch.interactions):
        path = ("interactions", index)
        fields = _key_problems(item, batch.key_fields, path) if batch.key_fields else []
        try:
            valid[index] = requests.validate(Interaction, item, path)
        except requests.InvalidBody as error:
            fields = error.fields + fields
        if fields:
            valid.pop(index, None)
            receipts[index] = {"index": index, "receipt": "rejected", "reason": "invalid", "fields": fields}
    return valid


def _key_problems(item: Any, parts: Sequence[str], path: tuple[str | int, ...]) -> list[dict[str, str]]:
    """Return the problems of an item's key: parts that its batch declares and it lacks, and undeclared parts."""
    if not isinstance(item, dict):
        return []  # reported by the validation
    key = item.get("key")
    if key is None:
        detail = f"This batch declares a key with the parts {', '.join(parts)}, and this item has none"
        return [{"path": requests.json_path((*path, "key")), "detail": detail}]
    if not isinstance(key, dict):
        return []
    missing = dict.fromkeys(
        (part for part in parts if part not in key), "A part of the key that this batch declares is missing"
    )
    more = dict.fromkeys((part for part in key if part not in parts), "Not a part of the key that this batch declares")
    found = missing | more
    fields = ({"path": requests.json_path((*path, "key", part)), "detail": detail} for part, detail in found.items())
    return requests.listed(fields, (*path, "key"), len(found))


def _repeated(items: Sequence[Any]) -> Iterator[str]:
    """Yield the texts of items that their receipts repeat: their ids and their keys."""
    for item in items:
        if isinstance(item, dict):
            key = item.get("key")
            parts = key if isinstance(key, dict) and len(key) <= MAX_KEY_PARTS else {}
            named = (item.get("session_id"), item.get("interaction_id"), *parts, *parts.values())
            yield from (text for text in named if isinstance(text, str) and len(text) <= MAX_NAME)


def _item_receipt(record: Interaction, result: WriteResult, index: int, indexes: Sequence[int]) -> dict[str, Any]:
    item = interactions.receipt_payload(record, result, ("interactions", index))
    if record.key is None:
        return item
    if places := result.receipt.places:
        item["indexes"] = [indexes[place] for place in places]
        if result.receipt.reason == write_pipeline.DUPLICATE_IN_BATCH and result.receipt.receipt == "rejected":
            for field in item["fields"]:
                field["detail"] = f"Item {indexes[places[0]]} has the same key and other values"
    return item
