"""Estimates what an interaction cost, by the public prices of its model, if its caller sent no cost.

The prices are those in the installed version of `genai-prices`: nothing is fetched. They are estimates and shown as
such, because discounts, batch prices and cached tokens are unknown.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider


class _Priced(NamedTuple):
    provider: "Provider"
    model: "ModelInfo"


def estimate(
    model: str | None,
    provider: str | None,
    input_tokens: int | None,
    output_tokens: int | None,
    at: datetime | None = None,
) -> Decimal | None:
    """Return the cost of an interaction in US dollars; None if its tokens or its price are unknown.

    `at`: the time whose prices apply; now, if left out.
    """
    if input_tokens is None and output_tokens is None:
        return None
    return estimate_sum(model, provider, 1, input_tokens or 0, output_tokens or 0, at=at)


def estimate_sum(
    model: str | None,
    provider: str | None,
    interactions: int,
    input_tokens: int,
    output_tokens: int,
    *,
    at: datetime | None = None,
) -> Decimal | None:
    """Return the total cost in US dollars of interactions whose inputs all lie in one tier of `tiers()`."""
    priced = _find(model, provider) if model else None
    if priced is None:
        return None
    prices = priced.model.get_prices(at or datetime.now(UTC))
    if prices.input_mtok is None and prices.output_mtok is None:
        return None  # priced by the second or by the image
    from genai_prices import Usage  # noqa: PLC0415 - as below

    # by their mean: within a tier the price is proportional to the tokens
    mean = Usage(input_tokens=Decimal(input_tokens) / interactions, output_tokens=Decimal(output_tokens) / interactions)
    return prices.calc_price(mean)["total_price"] * interactions


@cache
def tiers() -> tuple[int, ...]:
    """Return the numbers of input tokens at which some model's price changes, ascending."""
    # a tier begins after its start
    return tuple(sorted({start + 1 for prices in _every_price() for start in _starts(prices)}))


@lru_cache(maxsize=4096)
def _find(model: str, provider: str | None) -> _Priced | None:
    from genai_prices.data_snapshot import DataSnapshot  # noqa: PLC0415 - as below

    # a fresh one each time: it caches lookups for good, and callers can send any number of model names
    snapshot = DataSnapshot(_bundled().providers, from_auto_update=False)
    try:
        found_provider, found_model = snapshot.find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    return _Priced(found_provider, found_model)


@cache
def _bundled() -> "DataSnapshot":
    # imported when first used: it takes 0.3 s and 30 MB
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    return get_snapshot()


def _every_price() -> "Iterator[ModelPrice]":
    for provider in _bundled().providers:
        for model in provider.models:
            if isinstance(model.prices, list):
                yield from (conditional.prices for conditional in model.prices)
            else:
                yield model.prices


def _starts(prices: "ModelPrice") -> Iterator[int]:
    from genai_prices.types import TieredPrices  # noqa: PLC0415 - as above

    for price in vars(prices).values():
        if isinstance(price, TieredPrices):
            yield from (tier.start for tier in price.tiers)
