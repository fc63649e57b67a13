"""A small log as a chat product would write it, which the tests of the pages show."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from logging_store.batches import Batch, Receipt
from logging_store.records import identity
from logging_store.spool.dead_letters import DeadLetters

NOW = datetime.now(UTC).replace(microsecond=0)

#: A conversation in each script: session key, title, prompt, response, and a part of the response to search for.
SCRIPTS = {
    "arabic": (
        "حجز طاولة",
        "أريد حجز طاولة لشخصين مساء الغد",
        "تم تأكيد الحجز في مطعم الياسمين الساعة الثامنة",
        "الياسمين",
    ),
    "chinese": ("预订餐厅", "请帮我预订明天晚上两个人的位子", "已经为您在翡翠餐厅预订了晚上八点的位子", "翡翠"),
    "japanese": ("旅行の相談", "京都で静かな旅館を探しています", "嵐山の近くにある竹林荘をおすすめします", "竹林荘"),
    "korean": ("날씨 질문", "내일 서울 날씨가 어때요?", "내일 서울은 맑고 무지개를 볼 수 있습니다", "무지개"),
    "thai": ("สั่งอาหาร", "อยากกินอาหารเผ็ดมาก", "ขอแนะนำต้มยำกุ้งกับข้าวเหนียวมะม่วง", "ข้าวเหนียว"),
    "emoji": ("Party 🎉", "What goes with a birthday?", "A cake 🎂, balloons 🎈 and a crown 👑", "🎈"),
}

#: A picture of one point, and bytes after it: what is shorter isn't taken for a file.
_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PHOTO = "data:image/png;base64," + base64.b64encode(_PNG + bytes(300)).decode()

LONG = 120  # turns: more than a page shows

MARKDOWN = """Here are **two** options:

| Place | Price |
|---|---:|
| Sino | $30 |
| Sipan | $25 |

1. Call `book("Sino")`
2. Wait

```python
def book(name: str) -> None:
    print(name)
```

More at [their page](https://restaurants.example/sino)."""


def fill(client: httpx.Client) -> None:
    """Log it all, as callers do."""
    _post(client, "/v1/folders", {"folder_id": "course", "name": "Speech lessons", "user_id": "ben", "plan": _plan()})
    for session in _sessions():
        _post(client, "/v1/sessions", session)
    lesson = {"session_number": 2, "title": "Second lesson", "status": "open"}
    named = _post(client, "/v1/folders/course/sessions", lesson)["session"]["session_id"]
    said = _turn("lesson", 1, "Say: red lorry", "Red lorry, yellow lorry", 1500) | {"session_id": named}
    _post(client, "/v1/interactions/batch", {"interactions": [*_interactions(), said]})


def leave_dead_letters(directory: Path, *titles: str) -> None:
    """Leave records behind that the store refused after all, as a spool does."""
    directory.mkdir(parents=True, exist_ok=True)
    letters = DeadLetters(directory)
    for title in titles:
        session = {"id": identity.new_id(), "title": title, "created_at": at(90)}
        refused = Receipt(receipt="conflict", fields=("title",), reason=f"Contradicts what is stored: {title}")
        letters.add(Batch("default", sessions=[session]), refused, spooled_at=NOW.timestamp() - 5400)


def at(minutes: float) -> str:
    """Return the time so many minutes ago."""
    return (NOW - timedelta(minutes=minutes)).isoformat()


def _plan() -> dict[str, Any]:
    return {"sessions_per_week": 2, "total_weeks": 3, "starts_on": (NOW - timedelta(days=10)).date().isoformat()}


def _sessions() -> list[dict[str, Any]]:
    table = {
        "session_id": "table", "title": "A table for two", "user_id": "ada", "tags": ["booking", "demo"],
        "metadata": {"app": "chat", "version": 3}, "started_at": at(300),
        "participants": [
            {"participant": "ada", "role": "guest", "state": "joined"},
            {"participant": "concierge", "role": "assistant"},
        ],
    }  # fmt: skip
    closed = {
        "session_id": "closed", "title": "Lost luggage", "user_id": "ben", "status": "closed", "tags": ["support"],
        "started_at": at(4000), "ended_at": at(3900),
    }  # fmt: skip
    troubled = {"session_id": "troubled", "title": "Nothing works", "user_id": "ben", "tags": ["support"]}
    long = {"session_id": "long", "title": "A long evening", "user_id": "ada"}
    empty = {"session_id": "empty", "title": "Nobody said a word"}
    scripts = [
        {"session_id": name, "title": title, "user_id": "cleo", "started_at": at(600)}
        for name, (title, *_) in SCRIPTS.items()
    ]
    return [table, closed, troubled, long, empty, *scripts]


def _interactions() -> list[dict[str, Any]]:
    return [*_table(), *_troubled(), *_scripts(), *_long(), *_others()]


def _turn(session: str, turn: int, prompt: Any, response: Any, minutes: float, **more: Any) -> dict[str, Any]:
    return {
        "session_id": session, "interaction_id": f"{session}-{turn}", "turn": turn,
        "prompt": prompt, "response": response,
        "model": "gpt-4o-mini", "provider": "openai", "started_at": at(minutes), "latency_ms": 700 + 13 * turn,
        "input_tokens": 40 + turn, "output_tokens": 90, "finish_reason": "stop",
    } | more  # fmt: skip


def _table() -> list[dict[str, Any]]:
    asked = [
        {"role": "system", "content": "You book tables."},
        {"role": "user", "name": "ada", "content": [{"type": "text", "text": "Book the cheaper one"}]},
    ]
    call = {"id": "call-1", "type": "function", "function": {"name": "book_table", "arguments": '{"place": "Sipan"}'}}
    answered = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call-1", "content": '{"booked": true}'},
        {"role": "assistant", "content": "Booked: Sipan at eight."},
    ]
    return [
        _turn("table", 1, "Where can two people eat tonight?", MARKDOWN, 300, time_to_first_token_ms=210),
        _turn("table", 2, asked, answered, 299, cost_usd=0.0042, finish_reason="tool_calls", tags=["tool"]),
        _turn("table", 3, "Thanks!", "You're welcome.", 298, model="claude-sonnet-4-5", provider="anthropic"),
        _turn("table", 4, "Tell me everything", "\n".join(f"Line {n} of a long answer." for n in range(200)), 297),
    ]


def _troubled() -> list[dict[str, Any]]:
    failed = {"status": "failed", "error": "The provider timed out after 30 s", "finish_reason": None}
    return [
        _turn("troubled", 1, "Hello?", None, 60, **failed),
        _turn("troubled", 2, "Are you there?", "Ye", 59, status="abandoned", finish_reason=None),
        _turn("troubled", 5, "Anybody?", None, 58, finish_reason=None, latency_ms=None, output_tokens=None),
    ]


def _scripts() -> list[dict[str, Any]]:
    return [
        _turn(name, 1, prompt, response, 600, participant="cleo") for name, (_, prompt, response, _) in SCRIPTS.items()
    ]


def _long() -> list[dict[str, Any]]:
    return [_turn("long", n, f"Question {n}", f"Answer {n}", 2000 - n) for n in range(1, LONG + 1)]


def _others() -> list[dict[str, Any]]:
    photo = {"type": "image_url", "image_url": {"url": PHOTO}}
    suitcase = [{"role": "user", "content": [{"type": "text", "text": "Where is my suitcase?"}, photo]}]
    return [
        _turn("closed", 1, suitcase, "On its way to you.", 4000),
        _turn("nobody-made-me", 1, "I came first", "And the session came along", 30),
    ]


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code in {200, 201}, f"{path} answered {answer.status_code}: {answer.text}"
    told: dict[str, Any] = answer.json()
    return told
