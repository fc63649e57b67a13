"""Feedback on a conversation's page: shown below its turn, and given by a form that needs no JavaScript."""

import json
from pathlib import Path
from typing import Any

import pytest
from bs4 import Tag
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from conversation.keys.key_registry import KeyRegistry
from conversation.pages import feedback_page as form_module
from conversation.settings import Settings
from logging_store.postgres.function_store import FunctionStore
from logging_store.records import identity
from logging_store.records.models import RestoredFeedback
from logging_store.repository import ConversationRepository
from tests.http_calls import create, log
from tests.pages.html import page_of, texts

SESSION = identity.session("default", "s").id
TURN = identity.interaction("default", SESSION, "one").id
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def conversed(client: FlaskClient) -> FlaskClient:
    create(client, session_id="s", title="A chat")
    for n, name in enumerate(("one", "two"), 1):
        log(client, session_id="s", interaction_id=name, turn=n, prompt=f"prompt {n}", response=f"answer {n}")
    return client


def form_of(client: FlaskClient, turn: str = TURN) -> Tag:
    (form,) = page_of(client.get("/sessions/s")).select(f"#i-{turn} form.feedback-form")
    assert form["method"] == "post"
    return form


def send(client: FlaskClient, **fields: str) -> TestResponse:
    """Send the form of the first turn as a browser does."""
    return client.post(str(form_of(client)["action"]), data={"note": "", **fields}, headers=OWN_PAGE)


def stored(client: FlaskClient) -> dict[tuple[str | None, str], Any]:
    rows = client.get("/v1/sessions/s/feedback").get_json()["feedback"]
    return {(row["author"], row["name"]): row["value"] for row in rows}


def test_each_turn_has_a_form_that_names_its_buttons(conversed: FlaskClient) -> None:
    form = form_of(conversed)
    thumbs = form.select("button[name=rating]")
    assert [(each["value"], each["aria-label"], each["aria-pressed"]) for each in thumbs] == [
        ("up", "Good answer", "false"), ("down", "Bad answer", "false")
    ]  # fmt: skip
    assert [each["value"] for each in form.select("input[name=score]")] == ["1", "2", "3", "4", "5"]
    assert len(form.select("textarea[name=note]")) == 1
    assert not form.select("script, [onclick], [style]")


def test_a_thumb_is_saved_shown_and_changed(conversed: FlaskClient) -> None:
    answer = send(conversed, rating="up")
    assert (answer.status_code, answer.location) == (
        303,
        f"/sessions/{SESSION}?turn={TURN}&message=feedback-saved#i-{TURN}",
    )
    page = page_of(conversed.get(answer.location))
    assert texts(page, "[role=status]") == ["Your feedback was saved."]
    assert texts(page, f"#i-{TURN} .feedback .visually-hidden") == ["good"]
    assert [each["aria-pressed"] for each in form_of(conversed).select("button[name=rating]")] == ["true", "false"]
    assert stored(conversed) == {("machine", "rating"): True}
    send(conversed, rating="down")
    assert [each["aria-pressed"] for each in form_of(conversed).select("button[name=rating]")] == ["false", "true"]
    assert stored(conversed) == {("machine", "rating"): False}
    assert not page_of(conversed.get("/sessions/s")).select(
        f"#i-{identity.interaction('default', SESSION, 'two').id} li"
    )


def test_a_thumb_that_is_clicked_again_is_taken_back(conversed: FlaskClient) -> None:
    send(conversed, rating="up")
    thumbs = form_of(conversed).select("button[name=rating]")
    assert [each["value"] for each in thumbs] == ["none", "down"]
    answer = send(conversed, rating=str(thumbs[0]["value"]))
    page = page_of(conversed.get(answer.location))
    assert texts(page, "[role=status]") == ["Your feedback was taken back."]
    assert not page.select(f"#i-{TURN} .feedback")
    assert [each["aria-pressed"] for each in form_of(conversed).select("button[name=rating]")] == ["false", "false"]
    assert stored(conversed) == {("machine", "rating"): None}
    send(conversed, rating="up")
    assert stored(conversed) == {("machine", "rating"): True}


def test_a_score_and_a_note_are_taken_back(conversed: FlaskClient) -> None:
    assert not form_of(conversed).select("input[value=none], input[name=had_note]")
    send(conversed, score="2", note="Hm")
    (had_note,) = form_of(conversed).select("input[name=had_note]")
    assert len(form_of(conversed).select("input[name=score][value=none]")) == 1
    answer = send(conversed, score="none", note="", had_note=str(had_note["value"]))
    assert "message=feedback-taken-back" in answer.location
    assert stored(conversed) == {("machine", "score"): None, ("machine", "note"): None}
    assert not page_of(conversed.get("/sessions/s")).select("main .feedback")


def test_a_whole_session_is_rated(conversed: FlaskClient) -> None:
    (form,) = page_of(conversed.get("/sessions/s")).select("#feedback form.feedback-form")
    assert [each["aria-label"] for each in form.select("button[name=rating]")] == ["Good session", "Bad session"]
    answer = conversed.post(str(form["action"]), data={"rating": "down", "note": "Too long"}, headers=OWN_PAGE)
    assert (answer.status_code, answer.location) == (303, f"/sessions/{SESSION}?message=feedback-saved#feedback")
    page = page_of(conversed.get(answer.location))
    assert [text.split(" machine ,")[0] for text in texts(page, "#feedback .feedback li")] == [
        "note : Too long", "bad",
    ]  # fmt: skip
    assert not page.select(".turn .feedback")
    (form,) = page.select("#feedback form.feedback-form")
    assert [each["value"] for each in form.select("button[name=rating]")] == ["up", "none"]
    conversed.post(str(form["action"]), data={"rating": "none"}, headers=OWN_PAGE)
    assert stored(conversed) == {("machine", "note"): "Too long", ("machine", "rating"): None}
    lines = [json.loads(line) for line in conversed.get("/sessions/s/turnlog.jsonl").text.splitlines()]
    assert [(line.get("interaction_id"), line["value"]) for line in lines if line["record"] == "feedback"] == [
        (None, "Too long"), (None, None),
    ]  # fmt: skip


def test_feedback_older_than_the_stored_one_is_not_called_saved(conversed: FlaskClient, store: FunctionStore) -> None:
    later = {
        "session_id": "s", "interaction_id": "one", "author": "machine", "name": "rating", "value": True,
        "given_at": "2099-01-01T00:00:00Z", "created_at": "2026-11-21T10:00:00Z",
    }  # fmt: skip
    ConversationRepository(store, "default").write([RestoredFeedback.model_validate(later)])
    answer = send(conversed, rating="down", score="3")
    assert "message=feedback-older" in answer.location
    page = page_of(conversed.get(answer.location))
    assert texts(page, "[role=status]") == [
        "Some of your feedback wasn't saved, because newer feedback of yours is already stored."
    ]
    assert stored(conversed) == {("machine", "rating"): True, ("machine", "score"): 3}
    for same in ({"rating": "up"}, {"score": "3"}):
        assert "message=feedback-saved" in send(conversed, **same).location


def test_a_score_and_a_note_are_saved_with_a_thumb_and_shown(conversed: FlaskClient) -> None:
    send(conversed, rating="down", score="2", note="  Not what\r\nI asked  ")
    assert stored(conversed) == {
        ("machine", "rating"): False, ("machine", "score"): 2, ("machine", "note"): "Not what\nI asked"
    }  # fmt: skip
    form = form_of(conversed)
    assert [each["value"] for each in form.select("input[checked]")] == ["2"]
    (note,) = form.select("textarea")
    assert note.get_text().removeprefix("\n") == "Not what\nI asked"
    shown = texts(page_of(conversed.get("/sessions/s")), f"#i-{TURN} .feedback li")
    assert [text.split(" machine ,")[0] for text in shown] == ["note : Not what I asked", "bad", "score : 2 of 5"]


def test_feedback_from_the_api_is_escaped(conversed: FlaskClient) -> None:
    evil = "<script>alert(1)</script>"
    said = {"name": evil, "value": evil, "comment": evil, "author": evil, "given_at": "2026-11-21T10:00:00Z"}
    conversed.post("/v1/sessions/s/interactions/one/feedback", json=said)
    conversed.post("/v1/sessions/s/interactions/one/feedback", json={"name": "share", "value": 0.25})
    page = page_of(conversed.get("/sessions/s"))
    assert not page.select("main script")
    (first, second) = sorted(texts(page, f"#i-{TURN} .feedback li"))
    assert first == f"{evil} : {evil} {evil} {evil} , 2026-11-21 10:00:00"
    assert second.startswith("share : 0.25 ")


def test_empty_feedback_is_explained_and_not_saved(conversed: FlaskClient) -> None:
    answer = send(conversed, note=" \r\n ")
    assert "message=feedback-empty" in answer.location
    assert texts(page_of(conversed.get(answer.location)), "[role=status]")[0].startswith("Nothing to save")
    assert stored(conversed) == {}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"rating": "sideways"}, "$.rating"), ({"score": "6"}, "$.score"), ({"score": "x"}, "$.score"),
        ({"note": "x" * 10_001}, "$.note"), ({"note": "a\0b"}, "$.value"),
    ],
)  # fmt: skip
def test_invalid_form_fields_are_named(conversed: FlaskClient, fields: dict[str, str], named: str) -> None:
    page = page_of(send(conversed, **fields), 422)
    assert named in texts(page, "main li")[0]
    assert stored(conversed) == {}


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}])
def test_another_site_cannot_give_feedback(conversed: FlaskClient, headers: dict[str, str]) -> None:
    answer = conversed.post(str(form_of(conversed)["action"]), data={"rating": "up"}, headers=headers)
    assert answer.status_code == 403
    assert stored(conversed) == {}


def test_an_erased_session_takes_no_feedback(conversed: FlaskClient) -> None:
    action = str(form_of(conversed)["action"])
    conversed.delete("/v1/sessions/s")
    assert texts(page_of(conversed.post(action, data={"rating": "up"}, headers=OWN_PAGE), 410), "h1") == [
        "Session Erased"
    ]


def test_a_page_that_cannot_show_all_feedback_says_so(conversed: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form_module, "MAX_SHOWN", 2)
    for author in ("ada", "bob"):
        conversed.post("/v1/sessions/s/interactions/one/feedback", json={"value": 1, "author": author})
    assert texts(page_of(conversed.get("/sessions/s")), "[role=alert]") == []
    conversed.post("/v1/sessions/s/interactions/two/feedback", json={"value": 1})
    assert texts(page_of(conversed.get("/sessions/s")), "[role=alert]") == ["Not all feedback is shown here."]


def test_a_download_has_the_feedback(conversed: FlaskClient) -> None:
    send(conversed, rating="up")
    lines = [json.loads(line) for line in conversed.get("/sessions/s/turnlog.jsonl").text.splitlines()]
    assert [(line["interaction_key"], line["value"]) for line in lines if line["record"] == "feedback"] == [
        ("one", True)
    ]


@pytest.fixture
def guarded(store: FunctionStore, tmp_path: Path) -> Flask:
    return create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), store)


def test_the_key_is_the_author_and_readers_have_no_form(guarded: Flask, store: FunctionStore) -> None:
    registry = KeyRegistry(store)
    backend = guarded.test_client()
    admin = {"Authorization": f"Bearer {registry.create('default', 'secret', {'admin'}).text}"}
    said = {"session_id": "s", "interaction_id": "one", "prompt": "Hello"}
    assert backend.post("/v1/interactions", json=said, headers=admin).status_code == 201

    def visitor(*scopes: Any, name: str) -> FlaskClient:
        client = guarded.test_client()
        key = registry.create("default", "secret", set(scopes), name=name).text
        assert client.post("/sign-in", data={"key": key}, headers=OWN_PAGE).status_code == 303
        return client

    send(visitor("read", "log", name="support"), rating="up")
    reader = visitor("read", name="reader")
    page = page_of(reader.get("/sessions/s"))
    assert not page.select("form.feedback-form")
    assert "support" in texts(page, ".feedback li")[0]
    path = f"/sessions/s/interactions/{TURN}/feedback"
    assert reader.post(path, data={"rating": "down"}, headers=OWN_PAGE).status_code == 403
    rows = backend.get("/v1/sessions/s/feedback", headers=admin).get_json()["feedback"]
    assert [(row["author"], row["value"]) for row in rows] == [("support", True)]
