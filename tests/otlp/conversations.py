"""One chat as each dialect tells it: a question with a system prompt, and the next question with the history."""

import json
from typing import Any

from tests.otlp.builders import START, Sent, chat

SYSTEM, FIRST, ANSWER, SECOND, LAST = "Be brief.", "The capital of Peru?", "Lima.", "How big?", "Ten million."
MODEL, RESPONSE_ID = "gpt-5-mini-2026-08-07", "chatcmpl-a1b2c3d4e5"
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Lima"}'}}
SENT = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": FIRST},
    {"role": "assistant", "content": ANSWER},
    {"role": "user", "content": SECOND},
]
COMPLETION = {
    "id": RESPONSE_ID,
    "model": MODEL,
    "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": LAST}}],
}


def _flat(prefix: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    found = {}
    for n, message in enumerate(messages):
        for name, value in message.items():
            found[f"{prefix}.{n}.{name}"] = value
    return found


_GENAI = chat(LAST, FIRST, ANSWER, ask=SECOND, gen_ai__response__id=RESPONSE_ID, session__id="s", user__id="ada")

#: Dialect -> the span of the second call: session s, user ada, 40 tokens in, 5 out, 100 ms until the first token.
SPANS: dict[str, Sent] = {
    "genai": Sent(attributes=_GENAI | {"gen_ai.response.time_to_first_chunk": 0.1}),
    "genai in events": Sent(
        attributes={name: value for name, value in _GENAI.items() if not name.endswith("messages")}
        | {"gen_ai.server.time_to_first_token": 0.1},
        events=[
            ("gen_ai.system.message", 0, {"content": SYSTEM}),
            ("gen_ai.user.message", 0, {"content": FIRST}),
            ("gen_ai.assistant.message", 0, {"content": ANSWER}),
            ("gen_ai.user.message", 0, {"content": SECOND}),
            ("gen_ai.choice", 200, {"index": 0, "finish_reason": "stop", "message": json.dumps({"content": LAST})}),
        ],
    ),
    "openllmetry": Sent(
        "openai.chat",
        {
            "llm.request.type": "chat",
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "gpt-5-mini",
            "gen_ai.response.model": MODEL,
            "gen_ai.response.id": RESPONSE_ID,
            "gen_ai.usage.prompt_tokens": 40,
            "gen_ai.usage.completion_tokens": 5,
            "traceloop.association.properties.session_id": "s",
            "traceloop.association.properties.user_id": "ada",
            "gen_ai.completion.0.finish_reason": "stop",
        }
        | _flat("gen_ai.prompt", SENT)
        | _flat("gen_ai.completion", [{"role": "assistant", "content": LAST}]),
        events=[("llm.content.completion.chunk", 100, {}), ("llm.content.completion.chunk", 120, {})],
    ),
    "openinference": Sent(
        "ChatCompletion",
        {
            "openinference.span.kind": "LLM",
            "llm.system": "openai",
            "llm.model_name": MODEL,
            "llm.finish_reason": "stop",
            "llm.token_count.prompt": 40,
            "llm.token_count.completion": 5,
            "output.value": json.dumps(COMPLETION),
            "session.id": "s",
            "user.id": "ada",
        }
        | _flat("llm.input_messages", [{f"message.{key}": value for key, value in each.items()} for each in SENT])
        | _flat("llm.output_messages", [{"message.role": "assistant", "message.content": LAST}]),
        events=[("First Token Stream Event", 100, {})],
    ),
    "langfuse": Sent(
        "OpenAI-generation",
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.input": json.dumps({"messages": SENT, "tools": []}),
            "langfuse.observation.output": json.dumps(LAST),
            "langfuse.observation.model.name": MODEL,
            "langfuse.observation.usage_details": json.dumps(
                {"input": 30, "input_cached_tokens": 10, "output": 5, "total": 45}
            ),
            "langfuse.observation.completion_start_time": json.dumps("2026-09-21T14:13:20.100Z"),
            "langfuse.observation.metadata.finish_reason": '"stop"',
            "langfuse.session.id": "s",
            "langfuse.user.id": "ada",
            "gen_ai.system": "openai",
            "gen_ai.response.id": RESPONSE_ID,
        },
    ),
    "langsmith": Sent(
        "ChatOpenAI",
        {
            "langsmith.span.kind": "llm",
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "openai",
            "gen_ai.prompt": json.dumps({"messages": SENT, "model": "gpt-5-mini"}),
            "gen_ai.completion": json.dumps(COMPLETION),
            "gen_ai.response.model": MODEL,
            "langsmith.metadata.usage_metadata": json.dumps(
                {"input_tokens": 40, "output_tokens": 5, "total_tokens": 45}
            ),
            "langsmith.metadata.session_id": "s",
            "langsmith.metadata.user_id": "ada",
            "langsmith.trace.session_name": "the project",
        },
        events=[("new_token", 100, {})],
    ),
    "mlflow": Sent(
        "Completions",
        {
            "mlflow.spanType": json.dumps("CHAT_MODEL"),
            "mlflow.spanInputs": json.dumps({"model": "gpt-5-mini", "messages": SENT}),
            "mlflow.spanOutputs": json.dumps(COMPLETION),
            "mlflow.message.format": json.dumps("openai"),
            "mlflow.chat.tokenUsage": json.dumps({"input_tokens": 40, "output_tokens": 5, "total_tokens": 45}),
            "mlflow.trace.session": json.dumps("s"),
            "mlflow.trace.user": json.dumps("ada"),
        },
        events=[("mlflow.chunk.item.0", 100, {}), ("mlflow.chunk.item.1", 120, {})],
    ),
    "vercel": Sent(
        "ai.streamText.doStream",
        {
            "ai.operationId": "ai.streamText.doStream",
            "ai.model.provider": "openai.chat",
            "ai.model.id": "gpt-5-mini",
            "ai.prompt.messages": json.dumps(SENT),
            "ai.response.text": LAST,
            "ai.response.model": MODEL,
            "ai.response.id": RESPONSE_ID,
            "ai.response.finishReason": "stop",
            "ai.response.msToFirstChunk": 100.0,
            "ai.usage.inputTokens": 40,
            "ai.usage.outputTokens": 5,
            "ai.telemetry.metadata.sessionId": "s",
            "ai.telemetry.metadata.userId": "ada",
        },
    ),
}
assert START == 1_790_000_000 * 10**9  # 2026-09-21T14:13:20Z
