"""The models of the made-up week: how fast they are, what they say at the end, and how they fail."""

from collections.abc import Mapping
from random import Random
from typing import NamedTuple


class Model(NamedTuple):
    """A model as its callers meet it. `stops`: what it says when it is done, when it is cut and when it calls a tool.

    `prices`: USD for a million tokens, in and out, where the callers state what a call cost.
    """

    name: str
    provider: str
    first_token_ms: float
    tokens_per_s: float
    stops: tuple[str, str, str]
    prices: tuple[float, float] | None = None

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float | None:
        if self.prices is None:
            return None
        return round((input_tokens * self.prices[0] + output_tokens * self.prices[1]) / 1_000_000, 8)


class Failure(NamedTuple):
    """How a call ends without an answer. `finish_reason`: what the model says of it, if it says anything."""

    error: str
    after_ms: tuple[float, float]
    finish_reason: str | None = None


_OPENAI, _ANTHROPIC = ("stop", "length", "tool_calls"), ("end_turn", "max_tokens", "tool_use")

MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model("gpt-4o", "openai", 480, 78, _OPENAI),
        Model("gpt-4o-mini", "openai", 390, 96, _OPENAI),
        Model("gpt-4.1-mini", "openai", 410, 88, _OPENAI, prices=(0.40, 1.60)),
        Model("claude-sonnet-4-5", "anthropic", 820, 62, _ANTHROPIC),
        Model("claude-haiku-4-5", "anthropic", 430, 120, _ANTHROPIC),
        Model("gemini-2.5-flash", "google", 520, 150, ("STOP", "MAX_TOKENS", "STOP")),
        Model("mistral-small-latest", "mistral", 350, 84, _OPENAI),
        Model("workshop-7b", "on-premises", 190, 31, _OPENAI),
    )
}

_TOO_MANY = Failure("RateLimitError: 429 too many requests, try again later", (90, 400))
_TOO_SLOW = Failure("TimeoutError: no answer within 30 s", (30_000, 30_040))
_FAILURES = (
    _TOO_MANY,
    _TOO_SLOW,
    Failure("OverloadedError: 529 the model is overloaded", (200, 900)),
    Failure("ContentFilterError: the provider's filter held the answer back", (700, 2_500), "content_filter"),
    Failure("APIConnectionError: connection reset by peer", (40, 6_000)),
)


def failure(chance: Random, *, outage: bool) -> Failure:
    """Return how a call fails; in a provider's outage it is asked too often, or answers too late."""
    return chance.choice((_TOO_MANY, _TOO_SLOW) if outage else _FAILURES)


def tokens(text: str) -> int:
    """Return about how many tokens a text has: four letters of a word, but each character of many scripts, are one."""
    ascii_characters = len(text.encode("ascii", "ignore"))
    return 1 + ascii_characters // 4 + round((len(text) - ascii_characters) / 1.4)
