"""The examples of docs/messages.md, with stand-ins for the SDKs' clients, log what they say."""

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import playwright
import pytest
from flask.testing import FlaskClient

from tests.http_calls import in_path, transcript

PAGE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text(encoding="utf-8")


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


class Dumped(SimpleNamespace):
    """An object of an SDK."""

    def model_dump(self) -> dict[str, Any]:
        return {
            name: [each.model_dump() if isinstance(each, Dumped) else each for each in value]
            if isinstance(value, list)
            else value.model_dump()
            if isinstance(value, Dumped)
            else value
            for name, value in vars(self).items()
        }


class OpenAI:
    @property
    def chat(self) -> Any:
        return SimpleNamespace(completions=SimpleNamespace(create=self._complete))

    @property
    def responses(self) -> Any:
        return SimpleNamespace(create=self._respond)

    def _complete(self, *, model: str, messages: list[Any]) -> Dumped:
        said = Dumped(
            role="assistant", content=f"answer {len(messages)}", refusal=None, annotations=[], audio=None,
            function_call=None, tool_calls=None,
        )  # fmt: skip
        usage = Dumped(prompt_tokens=3, completion_tokens=2, total_tokens=5, prompt_tokens_details=None)
        return Dumped(model=f"{model}-2026", choices=[Dumped(message=said)], usage=usage)

    def _respond(self, *, model: str, input: list[Any]) -> Dumped:  # noqa: A002 - the SDK's name
        text = Dumped(type="output_text", text=f"answer {len(input)}", annotations=[])
        output = [
            Dumped(type="reasoning", id=f"rs_{len(input)}", summary=[], encrypted_content=None),
            Dumped(type="message", id=f"msg_{len(input)}", role="assistant", status="completed", content=[text]),
        ]
        usage = Dumped(input_tokens=3, output_tokens=2, output_tokens_details=Dumped(reasoning_tokens=1))
        return Dumped(model=f"{model}-2026", output=output, usage=usage)


class Anthropic:
    @property
    def messages(self) -> Any:
        return SimpleNamespace(create=self._create)

    def _create(self, *, model: str, messages: list[Any], **options: Any) -> Dumped:
        assert options == {"max_tokens": 500, "system": "Be short"}
        return Dumped(
            id=f"msg_{len(messages)}", type="message", role="assistant", model=f"{model}-2026", stop_reason="end_turn",
            stop_sequence=None, content=[{"type": "text", "text": f"answer {len(messages)}", "citations": None}],
            usage=Dumped(input_tokens=3, output_tokens=2, cache_read_input_tokens=0, cache_creation_input_tokens=0),
        )  # fmt: skip


class Log:
    """An HTTP client with an address and a key."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client

    def post(self, path: str, *, json: Any) -> None:
        assert self._client.post(path, json=json).status_code in {200, 201}


@pytest.mark.parametrize(
    ("session", "sdk"),
    [("chat-openai", OpenAI()), ("chat-responses", OpenAI()), ("chat-anthropic", Anthropic())],
)
def test_an_example_logs_each_call_of_the_model(client: FlaskClient, session: str, sdk: Any) -> None:
    (program,) = [each for each in examples("python") if session in each]
    talk: list[Any] = []
    names = {"client": sdk, "log": Log(client), "messages": talk, "items": talk, "system": "Be short"}
    for text in ("one?", "two?"):
        talk.append({"role": "user", "content": text})
        exec(program, names)  # noqa: S102 - the page's own
    first, second = transcript(client, session)
    assert second["prompt"] == "two?"
    assert first["response"].startswith("answer")
    assert (second["response"] == first["response"], second["output_tokens"]) == (False, 2)
    assert second["model"] in {"gpt-5-mini-2026", "claude-sonnet-2026"}
    assert first["input_tokens"] == 3


def test_the_example_of_the_ai_sdk_posts_its_messages(client: FlaskClient) -> None:
    (program,) = examples("js")
    ui_messages = [
        {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]},
        {"id": "a1", "role": "assistant", "parts": [{"type": "step-start"}, {"type": "text", "text": "Hello"}]},
    ]
    script = f"""
        const [turnlog, id, headers, messages] = ["", "chat-ai", {{}}, []];
        globalThis.fetch = (url, options) => console.log(JSON.stringify([url, options.method, options.body]));
        const said = {json.dumps(ui_messages)};
        const result = {{ toUIMessageStreamResponse: (options) => options.onFinish({{ messages: said }}) }};
        (() => {{ {program} }})();
    """
    node = Path(playwright.__file__).parent / "driver" / "node"
    done = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True)
    url, method, body = json.loads(done.stdout)
    assert (url, method) == (f"{in_path('chat-ai')}/messages", "POST")
    assert client.post(url, data=body, content_type="application/json").status_code == 201
    (row,) = transcript(client, "chat-ai")
    assert (row["key"], row["prompt"], row["response"]) == ("u1", "Hi", "Hello")
