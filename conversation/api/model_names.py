"""What the names of models and providers mean, as gateways, clouds and SDKs write them.

`openrouter/openai/gpt-4o`, `us.anthropic.claude-3-5-sonnet-20241022-v2:0` and `models/gemini-2.5-pro@default` each name
a model and say who serves it. `lookups` lists what such a name may mean in a price list, the most exact meaning first.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

#: What OpenRouter appends to the name of a model that costs nothing there.
_FREE = ":free"
#: OpenRouter's further suffixes: they choose a route, and don't change the price of a token.
_ROUTES = re.compile(r":(beta|cloud|default|exacto|floor|latest|nitro|online|thinking)$")
_VERSION = re.compile(r"@[\w.-]+$")  # as Vertex AI writes it: @20240620, @default
_LATEST = re.compile(r"-latest$")
_DATE = re.compile(r"-20\d\d-?[01]\d-?[0-3]\d$")
_NUMBER_WITH_DASH = re.compile(r"(?<!\d)(\d)-(\d)(?!\d)")  # claude-3-5-sonnet
_NUMBER_WITH_DOT = re.compile(r"(?<!\d)(\d)\.(\d)(?!\d)")  # claude-3.5-sonnet
#: Bedrock's ids: an inference profile's region, if any, then the maker.
_BEDROCK = re.compile(
    r"^([a-z-]{2,6}\.)?"
    r"(ai21|amazon|anthropic|cohere|deepseek|google|luma|meta|minimax|mistral|moonshot|nvidia|openai|qwen|stability|writer)"
    r"\.(?=[a-z])"
)
#: As Pydantic AI and LangChain write it: openai:gpt-4o. `ft:` is a fine-tuned model, with a price of its own.
_PROVIDER_WITH_COLON = re.compile(r"^(?!ft:)([a-z][a-z_-]+):(?=[a-z])")
#: Programs that run a model on a machine of one's own; letters and digits only.
_OWN_MACHINE = {
    "gpt4all", "hostedvllm", "koboldcpp", "llamacpp", "llamafile", "lmstudio", "local", "localai", "localhost", "mlx",
    "ollama", "ollamachat", "selfhosted", "sglang", "textgenerationinference", "tgi", "vllm", "xinference",
}  # fmt: skip
#: Names of providers that begin otherwise than in price lists: LiteLLM, OpenTelemetry, the AI SDK.
_ALIASES = {
    "az": "azure", "bedrock": "aws", "amazon": "aws", "claude": "anthropic", "gcp": "google", "gemini": "google",
    "kimi": "moonshotai", "vertex": "google", "vertexai": "google", "xai": "x-ai",
}  # fmt: skip

#: Vertex AI's longest names have eight parts. Each pair of parts is a lookup, and callers choose the names.
_MOST_PARTS = 10


class Lookup(NamedTuple):
    """A model's name in one provider's list; without a provider, in that of the model's maker."""

    provider: str | None
    model: str


def is_free(model: str) -> bool:
    """Return whether a name says that its model costs nothing."""
    return plain(model).endswith(_FREE)


def is_on_own_machine(model: str, provider: str | None) -> bool:
    """Return whether a name says that its caller runs the model, for which nobody has a public price."""
    names = [provider or "", *heads(_PROVIDER_WITH_COLON.sub(r"\1/", plain(model)))]
    return any(re.sub(r"[^a-z0-9]", "", name.lower()) in _OWN_MACHINE for name in names)


def plain(model: str) -> str:
    return model.strip().lower().replace(" ", "-")


def tails(model: str) -> list[str]:
    """Return a model's name, and what is left of it behind each slash, the longest first."""
    parts = _parts(model)
    return ["/".join(parts[n:]) for n in range(len(parts))]


def heads(model: str) -> list[str]:
    """Return what stands before the slashes of a model's name: whose it is, or who serves it."""
    return _parts(model)[:-1]


def _parts(model: str) -> list[str]:
    return [part for part in plain(model).split("/") if part][-_MOST_PARTS:]


def provider_ids(provider: str) -> Iterator[str]:
    """Yield the ids that a provider's name may have in a price list, the most exact first."""
    name = provider.strip().lower().replace("_", "-").replace(" ", "-")
    yield name
    words = re.split(r"[^a-z0-9]+", name)
    first = words[0]  # azure-openai, groq.chat, fireworks-ai, gcp.vertex-ai
    yield "".join(words) if "".join(words) not in _ALIASES else _ALIASES["".join(words)]
    yield _ALIASES.get(first, first)
    if first in {"x", "z"}:  # x_ai, z.ai
        yield "-".join(words)
        yield "".join(words)


def lookups(model: str, provider: str | None) -> Iterator[Lookup]:
    """Yield what to look for, in this order: the provider that is given, those that the name begins with, the maker."""
    names = tails(model)
    if not names:
        return
    if provider:
        yield from (Lookup(provider, spelling) for name in names for spelling in spellings(name))
    for n, head in enumerate(heads(model)):
        yield from (Lookup(head, spelling) for name in names[n + 1 :] for spelling in spellings(name))
    for name in dict.fromkeys((names[-1], names[0])):
        if _BEDROCK.match(name):
            yield from (Lookup("aws", spelling) for spelling in spellings(name))
            name = _BEDROCK.sub("", name)  # noqa: PLW2901 - or the maker's own
        yield from (Lookup(None, spelling) for spelling in spellings(name))
    if _PROVIDER_WITH_COLON.match(names[0]):
        yield from lookups(_PROVIDER_WITH_COLON.sub(r"\1/", names[0]), provider)


def spellings(name: str) -> list[str]:
    """Return the ways in which price lists write a model's name, as it is given first."""
    found = [name]
    for suffix in (_ROUTES, _VERSION, _LATEST, _DATE):
        found.append(suffix.sub("", found[-1]))
    for each in list(found):
        found.append(_NUMBER_WITH_DOT.sub(r"\1-\2", each))
        found.append(_NUMBER_WITH_DASH.sub(r"\1.\2", each))
    return list(dict.fromkeys(found))
