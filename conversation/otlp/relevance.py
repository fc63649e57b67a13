"""Tells by the names of its attributes whether a span has anything to do with a conversation.

Most spans of an application haven't. They are dropped before their values are converted.
"""

from collections.abc import Iterable

_PREFIXES = (
    "gen_ai.", "llm.", "openinference.", "langfuse.", "langsmith.", "mlflow.", "ai.", "traceloop.", "pydantic_ai.",
    "session.id", "session_id", "user.id", "enduser.id", "user_id", "thread_id", "group_id", "conversation_id",
    "annotations.", "evaluations.",
)  # fmt: skip

#: Names of log records that say something of a conversation begin so.
EVENT_PREFIX = "gen_ai."


def is_relevant(names: Iterable[str]) -> bool:
    """Return whether a span with attributes of these names says something of a conversation."""
    return any(name.startswith(_PREFIXES) for name in names)
