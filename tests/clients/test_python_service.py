"""The Python client and the service: what is logged is stored as it was said."""

import asyncio
import contextlib
import threading
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.clients.conftest import Log, OpenLog, run_async
from turnlog import AsyncTurnlog


def test_a_turn_is_pending_at_once_and_complete_at_its_end(log_service: Log, open_log: OpenLog) -> None:
    log = open_log(log_service.url)
    chat = log.session("turns", user_id="ada", title="First steps", tags=["demo"])
    with chat.turn(prompt="What is a session?", model="small-1") as turn:
        assert turn.receipt.result(10).state == "created"
        (row,) = log_service.transcript("turns")
        assert (row["status"], row["response"]) == ("pending", None)
        turn.append("One ")
        turn.append("conversation.")
        turn.complete(input_tokens=12, output_tokens=3, finish_reason="stop")
    assert turn.receipt.result(10).state == "filled"
    turn.feedback(True, comment="Just right")
    chat.feedback(0.5, name="solved")
    report = log.flush(10)
    assert (report.created, report.filled, report.waiting, report.complete, report.durable) == (3, 1, 0, True, True)
    (row,) = log_service.transcript("turns")
    assert (row["prompt"], row["response"], row["status"]) == ("What is a session?", "One conversation.", "completed")
    assert (row["key"], row["input_tokens"], row["model"]) == (None, 12, "small-1")
    assert 0 <= row["time_to_first_token_ms"] <= row["latency_ms"]
    session = log_service.session("turns")
    assert (session["user_id"], session["title"], session["tags"]) == ("ada", "First steps", ["demo"])


def test_feedback_changes_and_is_taken_back(log_service: Log, open_log: OpenLog) -> None:
    chat = open_log(log_service.url).session("feedback", user_id="ada")
    states = [
        chat.feedback(value, interaction_id="one", comment=comment).result(10).state
        for value, comment in [(True, "Just right"), (False, None), (None, None)]
    ]
    assert states == ["created", "filled", "filled"]
    (given,) = httpx.get(f"{log_service.url}/v1/sessions/feedback/feedback").json()["feedback"]
    assert (given["value"], given["comment"], given["name"]) == (None, None, "rating")


def test_an_exception_fails_the_turn_and_a_turn_left_open_is_abandoned(log_service: Log, open_log: OpenLog) -> None:
    log = open_log(log_service.url)
    chat = log.session("ends")
    with contextlib.suppress(RuntimeError), chat.turn(prompt="A", interaction_id="failed") as turn:
        turn.append("Half")
        raise RuntimeError("rate limit")
    with chat.turn(prompt="B", interaction_id="left") as turn:
        turn.append("Part")
    with pytest.raises(asyncio.CancelledError), chat.turn(prompt="C", interaction_id="cancelled"):
        raise asyncio.CancelledError
    chat.turn(prompt="D", interaction_id="forgotten")
    log.flush(10)
    rows = {row["key"]: row for row in log_service.transcript("ends")}
    assert {key: (row["status"], row["response"], row["error"]) for key, row in rows.items()} == {
        "failed": ("failed", "Half", "RuntimeError: rate limit"),
        "left": ("abandoned", "Part", None),
        "cancelled": ("abandoned", None, None),
        "forgotten": ("abandoned", None, None),
    }


def test_the_same_call_again_is_a_duplicate_and_another_word_a_conflict(log_service: Log, open_log: OpenLog) -> None:
    refused: list[str] = []
    log = open_log(log_service.url, on_refused=lambda record, _: refused.append(record["response"]))
    chat = log.session("again")
    rules: list[tuple[str, str | None]] = [("A", None), ("A", None), ("B", None), ("B", "revise")]
    states = [
        chat.log("Q", response, interaction_id="one", on_conflict=rule).result(10).state for response, rule in rules
    ]
    assert states == ["created", "duplicate", "conflict", "revised"]
    assert refused == ["B"]
    (letter,) = log.dead_letters()
    assert (letter["receipt"], letter["record"]["response"], letter["fields"]) == (
        "conflict",
        "B",
        ["$.interactions[0].response"],
    )


def test_a_program_that_starts_a_turn_again_under_its_id_contradicts_nothing(
    log_service: Log, open_log: OpenLog
) -> None:
    log = open_log(log_service.url)
    for _ in range(2):
        with log.session("restarted").turn(prompt="Q", interaction_id="one") as turn:
            turn.complete("A")
        assert turn.receipt.result(10).stored
    assert log.report().conflict == 0
    (row,) = log_service.transcript("restarted")
    assert row["response"] == "A"


def test_a_field_that_the_service_refuses_costs_only_itself(log_service: Log, open_log: OpenLog) -> None:
    log = open_log(log_service.url)
    chat = log.session("fields", title="x" * 5000, user_id="ada")
    fields: Any = {"output_tokens": -1, "promt": "a typo"}
    outcome = chat.log(prompt="Q", response="A", tags=["kept"], **fields).result(10)
    assert (outcome.state, set(outcome.dropped)) == ("created", {"output_tokens", "promt"})
    (row,) = log_service.transcript("fields")
    assert (row["response"], row["tags"]) == ("A", ["kept"])
    assert log_service.session("fields")["user_id"] == "ada"
    rejected = chat.log(prompt=["no message"], response="A").result(10)
    assert (rejected.state, rejected.reason) == ("rejected", "invalid")


def test_messages_are_logged_as_an_sdk_has_them(log_service: Log, open_log: OpenLog) -> None:
    log = open_log(log_service.url)
    chat = log.session("a list/with a slash", user_id="ada")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    assert chat.messages(messages, model="small-1").result(10).state == "created"
    assert chat.messages(messages).result(10).state == "duplicate"
    assert chat.messages([*messages, {"role": "user", "content": "Bye"}]).result(10).state == "created"
    rows = log_service.transcript("a%20list%2Fwith%20a%20slash")
    assert [row["response"] for row in rows] == ["Hello.", None]


TEXTS = ['ü€😀 \u2028\u2029\x85\r\n\t"\\', "half \ud83d of one", "nul \x00", " " * 3, "", "a" * 300_000]


def test_texts_come_back_as_they_were_said(log_service: Log, open_log: OpenLog) -> None:
    chat = open_log(log_service.url).session("texts")
    for number, text in enumerate(TEXTS):
        assert chat.log(prompt="Q", response=text, turn=number).result(10).state == "created"
    stored = [row["response"] for row in log_service.transcript("texts")]
    assert stored == [text.replace("\ud83d", "\ufffd").replace("\x00", "\u2400") for text in TEXTS]


def test_what_json_does_not_know_is_stored_as_near_as_can_be(log_service: Log, open_log: OpenLog) -> None:
    chat = open_log(log_service.url).session("values")
    odd: Any = {"at": datetime(2026, 1, 2, tzinfo=UTC), "nan": float("nan"), 5: {1}, "bytes": b"123"}
    assert chat.log(prompt="Q", response="A", metadata=odd).result(10).state == "created"
    (row,) = log_service.transcript("values")
    assert row["metadata"] == {"at": "2026-01-02T00:00:00+00:00", "nan": None, "5": [1], "bytes": "[3 bytes]"}


def test_threads_log_at_once_and_each_record_once(log_service: Log, open_log: OpenLog) -> None:
    log = open_log(log_service.url)
    chat = log.session("threads", user_id="ada")

    def work(name: int) -> None:
        for number in range(100):
            chat.log(prompt=f"{name}/{number}", response="A")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = log.flush(30)
    assert (report.created, report.waiting, report.complete) == (800, 0, True)
    assert sorted(row["prompt"] for row in log_service.transcript("threads")) == sorted(
        f"{name}/{number}" for name in range(8) for number in range(100)
    )


def test_the_functions_of_hand_written_loggers(log_service: Log, open_log: OpenLog) -> None:
    log = open_log(log_service.url)
    session = log.create_session(user_id="ada")
    first = log.log_interaction(
        session_id=session, user_input="Hi", ai_response="Hello.", model_name="small-1", response_time_ms=12.5,
        tokens_used=40, metadata={"channel": "web"},
    )  # fmt: skip
    assert log.create_session("mine", "bob") == "mine"
    assert log.flush(10).complete
    (row,) = log_service.transcript(session)
    assert row["interaction_id"] == first
    assert (row["prompt"], row["response"], row["model"], row["latency_ms"]) == ("Hi", "Hello.", "small-1", 12.5)
    assert row["metadata"] == {"channel": "web", "tokens_used": 40}
    assert [log_service.session(each)["user_id"] for each in (session, "mine")] == ["ada", "bob"]


def test_asyncio_has_the_same_names(log_service: Log, open_log: OpenLog) -> None:
    async def talk() -> None:
        async with AsyncTurnlog(around=open_log(log_service.url)) as log:
            chat = log.session("async", user_id="ada")
            async with chat.turn(prompt="Q") as turn:
                turn.append("A")
                await turn.complete(model="small-1")
            assert (await turn.receipt).state == "filled"
            await turn.feedback(True)
            receipts = [await chat.log(prompt=str(number), response="A") for number in range(20)]
            assert {outcome.state for outcome in await asyncio.gather(*receipts)} == {"created"}
            with pytest.raises(KeyError):
                async with chat.turn(prompt="fails"):
                    raise KeyError
            assert (await log.flush(10)).complete

    run_async(talk())
    statuses = [row["status"] for row in log_service.transcript("async")]
    assert sorted(statuses) == ["completed"] * 21 + ["failed"]
