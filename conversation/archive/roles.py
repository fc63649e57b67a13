"""Who speaks: the names that chat applications and data sets give to the same few roles."""

_ROLES = {
    "user": ("human", "customer", "client", "visitor"),
    "assistant": ("gpt", "chatgpt", "bot", "ai", "model", "bing", "bard", "claude", "agent"),
    "tool": ("function", "function_response", "observation"),
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in (role, *names)}


def role_of(speaker: str) -> str:
    """Return the role that a speaker's name stands for; a name that isn't known stays as it is."""
    return _ROLE_OF.get(speaker.lower(), speaker)
