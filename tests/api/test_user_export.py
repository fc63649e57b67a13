"""Everything about a person, and nothing about others, as lines that an import takes."""

import io
from pathlib import Path
from typing import Any

import jiter
import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.archive import documents
from conversation.archive.entries import ParsedRecord
from conversation.archive.formats import turnlog_lines
from conversation.keys.key_registry import KeyRegistry
from conversation.settings import Settings
from logging_store.postgres.function_store import FunctionStore
from tests.access.conftest import ORIGIN, Calls
from tests.http_calls import create, in_path, log, paths


def exported(client: FlaskClient, user: str) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/users/{user}/export")
    assert (answer.status_code, answer.content_type) == (200, "application/x-ndjson")
    return [jiter.from_json(line) for line in answer.data.splitlines()]


def test_everything_about_a_user_is_given_out_and_nothing_else(client: FlaskClient) -> None:
    client.post("/v1/folders", json={"folder_id": "empty", "user_id": "ada", "name": "Ada's"})
    client.post("/v1/folders", json={"folder_id": "bob's folder", "user_id": "bob", "name": "Bob's patients"})
    create(client, session_id="own", user_id="ada", title="T", folder_id="bob's folder")
    log(client, session_id="own", interaction_id="1", prompt="Mine", response="Hi")
    create(client, session_id="bob's", user_id="bob", title="Bob's own")
    log(client, session_id="bob's", interaction_id="2", prompt="Ada says", participant="ada")
    log(client, session_id="bob's", interaction_id="3", prompt="Bob says", participant="bob")
    client.put(in_path("bob's") + "/participants/ada", json={"role": "guest"})
    for session, author in (("own", "bob"), ("bob's", "ada"), ("bob's", "bob")):
        said = {"session_id": session, "interaction_id": "3", "value": f"of {author}", "author": author}
        client.post("/v1/feedback", json=said)
    create(client, session_id="gone", user_id="ada")
    client.delete(in_path("gone"))

    found = exported(client, "ada")
    assert [(line["record"], line.get("session_key"), line.get("key")) for line in found] == [
        ("session", None, "own"),
        ("interaction", "own", "1"),
        ("feedback", "own", None),
        ("folder", None, "empty"),
        ("participant", "bob's", None),
        ("interaction", "bob's", "2"),
        ("feedback", "bob's", None),
    ]
    assert (found[4]["role"], found[5]["prompt"]) == ("guest", "Ada says")
    assert (found[2]["value"], found[6]["value"]) == ("of bob", "of ada")
    assert "Bob" not in str([line for line in found if line["record"] != "participant"])
    client.delete("/v1/users/ada")
    assert exported(client, "ada") == []


def test_what_a_page_states_of_a_user_is_marked(store: FunctionStore, tmp_path: Path) -> None:
    service, registry = create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), store), KeyRegistry(store)
    backend = Calls(service.test_client(), registry.create("default", "secret", {"admin"}).text, {})
    key = registry.create("default", "publishable", {"log"}, origins={ORIGIN})
    page = Calls(service.test_client(), key.text, {"Origin": ORIGIN})
    backend("POST", "/v1/sessions", {"session_id": "own", "user_id": "ada"})
    backend.log(session_id="own", prompt="Mine")
    for session, more in (("planted", {"user_id": "ada"}), ("crowd", {"participants": [{"participant": "ada"}]})):
        token = page.open_session(session_id=session, **more).get_json()["session_token"]
        page.log(token, session_id=session, prompt="Not hers", participant="ada")
    sent = backend("GET", "/v1/users/ada/export").data
    found = [jiter.from_json(line) for line in sent.splitlines()]
    marked = {(line["record"], line.get("session_key") or line["key"]): line.get("user_unproven") for line in found}
    assert marked == {
        ("session", "own"): None,
        ("interaction", "own"): None,
        ("session", "planted"): True,
        ("participant", "planted"): True,
        ("interaction", "planted"): True,
        ("participant", "crowd"): True,
        ("interaction", "crowd"): True,
    }
    entries = list(turnlog_lines.read(documents.read(io.BytesIO(sent))))
    assert {type(entry) for entry in entries} == {ParsedRecord}


def test_the_lines_are_those_that_an_import_takes(client: FlaskClient) -> None:
    create(client, session_id="own", user_id="ada", participants=[{"participant": "ada", "state": "joined"}])
    for n in range(3):
        log(client, session_id="own", prompt=f"Said {n}", response="Hi", turn=n)
    sent = client.get("/v1/users/ada/export").data
    entries = list(turnlog_lines.read(documents.read(io.BytesIO(sent))))
    assert [type(entry) for entry in entries] == [ParsedRecord] * 5


@pytest.mark.parametrize("sessions", [3, 450])
def test_all_sessions_of_a_user_are_walked_once(client: FlaskClient, sessions: int) -> None:
    # more than a page of the user's, among as many of others
    for user in ("ada", "bob"):
        client.post(
            "/v1/folders",
            json={"folder_id": user, "user_id": user, "plan": {"sessions_per_week": 3, "total_weeks": sessions // 3}},
        )
    found = [line["session_id"] for line in exported(client, "ada") if line["record"] == "session"]
    assert (len(found), len(set(found))) == (sessions, sessions)


def test_what_is_no_name_is_refused(client: FlaskClient) -> None:
    assert paths(client.get(f"/v1/users/{'x' * 201}/export")) == ["$.user"]
