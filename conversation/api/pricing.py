"""Estimates what interactions cost, if their callers sent no cost: by prices of one's own, else by public prices.

The public prices are those in the installed version of `genai-prices`: nothing is fetched. They are estimates and shown
as such, because discounts and batch prices are unknown.

Cached tokens and those written to a cache are part of the input, and reasoning tokens part of the output. Some
providers count them apart: where they are more than what they would be part of, they are added to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypedDict

from flask import current_app

from conversation.api import model_names
from conversation.api.own_prices import OwnPrice
from logging_store import operations as ops

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

_THOUSAND = 1000


class TokensOfCall(TypedDict):
    """The tokens of an interaction as its caller sent them."""

    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of a service: `own` ones come before the public ones."""

    own: tuple[OwnPrice, ...] = ()

    def estimate(
        self, model: str | None, provider: str | None, tokens: TokensOfCall, at: datetime | None = None
    ) -> Decimal | None:
        """Return the cost of an interaction in US dollars; None if its tokens or its price are unknown.

        `at`: the time whose prices apply; now, if left out.
        """
        if tokens["input_tokens"] is None and tokens["output_tokens"] is None:
            return None
        read, written = tokens["cached_input_tokens"] or 0, tokens["cache_write_tokens"] or 0
        reasoning = tokens["reasoning_tokens"] or 0
        return self.estimate_sum(
            model,
            provider,
            {
                "interactions": 1,
                "input_tokens": _whole(tokens["input_tokens"] or 0, read + written),
                "output_tokens": _whole(tokens["output_tokens"] or 0, reasoning),
                "cached_input_tokens": read,
                "cache_write_tokens": written,
                "reasoning_tokens": reasoning,
            },
            at,
        )

    def estimate_sum(
        self, model: str | None, provider: str | None, tokens: ops.UnpricedTokens, at: datetime | None = None
    ) -> Decimal | None:
        """Return the total cost in US dollars of interactions whose inputs all lie in one tier of `tiers()`."""
        if not model:
            return None
        at = at or datetime.now(UTC)
        for own in self.own:
            if own.matches(model, provider, at):
                return own.cost(
                    tokens["input_tokens"],
                    tokens["output_tokens"],
                    tokens["cached_input_tokens"],
                    tokens["cache_write_tokens"],
                )
        return _public_cost(model, provider, tokens, at)

    def changes(self, not_before: datetime, before: datetime) -> list[datetime]:
        """Return the times within a span at which some model's price changes, ascending: midnights in UTC."""
        days = {*_public_changes(), *(own.begins for own in self.own if own.begins)}
        times = (datetime.combine(day, time(), UTC) for day in sorted(days))
        return [at for at in times if not_before < at < before]


def prices() -> Prices:
    """Return the prices of the running service."""
    attached: Prices = current_app.extensions["turnlog_prices"]
    return attached


def noon(at: datetime) -> datetime:
    """Return the time whose prices stand for a day's: some providers are cheaper at night."""
    return at.astimezone(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


@cache
def tiers() -> tuple[int, ...]:
    """Return the numbers of input tokens at which some model's price changes, ascending."""
    # a tier begins after its start
    return tuple(sorted({start + 1 for each in _every_price() for start in _starts(each)}))


def _whole(tokens: int, part: int) -> int:
    return tokens + part if part > tokens else tokens


def _public_cost(model: str, provider: str | None, tokens: ops.UnpricedTokens, at: datetime) -> Decimal | None:
    if model_names.is_on_own_machine(model, provider):
        return None
    if model_names.is_free(model):
        return Decimal(0)
    found = _find(model, provider)
    if found is None:
        return None
    listed = found.get_prices(at)
    if listed.input_mtok is None and listed.output_mtok is None:
        return None  # priced by the second or by the image
    from genai_prices import Usage  # noqa: PLC0415 - as below
    from genai_prices.types import ModelPrice  # noqa: PLC0415

    # within a tier the price is proportional to the tokens, and their mean says which tier it is
    mean = Decimal(tokens["input_tokens"]) / tokens["interactions"]
    of_tier = {name: _of_tier(price, mean) for name, price in vars(listed).items() if price is not None}
    per_calls = of_tier.pop("requests_kcount", Decimal(0)) * tokens["interactions"] / _THOUSAND
    usage = Usage(
        input_tokens=tokens["input_tokens"],
        output_tokens=tokens["output_tokens"],
        cache_read_tokens=tokens["cached_input_tokens"],
        cache_write_tokens=tokens["cache_write_tokens"],
        output_reasoning_tokens=tokens["reasoning_tokens"],
    )
    return ModelPrice(**of_tier).calc_price(usage)["total_price"] + per_calls


def _of_tier(price: "Decimal | TieredPrices", input_tokens: Decimal) -> Decimal:
    if isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if input_tokens > tier.start]
    return reached[-1] if reached else price.base


@lru_cache(maxsize=4096)
def _find(model: str, provider: str | None) -> "ModelInfo | None":
    """Return a model's public prices under whatever name its caller gave it; None if none are known."""
    for lookup in model_names.lookups(model, provider):
        for listed in _makers(lookup.model) if lookup.provider is None else _providers(lookup.provider):
            if found := listed.find_model(lookup.model, all_providers=_bundled().providers):
                return found
    return None


def _makers(model: str) -> "list[Provider]":
    """Return the makers whose models have names like this one."""
    return [each for each in _bundled().providers if each.model_match and each.model_match.is_match(model)][:1]


@lru_cache(maxsize=4096)
def _providers(name: str) -> "list[Provider]":
    """Return the provider that a name means; an empty list if it has no price list, as a company's own gateway."""
    from genai_prices.data_snapshot import find_provider_by_id  # noqa: PLC0415 - as below

    by_id = {each.id: each for each in _bundled().providers}
    exact = [by_id[each] for each in model_names.provider_ids(name) if each in by_id]
    similar = find_provider_by_id(_bundled().providers, name)
    return exact[:1] or ([similar] if similar else [])


@cache
def _bundled() -> "DataSnapshot":
    # imported when first used: it takes 0.3 s and 30 MB
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    return get_snapshot()


@cache
def _public_changes() -> frozenset[date]:
    from genai_prices.types import StartDateConstraint  # noqa: PLC0415 - as above

    conditions = (
        conditional.constraint
        for provider in _bundled().providers
        for model in provider.models
        if isinstance(model.prices, list)
        for conditional in model.prices
    )
    return frozenset(each.start_date for each in conditions if isinstance(each, StartDateConstraint))


def _every_price() -> "Iterator[ModelPrice]":
    for provider in _bundled().providers:
        for model in provider.models:
            if isinstance(model.prices, list):
                yield from (conditional.prices for conditional in model.prices)
            else:
                yield model.prices


def _starts(listed: "ModelPrice") -> Iterator[int]:
    from genai_prices.types import TieredPrices  # noqa: PLC0415 - as above

    for price in vars(listed).values():
        if isinstance(price, TieredPrices):
            yield from (tier.start for tier in price.tiers)
