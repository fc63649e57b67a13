"""Prices of one's own come before the public ones, from a file whose mistakes are named by their entry."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from conversation.api import own_prices
from conversation.api.pricing import Prices, TokensOfCall
from conversation.settings import Settings
from logging_store.errors import Misconfigured
from logging_store.store import Store
from tests.http_calls import KEYLESS, log

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
MILLION = 1_000_000


def price(model: str, usd: float = 1, *, begins: str | None = None, **more: Any) -> dict[str, Any]:
    entry = {"model": model, "input_per_million": usd, "output_per_million": 2 * usd, **more}
    return entry | ({"from": begins} if begins else {})


def write(folder: Path, entries: Any) -> Path:
    file = folder / "prices.json"
    file.write_text(entries if isinstance(entries, str) else json.dumps(entries), encoding="utf-8")
    return file


def usd(prices: Prices, model: str, provider: str | None = None, at: datetime = AT) -> Decimal | None:
    tokens: TokensOfCall = {
        "input_tokens": MILLION,
        "output_tokens": 0,
        "cached_input_tokens": None,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
    }
    return prices.estimate(model, provider, tokens, at)


@pytest.mark.parametrize(
    ("entry", "model", "provider", "matches"),
    [
        (price("acme-7b"), "acme-7b", None, True),
        (price("acme-7b"), "ACME-7B", "whoever", True),
        (price("Acme 7b"), "acme-7b", None, True),
        (price("acme-7b"), "gateway/acme-7b", None, True),
        (price("acme-7b"), "acme-7b-instruct", None, False),
        (price("acme-*"), "acme-7b-instruct", None, True),
        (price("azure/*"), "azure/acme-7b", None, True),
        (price("azure/*"), "openai/acme-7b", None, False),
        (price("acme-7b", provider="Azure"), "acme-7b", "azure", True),
        (price("acme-7b", provider="azure"), "azure/acme-7b", None, True),
        (price("acme-7b", provider="azure"), "acme-7b", None, False),
        (price("acme-7b", provider="azure"), "acme-7b", "openai", False),
        (price("acme-7b", begins="2026-11-21"), "acme-7b", None, True),
        (price("acme-7b", begins="2026-11-22"), "acme-7b", None, False),
        (price("acme-7b"), "ollama/acme-7b", None, True),
    ],
)
def test_an_entry_names_models_a_provider_and_a_date(
    tmp_path: Path, entry: dict[str, Any], model: str, provider: str | None, *, matches: bool
) -> None:
    assert usd(Prices(own_prices.read(write(tmp_path, [entry]))), model, provider) == (1 if matches else None)


def test_the_first_entry_that_matches_wins_over_later_ones_and_public_prices(tmp_path: Path) -> None:
    entries = [
        price("gpt-4o", 3, begins="2026-11-01"),
        price("gpt-4o*", 2),
        price("gpt-4o", 1),
        price("free-*", 0),
    ]
    prices = Prices(own_prices.read(write(tmp_path, entries)))
    assert usd(prices, "gpt-4o") == 3
    assert usd(prices, "openrouter/openai/gpt-4o", "openrouter") == 3
    assert usd(prices, "gpt-4o", at=datetime(2026, 10, 31, 23, 59, tzinfo=UTC)) == 2
    assert usd(prices, "gpt-4o-mini") == 2
    assert usd(prices, "claude-3-5-sonnet") == 3  # public
    assert usd(prices, "free-7b") == 0
    assert datetime(2026, 11, 1, tzinfo=UTC) in prices.changes(datetime(2026, 10, 1, tzinfo=UTC), AT)


@pytest.mark.parametrize(
    ("more", "cost"),
    [
        ({}, "10.2"),
        ({"cached_input_per_million": 1}, "4.8"),
        ({"cached_input_per_million": 0, "cache_write_per_million": 20}, "5.2"),
    ],
)
def test_tokens_of_the_cache_have_their_price_or_that_of_the_input(
    tmp_path: Path, more: dict[str, float], cost: str
) -> None:
    entry = {"model": "m", "input_per_million": 10, "output_per_million": 0.5, **more}
    prices = Prices(own_prices.read(write(tmp_path, [entry])))
    tokens: TokensOfCall = {
        "input_tokens": MILLION,
        "output_tokens": 400_000,
        "cached_input_tokens": 600_000,
        "cache_write_tokens": 100_000,
        "reasoning_tokens": 399_999,
    }
    assert prices.estimate("m", None, tokens, AT) == Decimal(cost)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ("{", "TURNLOG_PRICES: can't read prices.json: "),
        ({"model": "m"}, "TURNLOG_PRICES: prices.json must hold a JSON list of prices, as in [{"),
        ([price("m"), 7], "TURNLOG_PRICES: prices.json, entry 2 must be an object"),
        ([price("m"), price("n", -1)], "TURNLOG_PRICES: prices.json, entry 2 (n): input_per_million: "),
        ([{"model": "m", "input_per_million": 1}], "TURNLOG_PRICES: prices.json, entry 1 (m): output_per_million: "),
        ([price("")], "TURNLOG_PRICES: prices.json, entry 1 (): model: "),
        ([price("m", begins="soon")], "TURNLOG_PRICES: prices.json, entry 1 (m): from: "),
        ([price("m", price=1)], "TURNLOG_PRICES: prices.json, entry 1 (m): price: "),
        ([price("m", float("nan"))], "TURNLOG_PRICES: prices.json, entry 1 (m): input_per_million: "),
    ],
)
def test_a_mistake_ends_the_start_with_a_sentence_that_names_the_entry(
    tmp_path: Path, store: Store, entries: Any, sentence: str
) -> None:
    settings = Settings.from_mapping(KEYLESS | {"TURNLOG_PRICES": str(write(tmp_path, entries))})
    with pytest.raises(Misconfigured) as caught:
        create_app(settings, store)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_the_overview_uses_them_by_day(tmp_path: Path, store: Store) -> None:
    entries = [price("own", 4, begins="2026-11-20"), price("own", 3)]
    client = create_app(
        Settings.from_mapping(KEYLESS | {"TURNLOG_PRICES": str(write(tmp_path, entries))}), store
    ).test_client()
    for at in ("2026-11-19T23:59:59Z", "2026-11-20T00:00:00Z"):
        log(client, session_id="s", prompt="1", model="own", input_tokens=MILLION, started_at=at)
    total = client.get("/v1/overview?from=2026-11-19T00:00:00Z&to=2026-11-21T00:00:00Z").get_json()["total"]
    assert (total["estimated_cost_usd"], total["without_cost"]) == (7, 0)
