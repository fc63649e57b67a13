"""What a span says of whose conversation it is: session, user, tags and metadata, under the names of all libraries."""

from typing import Any, NamedTuple

from conversation.otlp import values
from conversation.otlp.spans import CALLER, LIBRARY, Attributes
from logging_store.records.values import MAX_NAME

_LANGFUSE, _TRACELOOP = "langfuse.trace.metadata.", "traceloop.association.properties."
_VERCEL, _VERCEL_7, _LANGSMITH = "ai.telemetry.metadata.", "ai.settings.context.", "langsmith.metadata."
_PREFIXES = (_LANGFUSE, "langfuse.observation.metadata.", _TRACELOOP, _VERCEL, _VERCEL_7, _LANGSMITH)
_CONVERSATION = "gen_ai.conversation.id"

#: Names of a session within what callers attach to their traces; the first that is there counts.
_SESSION_KEYS = (
    "session_id", "sessionId", "session.id", "thread_id", "threadId", "conversation_id", "conversationId", "chat_id",
    "chatId",
)  # fmt: skip
_USER_KEYS = ("user_id", "userId", "user.id", "customer_id")
_SESSIONS = ("langfuse.session.id", "session.id")
_OTHER_SESSIONS = ("group_id", "session_id", "thread_id", "conversation_id", "langsmith.trace.session_id")
_USERS = ("langfuse.user.id", "user.id", "enduser.id", "llm.user", "gen_ai.user", "user_id")
_MLFLOW_SESSION, _MLFLOW_USER = "mlflow.trace.session", "mlflow.trace.user"

#: Texts that no caller means as a name.
_NO_NAMES = frozenset({"null", "none", "undefined", "nil", ".", ".."})
#: Metadata that libraries add for themselves.
_OWN_PREFIXES = ("ls_", "lc_", "langgraph_", "LANGSMITH_", "LANGCHAIN_", "checkpoint_", "_")
_OWN_NAMES = frozenset({"usage_metadata", "finish_reason", "lc_versions"})
_TAKEN = frozenset({*_SESSION_KEYS, *_USER_KEYS, *_OWN_NAMES})


class Statement(NamedTuple):
    """`rank`: whether the caller stated the session or a library made it; 0 without one. `attached`: see `metadata`."""

    session: str | None
    rank: int
    user: str | None
    attached: dict[str, Any]


def read(attributes: Attributes) -> Statement:
    """Return the session and the user that a span names."""
    attached = _attached(attributes)
    invented = _name(attributes.get(_CONVERSATION))
    own = _first(attributes, _SESSIONS) or _name(values.parsed(_unquoted(attributes.get(_MLFLOW_SESSION))))
    if own is not None and own == invented:
        own = None  # a processor copied it over the caller's
    own = own or _first(attached, _SESSION_KEYS) or _first(attributes, _OTHER_SESSIONS)
    user = _first(attributes, _USERS) or _first(attached, _USER_KEYS) or _name(_unquoted(attributes.get(_MLFLOW_USER)))
    if own is not None:
        return Statement(own, CALLER, user, attached)
    return Statement(invented, LIBRARY if invented else 0, user, attached)


def too_long(attributes: Attributes) -> str | None:
    """Return why a name of a session or a user isn't one; None if none is too long."""
    attached = _attached(attributes)
    named = ((attributes, (*_SESSIONS, *_OTHER_SESSIONS, _CONVERSATION, _MLFLOW_SESSION, *_USERS, _MLFLOW_USER)),)
    for holder, names in (*named, (attached, (*_SESSION_KEYS, *_USER_KEYS))):
        for name in names:
            value = holder.get(name)
            if isinstance(value, str) and len(value) > MAX_NAME and not values.is_redacted(value):
                return f"Not stored: {name} may have {MAX_NAME} characters"
    return None


def tags(attributes: Attributes) -> list[str]:
    """Return the tags of a span."""
    found = [
        tag
        for name in ("tag.tags", "langfuse.trace.tags", "langsmith.span.tags")
        for tag in values.texts(attributes.get(name))
    ]
    return list(dict.fromkeys(found))


def metadata(attached: dict[str, Any]) -> dict[str, Any]:
    """Return what a caller attached, without what has a field of its own and what libraries add for themselves."""
    return {
        name: values.parsed(_unquoted(value))
        for name, value in attached.items()
        if name and name not in _TAKEN and not name.startswith(_OWN_PREFIXES) and not values.is_redacted(value)
    }


def _attached(attributes: Attributes) -> dict[str, Any]:
    """Return what callers attach to their traces, in whichever library's form."""
    found = values.parsed_object(attributes.get("metadata")) if "metadata" in attributes else {}
    for name, value in attributes.items():
        if name.startswith(_PREFIXES):
            prefix = next(each for each in _PREFIXES if name.startswith(each))
            found.setdefault(name[len(prefix) :], value)
    return found


def _first(attributes: Attributes, names: tuple[str, ...]) -> str | None:
    return next((name for each in names if (name := _name(attributes.get(each))) is not None), None)


def _name(value: Any) -> str | None:
    """Return a session's or a user's name; None for what is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or values.is_redacted(value):
        return None
    name = "".join(sign for sign in _unquoted(value).strip() if sign.isprintable())
    return None if not name or len(name) > MAX_NAME or name.lower() in _NO_NAMES else name


def _unquoted(value: Any) -> Any:
    """Return a text without the quotes of JSON around it."""
    is_quoted = isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"'
    return values.parsed(value) if is_quoted else value
