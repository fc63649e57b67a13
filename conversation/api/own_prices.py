"""Prices of one's own, from the JSON file that `TURNLOG_PRICES` names: contracts, discounts, models of one's own.

The file is a list of objects, each the price of the models that match a pattern. The first entry that matches a model,
its provider and the time is its price.
"""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conversation.api import model_names
from conversation.refusals import validation_messages
from logging_store.errors import Misconfigured

_EXAMPLE = '[{"model": "gpt-4o*", "input_per_million": 2.5, "output_per_million": 10}]'
_MILLION = 1_000_000

_Dollars = Annotated[Decimal, Field(ge=0)]


class OwnPrice(BaseModel):
    """The price of the models whose name matches a pattern, in US dollars per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)

    model: Annotated[str, Field(min_length=1)]
    provider: str | None = None
    begins: Annotated[date | None, Field(alias="from")] = None
    input_per_million: _Dollars
    output_per_million: _Dollars
    cached_input_per_million: _Dollars | None = None
    cache_write_per_million: _Dollars | None = None

    def matches(self, model: str, provider: str | None, at: datetime) -> bool:
        pattern = model_names.plain(self.model)
        return (
            (self.begins is None or at.astimezone(UTC).date() >= self.begins)
            and (self.provider is None or self.provider.strip().lower() in _providers(model, provider))
            and any(fnmatchcase(name, pattern) for name in model_names.tails(model))
        )

    def cost(self, input_tokens: int, output_tokens: int, cached_input_tokens: int, cache_write_tokens: int) -> Decimal:
        """Return the cost in US dollars. Tokens of the cache are part of the input, and cost the same unless priced."""
        cached = self.input_per_million if self.cached_input_per_million is None else self.cached_input_per_million
        written = self.input_per_million if self.cache_write_per_million is None else self.cache_write_per_million
        return (
            (input_tokens - cached_input_tokens - cache_write_tokens) * self.input_per_million
            + cached_input_tokens * cached
            + cache_write_tokens * written
            + output_tokens * self.output_per_million
        ) / _MILLION


def read(path: Path) -> tuple[OwnPrice, ...]:
    """Return the entries of a file. Raises `Misconfigured`, which names the entry that is wrong."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise Misconfigured(f"TURNLOG_PRICES: can't read {path.name}: {error}") from None
    if not isinstance(entries, list):
        raise Misconfigured(f"TURNLOG_PRICES: {path.name} must hold a JSON list of prices, as in {_EXAMPLE}")
    return tuple(_entry(path.name, number, entry) for number, entry in enumerate(entries, 1))


def _entry(file: str, number: int, entry: Any) -> OwnPrice:
    name = entry.get("model") if isinstance(entry, dict) else None
    where = f"TURNLOG_PRICES: {file}, entry {number}" + (f" ({name})" if isinstance(name, str) else "")
    if not isinstance(entry, dict):
        raise Misconfigured(f"{where} must be an object, as in {_EXAMPLE}")
    try:
        return OwnPrice.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Misconfigured(f"{where}: {field}: {validation_messages.sentence(first)}") from None


def _providers(model: str, provider: str | None) -> Iterator[str]:
    """Yield whoever may serve a model: the provider that was sent, and those that its name begins with."""
    if provider:
        yield provider.strip().lower()
    yield from model_names.heads(model)
