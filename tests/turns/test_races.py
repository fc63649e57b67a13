"""Callers who send the same messages, or answers to the same question, at once."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from app import create_app
from conversation.settings import Settings
from tests.conftest import Backend
from tests.http_calls import KEYLESS, transcript
from tests.turns import corpus

THREADS = 20
PATH = "/v1/sessions/c/messages"


@pytest.fixture
def app(backend: Backend) -> Flask:
    return create_app(Settings.from_mapping(KEYLESS), backend.open())


def at_once(act: Callable[[int], Counter[str]]) -> Counter[str]:
    barrier = threading.Barrier(THREADS)
    with ThreadPoolExecutor(THREADS, initializer=barrier.wait, initargs=(30,)) as threads:
        return sum(threads.map(act, range(THREADS)), Counter[str]())


@pytest.mark.parametrize("name", ["with a system prompt", "several tools at once"])
def test_many_log_one_growing_list_and_store_it_once(app: Flask, name: str) -> None:
    dialogue = corpus.DIALOGUES[name]
    items = corpus.openai_chat(dialogue)
    ends = [n + 1 for n, said in enumerate(dialogue) if said.role == "assistant" or n + 1 == len(dialogue)]

    def act(_: int) -> Counter[str]:
        counts: Counter[str] = Counter()
        client = app.test_client()
        for end in ends:
            sent = client.post(PATH, json={"messages": items[:end]})
            counts += Counter(sent.get_json()["counts"])
        return counts

    expected = corpus.expected(dialogue)
    counts = at_once(act)
    assert (counts["created"], counts.keys() - {"created", "duplicate", "filled"}) == (len(expected), set())
    rows = transcript(app.test_client(), "c")
    assert [(row["prompt"], row["response"]) for row in rows] == expected


def test_of_many_answers_at_once_one_is_the_first_and_all_are_kept(app: Flask) -> None:
    app.test_client().post(PATH, json={"messages": [{"role": "user", "content": "Name a number", "id": "u"}]})

    def act(lane: int) -> Counter[str]:
        counts: Counter[str] = Counter()
        answer = {"role": "assistant", "content": f"{lane % 5}", "id": f"a{lane % 5}", "reply_to": "u"}
        for path, body in ((PATH, {"messages": [answer]}), ("/conversation/c/message", answer)):
            sent = app.test_client().post(path, json=body).get_json()
            counts[sent["receipts"][0]["receipt"] if "receipts" in sent else sent["receipt"]] += 1
        return counts

    assert at_once(act) == {"filled": 1, "created": 4, "duplicate": 2 * THREADS - 5}
    first, *others = transcript(app.test_client(), "c")
    assert sorted(row["response"] for row in (first, *others)) == ["0", "1", "2", "3", "4"]
    assert {(row["prompt"], row["alternative_to"]) for row in others} == {(None, first["interaction_id"])}
