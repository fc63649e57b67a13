"""What an interaction cost by public prices: known models only, and sums as their parts."""

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from conversation.api import pricing

AT = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("model", "provider", "input_tokens", "output_tokens", "cost"),
    [
        ("gpt-4o", "openai", 1000, 100, "0.0035"),
        ("gpt-4o", None, 1000, 100, "0.0035"),
        ("GPT-4o", "OpenAI", 1000, 100, "0.0035"),
        ("gpt-4o", "openai", None, 100, "0.001"),
        ("gpt-4o", "openai", 0, 0, "0"),
        ("gemini-2.5-pro", "google", 200_000, 0, "0.25"),
        ("gemini-2.5-pro", "google", 200_001, 0, "0.5000025"),
    ],
)
def test_a_known_model_has_a_price(
    model: str, provider: str | None, input_tokens: int | None, output_tokens: int | None, cost: str
) -> None:
    assert pricing.estimate(model, provider, input_tokens, output_tokens, AT) == Decimal(cost)


@pytest.mark.parametrize(
    ("model", "provider", "tokens"),
    [
        ("our-own-model", None, 10),
        (None, "openai", 10),
        ("gpt-4o", "our-own-machine", 10),  # who runs it themselves pays nobody's price
        ("whisper-1", "openai", 10),  # paid for by the second
        ("gpt-4o", "openai", None),
    ],
)
def test_what_has_no_price_costs_nothing_known(model: str | None, provider: str | None, tokens: int | None) -> None:
    assert pricing.estimate(model, provider, tokens, tokens, AT) is None


def test_a_sum_costs_what_its_parts_cost_together() -> None:
    inputs = [1, 199_999, 77_777]
    each = [pricing.estimate("gemini-2.5-pro", "google", tokens, 33, AT) for tokens in inputs]
    together = pricing.estimate_sum("gemini-2.5-pro", "google", 3, sum(inputs), 99, at=AT)
    assert together == pytest.approx(sum(cost for cost in each if cost is not None), rel=Decimal("1e-20"))


def test_prices_change_at_the_tiers() -> None:
    assert 200_001 in pricing.tiers()
    assert list(pricing.tiers()) == sorted(set(pricing.tiers()))


def test_a_price_is_that_of_its_time() -> None:
    before = pricing.estimate("o3", "openai", 1_000_000, 0, datetime(2025, 5, 1, tzinfo=UTC))
    assert before == 10
    assert pricing.estimate("o3", "openai", 1_000_000, 0, AT) == 2


def test_prices_are_not_loaded_before_somebody_asks() -> None:
    asked = "import sys, app; sys.exit('genai_prices' in sys.modules)"
    subprocess.run([sys.executable, "-c", asked], check=True)
