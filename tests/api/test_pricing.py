"""What an interaction cost by public prices: known models only, and sums as their parts."""

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from conversation.api import model_names, pricing
from conversation.api.pricing import Prices
from logging_store import operations as ops

AT = datetime(2026, 11, 21, tzinfo=UTC)


def estimate(
    model: str | None,
    provider: str | None,
    input_tokens: int | None,
    output_tokens: int | None,
    at: datetime = AT,
    *,
    cached: int | None = None,
    written: int | None = None,
    reasoning: int | None = None,
) -> Decimal | None:
    tokens: pricing.TokensOfCall = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cached_input_tokens": cached,
        "cache_write_tokens": written,
        "reasoning_tokens": reasoning,
    }
    return Prices().estimate(model, provider, tokens, at)


def sum_of(
    interactions: int, input_tokens: int, output_tokens: int, cached: int = 0, written: int = 0
) -> ops.UnpricedTokens:
    return {
        "interactions": interactions,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cached_input_tokens": cached,
        "cache_write_tokens": written,
        "reasoning_tokens": 0,
    }


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
    assert estimate(model, provider, input_tokens, output_tokens) == Decimal(cost)


@pytest.mark.parametrize(
    ("model", "provider", "tokens"),
    [
        ("our-own-model", None, 10),
        (None, "openai", 10),
        ("gpt-4o", "ollama", 10),  # who runs it themselves pays nobody's price
        ("ollama/llama3", None, 10),
        ("hosted_vllm/deepseek-chat", None, 10),
        ("vllm:deepseek-chat", None, 10),
        ("deepseek-chat", "llama.cpp", 10),
        ("meta-llama/llama-3.3-70b-instruct", None, 10),  # anybody may serve it
        ("azure/my-deployment", None, 10),
        ("gpt-4o-made-up", "openai", 10),
        ("ft:gpt-4o-mini-2024-07-18:org::abc", None, 10),  # fine-tuned: not the price of its base
        ("gpt-4o", "github-copilot", 10),  # a subscription
        ("/", "openai", 10),
        (" ", None, 10),
        ("whisper-1", "openai", 10),  # paid for by the second
        ("gpt-4o", "openai", None),
    ],
)
def test_what_has_no_price_costs_nothing_known(model: str | None, provider: str | None, tokens: int | None) -> None:
    assert estimate(model, provider, tokens, tokens) is None


@pytest.mark.parametrize(
    ("model", "provider", "usd"),
    [
        ("openai/gpt-4o", None, "2.5"),
        ("openai/gpt-4o", "openai", "2.5"),
        ("openai:gpt-4o", None, "2.5"),
        ("openrouter/openai/gpt-4o", None, "2.5"),
        ("azure/gpt-4o", None, "2.5"),
        ("azure_ai/gpt-4o-2024-08-06", None, "2.5"),
        ("gpt-4o", "az.ai.openai", "2.5"),
        ("gpt-4o", "openai.chat", "2.5"),
        ("gpt-4o", "openrouter", "2.5"),
        ("openai/gpt-4o", "openrouter", "2.5"),
        ("gpt-4o", "our-gateway", "2.5"),
        ("gpt-4o", "anthropic", "2.5"),  # a mistake, but the model's name says enough
        ("openai/gpt-4o", "litellm", "2.5"),
        ("openai/gpt-4o:nitro", None, "2.5"),
        ("gpt-4o-latest", None, "2.5"),
        ("gpt-4o-2024-05-13", None, "5"),  # a dated model's own price comes first
        ("gpt-4-1", None, "2"),
        ("anthropic/claude-3.5-sonnet", None, "3"),
        ("anthropic/claude-3.5-sonnet:beta", None, "3"),
        ("Claude 3.5 Sonnet", None, "3"),
        ("claude-3-5-sonnet-latest", None, "3"),
        ("claude-3-5-sonnet@20240620", None, "3"),
        ("vertex_ai/claude-3-5-sonnet@20240620", None, "3"),
        ("bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0", None, "3"),
        ("bedrock/us-east-1/anthropic.claude-3-5-sonnet-20241022-v2:0", None, "3"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", None, "3"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "aws.bedrock", "3"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-3-5-sonnet-20241022-v2:0", None, "3"),
        ("projects/p/locations/l/publishers/anthropic/models/claude-3-5-sonnet@20240620", None, "3"),
        ("vertex_ai/gemini-2.5-flash", None, "0.3"),
        ("gemini/gemini-2.5-flash", None, "0.3"),
        ("models/gemini-2.5-flash", None, "0.3"),
        ("models/gemini-2.5-flash", "google", "0.3"),
        ("google-gla:gemini-2.5-flash@default", None, "0.3"),
        ("mistral/mistral-large-latest", None, "2"),
        ("xai/grok-3", None, "3"),
        ("grok-3", "x_ai", "3"),
        ("groq/llama-3.3-70b-versatile", None, "0.59"),
        ("together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", None, "0.88"),
        ("meta-llama/llama-3.3-70b-instruct", "openrouter", "0.59"),
        ("glm-4.5", "z.ai", "0.6"),
        ("meta-llama/llama-3.3-70b-instruct:free", "openrouter", "0"),
        ("openai/gpt-oss-20b:free", None, "0"),
    ],
)
def test_gateways_clouds_and_sdks_write_names_in_their_own_ways(model: str, provider: str | None, usd: str) -> None:
    assert estimate(model, provider, 1_000_000, 0) == Decimal(usd)


def test_a_name_of_very_many_parts_is_looked_up_a_bounded_number_of_times() -> None:
    assert len(list(model_names.lookups("openrouter/" * 99 + "gpt-4o", "openrouter"))) < 200
    assert estimate("openrouter/" * 99 + "gpt-4o", None, 1_000_000, 0) == Decimal("2.5")


@pytest.mark.parametrize(
    ("model", "tokens", "counts", "cost"),
    [
        # gpt-4o: 2.5 in, 1.25 from the cache, 10 out, per million
        ("gpt-4o", (1000, 100), {"cached": 800}, "0.0025"),
        ("gpt-4o", (1000, 100), {"cached": 1000}, "0.00225"),
        ("gpt-4o", (1000, 100), {"cached": 0, "written": 0, "reasoning": 0}, "0.0035"),
        ("gpt-4o", (1000, 100), {"reasoning": 60}, "0.0035"),  # part of the output already
        # claude-3-5-sonnet: 3 in, 0.3 from the cache, 3.75 into it, 15 out
        ("claude-3-5-sonnet", (1000, 0), {"cached": 500, "written": 400}, "0.00195"),
        # counted apart by its provider: the input excludes them
        ("claude-3-5-sonnet", (100, 0), {"cached": 500, "written": 400}, "0.00195"),
        ("claude-3-5-sonnet", (None, 10), {"cached": 1000}, "0.00045"),
        ("gpt-4o", (0, 10), {"reasoning": 90}, "0.001"),
        # no price of its own for the cache: it costs what other input costs
        ("gpt-4-turbo", (1000, 0), {"cached": 800}, "0.01"),
    ],
)
def test_cached_and_written_tokens_have_prices_of_their_own(
    model: str, tokens: tuple[int | None, int], counts: dict[str, int], cost: str
) -> None:
    assert estimate(model, None, *tokens, AT, **counts) == Decimal(cost)


def test_a_long_input_from_the_cache_is_in_its_tier() -> None:
    # 300,000 tokens are beyond the first tier of this model, wherever they come from
    assert estimate("gemini-2.5-pro", "google", 1000, 0, cached=299_000) == estimate(
        "gemini-2.5-pro", "google", 300_000, 0, cached=299_000
    )


def test_a_sum_costs_what_its_parts_cost_together() -> None:
    inputs = [1, 199_999, 77_777]
    each = [estimate("gemini-2.5-pro", "google", tokens, 33) for tokens in inputs]
    together = Prices().estimate_sum("gemini-2.5-pro", "google", sum_of(3, sum(inputs), 99), AT)
    assert together == pytest.approx(sum(cost for cost in each if cost is not None), rel=Decimal("1e-20"))


@pytest.mark.parametrize("interactions", [1, 3, 7])
def test_an_input_that_is_all_cached_can_be_summed(interactions: int) -> None:
    # thirds and sevenths: rounded means would be more than the whole
    total = Prices().estimate_sum("claude-3-5-sonnet", None, sum_of(interactions, 4, 0, 2, 2), AT)
    assert total == (2 * Decimal("0.3") + 2 * Decimal("3.75")) / 1_000_000


def test_a_model_that_is_paid_for_each_call_counts_the_calls() -> None:
    one = Prices().estimate_sum("sonar-pro", "perplexity", sum_of(1, 0, 0), AT)
    assert one is not None
    assert one > 0
    assert Prices().estimate_sum("sonar-pro", "perplexity", sum_of(10, 0, 0), AT) == 10 * one


def test_prices_change_at_the_tiers() -> None:
    assert 200_001 in pricing.tiers()
    assert list(pricing.tiers()) == sorted(set(pricing.tiers()))


def test_a_price_is_that_of_its_time() -> None:
    before = estimate("o3", "openai", 1_000_000, 0, datetime(2025, 5, 1, tzinfo=UTC))
    assert before == 10
    assert estimate("o3", "openai", 1_000_000, 0) == 2


def test_the_times_at_which_prices_change_are_known() -> None:
    span = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)
    assert datetime(2025, 6, 10, tzinfo=UTC) in Prices().changes(*span)  # o3's
    assert Prices().changes(span[1], span[0]) == []


def test_prices_are_not_loaded_before_somebody_asks() -> None:
    asked = "import sys, app; sys.exit('genai_prices' in sys.modules)"
    subprocess.run([sys.executable, "-c", asked], check=True)
