"""Searching what was said: in any script, whole words or parts, newest or best first, a stretch at a time."""

# ruff: noqa: RUF001 - characters that look like others are what is searched for

import unicodedata
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from conversation.api import snippets
from logging_store import operations as ops
from logging_store.log_reader import NamedSearchFilters
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT, Backend
from tests.http_calls import create, in_path, log, paths
from tests.store_calls import ask

#: What somebody said, and what must find it.
SAID = {
    "Arabic": ("أريد حجز طاولة لشخصين في مطعم قريب", ["طاولة", "لشخص", "طا", "حجز مطعم"]),
    "Chinese": ("我想预订明天晚上七点东京附近的餐厅", ["东京", "餐", "明天晚上", "预订 餐厅"]),
    "Japanese": ("東京都に行くホテルを予約したいです", ["東京", "京", "ホテル", "ﾎﾃﾙ", "予約したい"]),
    "Korean": ("서울 근처 호텔을 추천해 주세요", ["호텔", "서울", "텔", unicodedata.normalize("NFD", "호텔")]),
    "Thai": ("ขอจองโต๊ะสำหรับสองคนพรุ่งนี้", ["โต๊ะ", "สองคน", "สำหรับ", "จ"]),
    "emoji": ("great 🎉 see you 👋🏽 ❤️", ["🎉", "👋🏽", "👋", "❤️", "❤"]),
    "German": ("Die Größe der Straße ist Übergröße", ["GRÖSSE"[:3], "größe", "STRAßE", "u\u0308bergro\u0308ße"]),
    "Greek": ("Ο Οδυσσέας γύρισε", ["ΟΔΥΣΣΈΑΣ", "οδυσσέασ", "σέα"]),
    "Russian": ("Привет, как дела?", ["привет", "ПРИВЕТ", "дел"]),
    "full width": ("ＡＢＣ１２３ and ﬁne", ["abc123", "fine", "ｆｉｎｅ"]),
    "unseen marks": ("soft\u00adware \u200fשלום\u200e עולם", ["software", "שלום", "של\u200dום עולם"]),
    "wildcards": ("100% of a_b \\ 'quoted' 50%off", ["100%", "%", "a_b", "\\", "'quoted'", "0% o"[:2]]),
    "HTML": ('<b>bold</b> & "so"', ["<b>", "&", "</b>"]),
    "null and SQL": ("null; drop table x; --", ["null", "--", "drop table"]),
}
ABSENT = ["a__b", "100_", "%%", "_%", "١٢٣", "zebra", "東都", "b>bald", "é"]


def search(client: FlaskClient, **query: Any) -> dict[str, Any]:
    answer = client.get("/v1/interactions", query_string=query)
    assert answer.status_code == 200, answer.get_json()
    body: dict[str, Any] = answer.get_json()
    return body


def keys(page: dict[str, Any]) -> list[str]:
    return [hit["interaction_key"] for hit in page["interactions"]]


def marked(hit: dict[str, Any]) -> list[str]:
    return [hit["snippet"][mark["start"] : mark["end"]] for mark in hit["marks"]]


@pytest.mark.parametrize(
    "message",
    [
        {"id": "m", "role": "user", "parts": [{"type": "step-start"}, {"type": "text", "text": "an aardvark"}]},
        {"role": "user", "content": "", "parts": [{"type": "text", "text": "an aardvark"}]},
        {"role": "user", "parts": [{"text": "an aardvark"}]},
    ],
    ids=["AI SDK", "AI SDK 4", "Gemini"],
)
def test_messages_are_found_in_the_shapes_of_sdks(client: FlaskClient, message: dict[str, Any]) -> None:
    log(client, session_id="s", interaction_id="1", prompt=[message], response="Yes")
    (hit,) = search(client, q="aardvark")["interactions"]
    assert hit["snippet"] == "an aardvark"
    assert "an aardvark" in client.get("/live").text


@pytest.fixture
def everything(client: FlaskClient) -> FlaskClient:
    for name, (text, _) in SAID.items():
        log(client, session_id="s", interaction_id=name, prompt="Well", response=text)
    return client


def test_what_was_said_in_any_script_is_found_and_marked(everything: FlaskClient) -> None:
    for name, (text, terms) in SAID.items():
        for term in terms:
            page = search(everything, q=term)
            hits = {hit["interaction_key"]: hit for hit in page["interactions"]}
            assert name in hits, (name, term)
            hit = hits[name]
            assert (hit["field"], hit["snippet"], hit["starts_at"], hit["length"]) == ("response", text, 0, len(text))
            assert {snippets.fold(mark) for mark in marked(hit)} == set(map(snippets.fold, term.split())), (name, term)


def test_a_search_without_hits_finds_nothing(everything: FlaskClient) -> None:
    for term in ABSENT:
        assert search(everything, q=term)["interactions"] == [], term


def test_all_words_must_be_said_and_those_in_quotes_together(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="1", prompt="A table in Paris", response="For how many?")
    log(client, session_id="s", interaction_id="2", prompt="Paris has a table", response="No")
    assert keys(search(client, q="paris TABLE")) == ["2", "1"]
    assert keys(search(client, q='"table in paris"')) == ["1"]
    assert keys(search(client, q='"a table" how')) == ["1"]
    assert keys(search(client, q="paris rome")) == []


def test_words_are_found_as_parts_unless_whole_ones_are_asked_for(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="1", prompt="concatenate")
    log(client, session_id="s", interaction_id="2", prompt="the cat (cat!) sat")
    log(client, session_id="s", interaction_id="3", prompt="猫のカタログ")
    assert keys(search(client, q="cat")) == ["2", "1"]
    (whole,) = search(client, q="cat", words="true")["interactions"]
    assert (whole["interaction_key"], marked(whole)) == ("2", ["cat", "cat"])
    assert keys(search(client, q="カタ", words="true")) == ["3"]
    assert keys(search(client, q="c.t", words="true")) == []


def test_messages_are_searched_by_what_they_say_and_call(client: FlaskClient) -> None:
    messages = [
        {"role": "user", "content": "the first"},
        {"role": "user", "content": [{"type": "text", "text": "a part of it"}, {"type": "image", "url": "hidden"}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "look_up", "arguments": '{"city": "Oslo"}'}}]},
    ]
    log(client, session_id="s", interaction_id="1", prompt=messages, response="ok")
    for term in ("first", "part", "look_up", "oslo"):
        (hit,) = search(client, q=term)["interactions"]
        assert (hit["field"], marked(hit)) == ("prompt", [term if term != "oslo" else "Oslo"])
    for term in ("user", "role", "hidden", "assistant"):
        assert search(client, q=term)["interactions"] == []


def test_a_snippet_is_a_part_of_a_long_text_around_the_first_mark(client: FlaskClient) -> None:
    text = "日本 " * 3000 + "needle" + " straw" * 3000
    log(client, session_id="s", prompt="hay", response=text)
    (hit,) = search(client, q="needle")["interactions"]
    assert marked(hit) == ["needle"]
    assert text[hit["starts_at"] :].startswith(hit["snippet"])
    assert (hit["length"], len(hit["snippet"]) <= 240) == (len(text), True)


def test_filters_leave_what_they_say(client: FlaskClient) -> None:
    create(client, session_id="a", user_id="ada", title="Of Ada")
    create(client, session_id="b", user_id="bob")
    day = "2026-11-0{}T00:00:00Z".format
    log(client, session_id="a", interaction_id="1", prompt="hello", model="m1", started_at=day(1))
    log(client, session_id="a", interaction_id="2", prompt="hello", model="m2", started_at=day(2))
    log(client, session_id="b", interaction_id="3", prompt="hello", model="m1", started_at=day(3))
    assert keys(search(client, q="hello")) == ["3", "2", "1"]
    assert keys(search(client, q="hello", user_id="ada")) == ["2", "1"]
    assert keys(search(client, q="hello", session="b")) == ["3"]
    assert keys(search(client, q="hello", model="m1")) == ["3", "1"]
    assert keys(search(client, q="hello", **{"from": day(2)})) == ["3", "2"]
    assert keys(search(client, q="hello", **{"from": day(2), "to": day(3)})) == ["2"]
    assert keys(search(client, q="hello", user_id="ada", session="b")) == []
    (hit,) = search(client, q="hello", user_id="ada", model="m2")["interactions"]
    assert (hit["session_key"], hit["session_title"], hit["user_id"]) == ("a", "Of Ada", "ada")


def test_without_a_query_the_newest_are_listed(client: FlaskClient) -> None:
    for n in range(3):
        log(client, session_id="s", interaction_id=str(n), prompt=str(n), started_at=f"2026-11-0{n + 1}T00:00:00Z")
    page = search(client)
    assert keys(page) == ["2", "1", "0"]
    assert [(hit["snippet"], hit["marks"]) for hit in page["interactions"]] == [("2", []), ("1", []), ("0", [])]


def pages(client: FlaskClient, **query: Any) -> Iterator[dict[str, Any]]:
    page = search(client, **query)
    yield page
    while page["next"]:
        page = search(client, **query | {"cursor": page["next"]})
        yield page


def test_pages_neither_repeat_nor_leave_out_a_hit(client: FlaskClient) -> None:
    for n in range(7):
        at = f"2026-11-01T00:00:0{n // 2}Z"  # two at a time
        log(client, session_id=f"s{n % 3}", interaction_id=str(n), prompt="hello" if n != 3 else "other", started_at=at)
    read = list(pages(client, q="hello", limit=2))
    assert [len(page["interactions"]) for page in read] == [2, 2, 2]
    assert sorted(key for page in read for key in keys(page)) == ["0", "1", "2", "4", "5", "6"]
    times = [hit["at"] for page in read for hit in page["interactions"]]
    assert times == sorted(times, reverse=True)
    assert all(page["complete"] for page in read)


def test_the_best_match_comes_first_if_that_is_asked_for(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="best", prompt="cat cat cat")
    log(client, session_id="s", interaction_id="long", prompt="cat " + "and so on " * 200)
    log(client, session_id="s", interaction_id="part", prompt="concatenated " + "and so on " * 20)
    assert keys(search(client, q="cat")) == ["part", "long", "best"]
    assert keys(search(client, q="cat", order="match"))[0] == "best"
    assert keys(search(client, q="cat", order="match", limit=1)) == ["best"]


def test_a_call_that_may_look_no_further_says_where_it_stopped(
    repository: ConversationRepository, client: FlaskClient
) -> None:
    for n in range(10):
        log(client, session_id="s", interaction_id=str(n), prompt=str(n), started_at=f"2026-11-01T00:00:0{n}Z")
    seen, searched = [], []
    query: Any = {"terms": ["0"], "limit": 5, "order": "newest", "rows": 4}
    while True:
        page = repository.search(query)
        seen += [hit["interaction_key"] for hit in page["interactions"]]
        searched.append((page["searched"], page["complete"]))
        if page["after"] is None:
            break
        query["after"] = page["after"]
    assert seen == ["0"]
    assert searched == [(4, False), (4, False), (2, True)]


def test_a_call_ends_when_its_time_is_over(backend: Backend, client: FlaskClient) -> None:
    log(client, session_id="s", prompt="x")
    with psycopg.connect(backend.database, autocommit=True) as connection:
        connection.execute(
            "insert into turnlog.ai_interactions (project, session_id, id, prompt, created_at)"
            " select project, id, gen_random_uuid(), '\"hay\"', now()"
            " from turnlog.ai_sessions, generate_series(1, 1000)"
        )
    page = ask(backend.open(), ops.SEARCH, PROJECT, {"terms": ["needle"], "limit": 5, "order": "newest", "ms": 0})
    assert (page["interactions"], page["searched"], page["complete"]) == ([], 200, False)


def test_what_was_erased_is_not_found(client: FlaskClient) -> None:
    create(client, session_id="a", user_id="ada")
    create(client, session_id="b", user_id="bob")
    log(client, session_id="a", prompt="secret")
    log(client, session_id="b", interaction_id="hers", prompt="secret", participant="ada")
    log(client, session_id="b", interaction_id="his", prompt="secret", participant="bob")
    client.put(f"{in_path('b')}/participants/ada", json={})
    assert len(search(client, q="secret")["interactions"]) == 3
    assert client.delete("/v1/users/ada").status_code == 200
    assert keys(search(client, q="secret")) == ["his"]
    client.delete(in_path("b"))
    assert search(client, q="secret")["interactions"] == []


def test_another_project_is_not_searched(store: Store, client: FlaskClient) -> None:
    log(client, session_id="s", prompt="hello")
    other = ConversationRepository(store, "other")
    query = NamedSearchFilters(terms=["hello"], limit=5, order="newest")
    assert other.search(query)["interactions"] == []
    assert len(ConversationRepository(store, PROJECT).search(query)["interactions"]) == 1


def test_a_query_that_means_nothing_is_refused_by_name(client: FlaskClient) -> None:
    refused = {
        "q": ["", " ", '""', "\u200b", "x" * 201, "a\0"],
        "words": ["maybe"],
        "order": ["oldest", ""],
        "limit": ["0", "101", "x"],
        "from": ["yesterday"],
        "session": ["null", ""],
        "cursor": ["x", "0" * 78],
        "Q": ["x"],
    }
    for name, values in refused.items():
        for value in values:
            answer = client.get("/v1/interactions", query_string={name: value})
            assert (answer.status_code, paths(answer)) == (422, [f"?{name}"]), (name, value)


def test_of_messages_the_last_is_shown_then_the_answer_then_what_went_before(client: FlaskClient) -> None:
    def said(*contents: str) -> list[dict[str, str]]:
        roles = ("system", "user", "user")
        return [{"role": role, "content": text} for role, text in zip(roles, contents, strict=True)]

    turns = [
        (said("You book buses.", "A bus to Oslo?", "Which bus is the first?"), "The bus at 6."),
        (said("You book buses.", "A bus to Oslo?", "And the train?"), "No train; the bus is faster."),
        (said("You book buses.", "A bus to Oslo?", "Thanks!"), "You're welcome."),
    ]
    for n, (prompt, response) in enumerate(turns):
        log(client, session_id="s", interaction_id=str(n), turn=n, prompt=prompt, response=response)
    hits = {hit["interaction_key"]: hit for hit in search(client, q="bus")["interactions"]}
    assert {key: (hit["field"], hit["snippet"]) for key, hit in hits.items()} == {
        "0": ("prompt", "Which bus is the first?"),
        "1": ("response", "No train; the bus is faster."),
        "2": ("prompt", "You book buses.\nA bus to Oslo?\nThanks!"),
    }
    assert hits["0"]["starts_at"] == len("You book buses.\nA bus to Oslo?\n")
    assert hits["0"]["length"] == len("You book buses.\nA bus to Oslo?\nWhich bus is the first?")


def test_the_message_shown_is_one_that_says_the_whole_word(client: FlaskClient) -> None:
    messages = [{"role": "user", "content": text} for text in ("The bus at six", "Are you busy?")]
    log(client, session_id="s", prompt=messages)
    (part,) = search(client, q="bus")["interactions"]
    assert part["snippet"] == "Are you busy?"
    (whole,) = search(client, q="bus", words="true")["interactions"]
    assert marked(whole) == ["bus"]


def test_a_last_message_that_says_nothing_hides_no_other(client: FlaskClient) -> None:
    log(client, session_id="s", prompt=[{"role": "user", "content": "Where is Oslo?"}, {"role": "tool", "content": ""}])
    (hit,) = search(client)["interactions"]
    assert hit["snippet"] == "Where is Oslo?\n"


@given(st.text(), st.text(min_size=1))
def test_marks_lie_in_the_snippet_and_hold_the_term(text: str, term: str) -> None:
    terms = snippets.terms_of(f'"{term}"')
    snippet = snippets.excerpt(f"{text} {term} {text}", terms)
    whole = f"{text} {term} {text}"
    assert whole[snippet.starts_at :].startswith(snippet.text)
    for mark in snippet.marks:
        assert 0 <= mark.start < mark.end <= len(snippet.text)
    assert "".join(piece for piece, _ in snippets.split_at_marks(snippet)) == snippet.text


def test_a_mark_takes_whole_characters(client: FlaskClient) -> None:
    log(client, session_id="s", prompt="cafe\u0301 noir")
    (hit,) = search(client, q="café")["interactions"]
    assert marked(hit) == ["cafe\u0301"]
