"""The session page: its turns in order, with the details of each."""

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.pages import session_page as page_module
from conversation.pages.jinja_filters import MISSING
from conversation.settings import Settings
from logging_store.group_commit import GroupCommit
from logging_store.records import identity
from logging_store.spool import Limits, Spool
from logging_store.store import Store
from tests.http_calls import KEYLESS, create, log
from tests.pages.html import link, page_of, texts
from tests.store_calls import expire_texts, record_operations

AT = "2026-11-21T10:00:0{}Z"


@pytest.fixture
def conversed(client: FlaskClient) -> FlaskClient:
    create(client, session_id="s", title="A chat", user_id="ada", tags=["beta"], metadata={"plan": "pro"})
    log(
        client, session_id="s", interaction_id="one", turn=1, prompt="What is *this*?", response="**Bold**",
        model="m-1", provider="p", latency_ms=1234, time_to_first_token_ms=200, input_tokens=10, output_tokens=2000,
        cost_usd=0.0123,
        finish_reason="stop", started_at=AT.format(1), participant="ada",
    )  # fmt: skip
    log(client, session_id="s", interaction_id="two", turn=4, prompt="And now?", started_at=AT.format(2))
    log(client, session_id="s", interaction_id="three", turn=5, prompt="Hm", error="timed out", started_at=AT.format(3))
    return client


def test_it_takes_one_call_of_the_store(
    conversed: FlaskClient, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = {"folder_id": "f", "session_id": "planned", "session_number": 2}
    assert create(conversed, **planned).status_code == 201
    log(conversed, session_id="planned", interaction_id="one", prompt="Hello", participant="ada")
    feedback = {"session_id": "planned", "interaction_id": "one", "name": "score", "value": 4}
    assert conversed.post("/v1/feedback", json=feedback).status_code == 201
    asked = record_operations(store, monkeypatch)
    spool = Spool(store, tmp_path / "spool", Limits(min_free_bytes=0))
    client = create_app(Settings.from_mapping(KEYLESS), GroupCommit(spool, max_wait_s=10)).test_client()
    page = page_of(client.get("/sessions/planned"))
    assert asked == ["conversation"]
    assert texts(page, ".bubble .who") == ["ada"]
    spool.close()


def id_of(name: str, session: str = "s") -> str:
    return identity.interaction("default", identity.session("default", session).id, name).id


def test_it_reads_as_a_chat(conversed: FlaskClient) -> None:
    page = page_of(conversed.get("/sessions/s"))
    assert texts(page, "h1") == ["A chat"]
    assert texts(page, ".bubble.user .text") == ["What is *this*?", "And now?", "Hm"]
    assert texts(page, ".bubble.assistant .text strong") == ["Bold"]
    assert texts(page, ".bubble .who") == ["ada", "m-1", "user", "user"]
    (first, *_) = texts(page, ".turn .facts")
    for fact in ("turn 1", "2026-11-21 10:00:01", "m-1", "1.2 s", "200 ms", "10 + 2,000 tokens", "$0.01", "stop"):
        assert fact in first


def test_an_old_conversation_that_is_logged_today_began_with_its_earliest_turn(client: FlaskClient) -> None:
    log(client, session_id="old", prompt="p", response="r", started_at="2025-05-01T12:00:00Z")
    log(client, session_id="old", prompt="p", response="r", started_at="2025-05-01T10:00:00Z")
    (details, *_) = texts(page_of(client.get("/sessions/old")), "dl")
    assert "Started 2025-05-01 10:00:00 Last activity 2025-05-01 12:00:00" in details
    day = {"from": "2025-05-01T00:00:00Z", "to": "2025-05-02T00:00:00Z"}
    (listed,) = texts(page_of(client.get("/sessions", query_string=day)), "tbody tr")
    assert listed.endswith("2025-05-01 10:00:00 2025-05-01 12:00:00")


def test_states_and_errors_are_shown_as_such(conversed: FlaskClient) -> None:
    page = page_of(conversed.get("/sessions/s"))
    assert texts(page, f"#i-{id_of('two')} .badge") == ["pending"]
    assert texts(page, f"#i-{id_of('three')} .badge") == ["failed"]
    assert texts(page, f"#i-{id_of('three')} .error") == ["timed out"]
    assert texts(page, f"#i-{id_of('one')} .badge") == []


def test_gaps_of_the_callers_count_are_shown_where_they_are(conversed: FlaskClient) -> None:
    page = page_of(conversed.get("/sessions/s"))
    assert texts(page, ".gap") == ["Turns 2 to 3 were never logged."]
    assert [li.get("id") or "gap" for li in page.select(".turns > li")] == [
        f"i-{id_of('one')}", "gap", f"i-{id_of('two')}", f"i-{id_of('three')}",
    ]  # fmt: skip


def test_the_sessions_details_stand_beside_it(conversed: FlaskClient) -> None:
    aside = page_of(conversed.get("/sessions/s")).aside
    assert aside
    told = " ".join(aside.get_text(" ").split())
    for fact in ("ada", "beta", '"plan": "pro"', "m-1", "2,010"):
        assert fact in told


def test_a_tag_leads_to_the_sessions_that_have_it(conversed: FlaskClient) -> None:
    page = page_of(conversed.get("/sessions/s"))
    assert link(page, "beta") == "/sessions?tag=beta"


@pytest.fixture
def long(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setattr(page_module, "TURNS", 4)
    for n in range(1, 11):
        log(client, session_id="long", interaction_id=f"t{n}", turn=n, prompt=f"prompt {n}")
    return client


def shown(page: Any) -> list[int]:
    return [int(text.split()[1]) for text in texts(page, ".bubble.user .text")]


def test_a_long_one_is_read_in_pages_there_and_back(long: FlaskClient) -> None:
    first = page_of(long.get("/sessions/long"))
    assert shown(first) == [1, 2, 3, 4]
    assert "Showing 1 to 4 of 10 interactions" in texts(first, "p.text-body-secondary")[0]
    second = page_of(long.get(link(first, "Later")))
    assert shown(second) == [5, 6, 7, 8]
    third = page_of(long.get(link(second, "Later")))
    assert shown(third) == [9, 10]
    assert not third.select("a[rel=next]")
    assert shown(page_of(long.get(link(third, "Earlier")))) == [5, 6, 7, 8]
    assert shown(page_of(long.get(link(second, "Earlier")))) == [1, 2, 3, 4]
    assert not first.select("a[rel=prev]")


@pytest.mark.parametrize(("turn", "page"), [(1, [1, 2, 3, 4]), (4, [1, 2, 3, 4]), (5, [5, 6, 7, 8]), (10, [9, 10])])
def test_a_link_to_a_turn_opens_the_page_it_is_on(long: FlaskClient, turn: int, page: list[int]) -> None:
    for name in (f"t{turn}", id_of(f"t{turn}", "long")):
        found = page_of(long.get(f"/sessions/long?turn={name}"))
        assert shown(found) == page
        assert texts(found, ".turn.target .text") == [f"prompt {turn}"]
    permalink = [a["href"] for a in found.select(".facts a") if a.get_text(strip=True) == f"turn {turn}"]
    assert permalink == [f"/sessions/{identity.session('default', 'long').id}?turn={name}#i-{name}"]


def test_a_turn_that_is_not_there_opens_the_first_page(long: FlaskClient) -> None:
    assert shown(page_of(long.get("/sessions/long?turn=nothing"))) == [1, 2, 3, 4]


def test_a_made_up_cursor_is_refused_by_name(long: FlaskClient) -> None:
    assert "?cursor" in texts(page_of(long.get("/sessions/long?cursor=x"), 422), "main li")[0]


def test_a_session_in_a_folder_leads_to_its_neighbours(client: FlaskClient) -> None:
    client.post("/v1/folders", json={"folder_id": "f", "name": "Ann"})
    ids = [
        client.post("/v1/folders/f/sessions", json={"session_number": n}).get_json()["session_id"] for n in (1, 2, 3)
    ]
    middle = page_of(client.get(f"/sessions/{ids[1]}"))
    assert link(middle, "← Number 1") == f"/sessions/{ids[0]}"
    assert link(middle, "Number 3 →") == f"/sessions/{ids[2]}"
    assert not [text for text in texts(page_of(client.get(f"/sessions/{ids[0]}")), "aside a") if text.startswith("←")]


def test_an_erased_session_is_gone(conversed: FlaskClient) -> None:
    conversed.delete("/v1/sessions/s")
    assert texts(page_of(conversed.get("/sessions/s"), 410), "h1") == ["Session Erased"]


def test_a_session_and_a_turn_are_given_as_json(conversed: FlaskClient) -> None:
    assert conversed.get("/sessions/s/json").get_json() == conversed.get("/v1/sessions/s").get_json()
    (first, *_) = conversed.get("/v1/sessions/s/interactions").get_json()["interactions"]
    assert conversed.get("/sessions/s/json?turn=one").get_json() == first
    assert conversed.get("/sessions/s/json?turn=nothing").status_code == 404


def test_a_session_is_downloaded_as_lines_that_say_all_of_it(conversed: FlaskClient) -> None:
    answer = conversed.get("/sessions/s/turnlog.jsonl")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="A-chat.jsonl"'
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["record"] for line in lines] == ["session", "participant", *["interaction"] * 3]
    assert [line.get("response") for line in lines[2:]] == ["**Bold**", None, None]


def test_a_session_is_downloaded_as_markdown(conversed: FlaskClient) -> None:
    answer = conversed.get("/sessions/s/conversation.md")
    assert answer.mimetype == "text/markdown"
    assert answer.text.startswith("# A chat\n\n## ada, 2026-11-21T10:00:01+00:00\n\nWhat is *this*?\n\n## m-1, ")
    assert "*failed: timed out*" in answer.text


@pytest.mark.parametrize("title", ["../../etc/passwd", 'a"; filename="b', "…", "a\r\nSet-Cookie: x"])
def test_no_title_breaks_out_of_a_files_name(client: FlaskClient, title: str) -> None:
    create(client, session_id="t", title=title)
    given = client.get("/sessions/t/conversation.md").headers["Content-Disposition"]
    assert given.count('"') == 2
    assert "/" not in given
    assert "Set-Cookie" not in client.get("/sessions/t/conversation.md").headers


def test_resent_messages_are_shown_once(client: FlaskClient) -> None:
    said: list[dict[str, str]] = [{"role": "system", "content": "Be short."}]
    for n in (1, 2, 3):
        said.append({"role": "user", "content": f"question {n}"})
        log(client, session_id="h", interaction_id=f"t{n}", turn=n, prompt=said, response=f"answer {n}")
        said.append({"role": "assistant", "content": f"answer {n}"})
    page = page_of(client.get("/sessions/h"))
    shown = ["Be short.", "question 1", "answer 1", "question 2", "answer 2", "question 3", "answer 3"]
    assert texts(page, ".bubble .text") == shown
    assert texts(page, ".resent") == [
        "3 earlier messages sent again ( JSON )",
        "5 earlier messages sent again ( JSON )",
    ]


def test_messages_that_changed_are_shown_again(client: FlaskClient) -> None:
    for n, system in enumerate(("Be short.", "Be long."), 1):
        messages = [{"role": "system", "content": system}, {"role": "user", "content": "Hi"}]
        log(client, session_id="h", interaction_id=f"t{n}", turn=n, prompt=messages, response="Hello")
    assert texts(page_of(client.get("/sessions/h")), ".bubble.other .text") == ["Be short.", "Be long."]


def test_the_same_question_asked_twice_is_shown_twice(client: FlaskClient) -> None:
    for n in (1, 2):
        log(client, session_id="h", interaction_id=f"t{n}", turn=n, prompt=[{"role": "user", "content": "Hi"}])
    assert texts(page_of(client.get("/sessions/h")), ".bubble .text") == ["Hi", "Hi"]


def test_a_missing_cost_is_estimated_and_marked(client: FlaskClient) -> None:
    usage = {"model": "gpt-4o", "provider": "openai", "input_tokens": 1_000_000, "output_tokens": 0}
    log(client, session_id="c", interaction_id="stated", turn=1, prompt="Hi", cost_usd=1.5, **usage)
    log(client, session_id="c", interaction_id="estimated", turn=2, prompt="Hi", **usage)
    log(client, session_id="c", interaction_id="unknown", turn=3, prompt="Hi", model="nobody-7b", input_tokens=5)
    page = page_of(client.get("/sessions/c"))
    stated, estimated, unknown = texts(page, ".turn .facts")
    assert "$1.50" in stated
    assert "≈ $" in estimated
    assert "$" not in unknown
    (sums,) = [row for row in texts(page, "aside tbody tr") if row.startswith("gpt-4o")]
    assert sums.split()[-2] == "≈"
    assert float(sums.rpartition("$")[2]) > 1.5
    assert [row for row in texts(page, "aside tbody tr") if row.startswith("nobody-7b")] == [f"nobody-7b 1 5 {MISSING}"]


def test_cached_and_reasoning_tokens_are_shown_and_priced(client: FlaskClient) -> None:
    usage = {"model": "claude-3-5-sonnet", "input_tokens": 1000, "output_tokens": 0, "cached_input_tokens": 500}
    started = "2026-03-01T12:00:00Z"
    create(client, session_id="c", started_at=started)
    log(client, session_id="c", prompt="Hi", **usage, cache_write_tokens=400, started_at=started)
    log(
        client, session_id="c", prompt="Hi", **usage | {"input_tokens": 100}, cache_write_tokens=400, started_at=started
    )
    log(client, session_id="c", prompt="Hi", model="own", output_tokens=10, reasoning_tokens=7, cost_usd=1)
    page = page_of(client.get("/sessions/c"))
    first, apart, reasoned = texts(page, ".turn .facts")
    assert "1,000 + 0 tokens 500 cached 400 written to the cache ≈ $0.00195" in " ".join(first.split())
    assert "100 + 0 tokens 500 cached 400 written to the cache ≈ $0.00195" in " ".join(apart.split())
    assert "7 reasoning" in reasoned
    assert sorted(" ".join(row.split()) for row in texts(page, "aside tbody tr")) == [
        "claude-3-5-sonnet 2 1,100 1,000 cached 800 written to the cache ≈ $0.0039",
        "own 1 10 7 reasoning $1.00",
    ]


def test_gaps_between_two_pages_are_shown(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "TURNS", 2)
    said: list[dict[str, str]] = []
    for n in (1, 2, 7, 8, 9):
        said.append({"role": "user", "content": f"question {n}"})
        log(client, session_id="b", interaction_id=f"t{n}", turn=n, prompt=said)
    second = page_of(client.get("/sessions/b?turn=t7"))
    assert texts(second, ".gap") == ["Turns 3 to 6 were never logged."]
    assert texts(second, ".bubble .text") == ["question 7", "question 8"]
    third = page_of(client.get(link(second, "Later")))
    assert texts(third, ".bubble .text") == ["question 9"]
    assert texts(page_of(client.get(link(third, "Earlier"))), ".bubble .text") == ["question 7", "question 8"]


def test_an_erased_turn_keeps_its_place_and_shows_that_it_was_erased(client: FlaskClient) -> None:
    for n in (1, 2, 3):
        log(client, session_id="s", interaction_id=str(n), turn=n, prompt=f"prompt {n}", response=f"answer {n}")
    assert client.delete("/v1/sessions/s/interactions/2").status_code == 200
    page = page_of(client.get("/sessions/s"))
    turns = page.select("li.turn")
    assert [bool(turn.select(".erased")) for turn in turns] == [False, True, False]
    assert texts(page, ".erased")[0].startswith("Erased 20")
    assert not turns[1].select(".bubble, form")
    assert "turn 2" in turns[1].get_text()
    assert not page.select(".gap")
    markdown = client.get("/sessions/s/conversation.md").text
    assert "*Erased 20" in markdown
    assert "[erased]" not in markdown + client.get("/live").text


def test_a_turn_whose_text_expired_says_so_and_keeps_its_numbers(client: FlaskClient, store: Store) -> None:
    create(client, session_id="s", title="About me")
    for n in (1, 2):
        log(
            client, session_id="s", interaction_id=str(n), turn=n, prompt=f"prompt {n}", response="ok", output_tokens=77
        )
    expire_texts(store)
    log(client, session_id="s", interaction_id="3", turn=3, prompt="prompt 3")
    page = page_of(client.get("/sessions/s"))
    turns = page.select("li.turn")
    assert [bool(turn.select(".text-expired")) for turn in turns] == [True, True, False]
    assert texts(page, ".text-expired")[0].startswith("Text expired 20")
    assert [len(turn.select(".bubble")) for turn in turns] == [0, 0, 1]
    assert "77" in turns[0].get_text()
    assert "About me" not in page.get_text()
    live = client.get("/live").text
    assert live.count("Text expired") == 2
    markdown = client.get("/sessions/s/conversation.md").text
    assert markdown.count("*Text expired 20") == 2
    assert "[expired]" not in markdown + live + client.get("/search?q=expired").text
