"""The roles of messages, and the names that SDKs, data sets and applications have for them."""

USER, ASSISTANT, SYSTEM, TOOL = "user", "assistant", "system", "tool"

_NAMES = {
    USER: ("human", "customer", "client", "visitor", "guest", "end_user", "humanmessage"),
    ASSISTANT: (
        "ai", "gpt", "chatgpt", "bot", "chatbot", "model", "agent", "llm", "claude", "gemini", "copilot", "bard",
        "bing", "aimessage", "function_call",
    ),
    SYSTEM: ("developer", "instructions", "system_prompt", "systemmessage"),
    TOOL: (
        "function", "function_response", "function_call_output", "observation", "tool_result", "tool_response",
        "tool_output", "toolmessage", "ipython",
    ),
}  # fmt: skip
_ROLE_OF = {name: role for role, names in _NAMES.items() for name in (role, *names)}


def role_of(speaker: str) -> str:
    """Return the role for a speaker's name in any case; an unknown name is returned as it is."""
    if (known := _ROLE_OF.get(speaker)) is not None:  # as nearly all are
        return known
    return _ROLE_OF.get(speaker.strip().lower().replace("-", "_").removesuffix("chunk"), speaker)


def is_known(speaker: str) -> bool:
    """Return whether a name means one of the four roles."""
    return role_of(speaker) in _NAMES
