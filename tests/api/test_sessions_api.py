"""Sessions over HTTP: ensured once under any name, listed, read, edited and erased."""

import uuid
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.http_calls import create, in_path, paths, problem

KEYS = {
    "slashes": "a/b//c/",
    "only a slash": "/",
    "percent": "100%",
    "percent escape": "a%2Fb%20c",
    "spaces": " two  words ",
    "plus": "a+b",
    "query": "a?b=c&d#e",
    "dots": "..a.b..",
    "semicolon and colon": "a;b:c@d",
    "backslash and quotes": "a\\b\"c'd",
    "a word of a route": "interactions",
    "accents": "café",
    "decomposed": "cafe\N{COMBINING ACUTE ACCENT}",
    "ideographs": "会話",
    "emoji": "👩‍🔬",
    "right to left": "\N{RIGHT-TO-LEFT MARK}שלום",
    "noncharacter": "\uffff",
    "longest": "é" * 200,
    "almost a UUID": "{01890a5d-ac96-774b-bcce-b302099a8057}",
}


def test_without_a_name_each_create_is_a_new_session(client: FlaskClient) -> None:
    answers = [client.post("/v1/sessions", json={}), client.post("/v1/sessions")]
    ids = [uuid.UUID(answer.get_json()["session_id"]) for answer in answers]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert [one.version for one in ids] == [7, 7]
    assert ids[0] != ids[1]
    for answer in answers:
        body = answer.get_json()
        assert (body["key"], body["receipt"], body["session"]["implicit"]) == (None, "created", False)


def test_a_create_answers_the_session_that_a_read_answers(client: FlaskClient) -> None:
    facts = {
        "user_id": "ada",
        "title": "T",
        "tags": ["b", "a"],
        "metadata": {"a": [1, None]},
        "started_at": "2026-11-21T06:30:00+02:00",
        "ended_at": "2026-11-21T06:30:00.123456Z",
    }
    answer = create(client, session_id="k", **facts)
    kept = answer.get_json()
    read = client.get(answer.headers["Location"]).get_json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/sessions/{kept['session_id']}"
    assert kept == {"session_id": read["session_id"], "key": "k", "receipt": "created", "fields": [], "session": read}
    assert read["started_at"] == "2026-11-21T04:30:00+00:00"
    assert read["ended_at"] == "2026-11-21T06:30:00.123456+00:00"
    assert {name: read[name] for name in ("user_id", "title", "tags", "metadata", "key", "status")} == {
        "user_id": "ada",
        "title": "T",
        "tags": ["b", "a"],
        "metadata": {"a": [1, None]},
        "key": "k",
        "status": "open",
    }
    assert (read["interaction_count"], read["last_activity_at"], read["erased_at"]) == (0, None, None)


def test_again_it_is_a_duplicate_then_filled_then_a_conflict(client: FlaskClient) -> None:
    create(client, session_id="k", title="T", metadata={"a": 1})
    again, fuller = create(client, session_id="k", title="T"), create(client, session_id="k", user_id="ada", tags=["x"])
    other = create(client, session_id="k", title="Other", metadata={"a": 2, "b": 1}, ended_at="2026-11-21T06:30:00Z")
    assert [a.status_code for a in (again, fuller, other)] == [200, 200, 409]
    assert (again.get_json()["receipt"], again.get_json()["fields"]) == ("duplicate", [])
    assert (fuller.get_json()["receipt"], fuller.get_json()["fields"]) == ("filled", ["tags", "user_id"])
    assert paths(other) == ["$.title", "$.metadata.a"]
    assert problem(other)["receipt"] == "conflict"
    read = client.get(in_path("k")).get_json()
    assert (read["title"], read["metadata"], read["ended_at"]) == ("T", {"a": 1}, None)
    assert "Location" not in again.headers


def test_a_create_adopts_the_session_that_an_interaction_made(client: FlaskClient) -> None:
    client.post("/v1/interactions", json={"session_id": "k", "prompt": "Hello"})
    assert client.get(in_path("k")).get_json()["implicit"]
    adopted = create(client, session_id="k", title="T")
    bare = create(client, session_id="k")
    assert (adopted.status_code, adopted.get_json()["receipt"]) == (200, "filled")
    session = adopted.get_json()["session"]
    assert (session["implicit"], session["title"], session["interaction_count"]) == (False, "T", 1)
    assert bare.get_json()["receipt"] == "duplicate"


def test_any_key_works_in_a_path_wherever_a_uuid_does(client: FlaskClient) -> None:
    for name, key in KEYS.items():
        created = create(client, session_id=key)
        assert created.status_code == 201, name
        client.post("/v1/interactions", json={"session_id": key, "prompt": name})
        for path in (in_path(key), created.headers["Location"]):
            read = client.get(path)
            assert (read.status_code, read.get_json()["key"]) == (200, key), name
            transcript = client.get(f"{path}/interactions").get_json()
            assert [each["prompt"] for each in transcript["interactions"]] == [name], name
            assert (transcript["session_id"], transcript["key"]) == (created.get_json()["session_id"], key)
        assert client.patch(in_path(key), json={"title": name}).get_json()["title"] == name
    assert len(client.get("/v1/sessions?limit=1000").get_json()["sessions"]) == len(KEYS)
    assert {client.delete(in_path(key)).status_code for key in KEYS.values()} == {200}
    assert client.get("/v1/sessions").get_json()["sessions"] == []


def test_a_uuid_is_one_session_in_any_spelling(client: FlaskClient) -> None:
    upper = "01890A5D-AC96-774B-BCCE-B302099A8057"
    created = create(client, session_id=upper).get_json()
    assert (created["session_id"], created["key"]) == (upper.lower(), None)
    assert create(client, session_id=upper.lower()).status_code == 200
    for name in (upper, upper.lower(), upper.lower().capitalize()):
        assert client.get(in_path(name)).get_json()["session_id"] == upper.lower()


def test_a_session_is_found_by_the_id_that_its_key_stands_for(client: FlaskClient) -> None:
    # uuid5(NAMESPACE, "default\nsession\nk"): what a client in any language computes
    derived = str(uuid.uuid5(uuid.UUID("ced5a058-c036-54cd-a9be-49f37108eca6"), "default\nsession\nk"))
    by_id = create(client, session_id=derived)
    by_key = create(client, session_id="k")
    assert (by_id.status_code, by_id.get_json()["key"]) == (201, None)
    assert (by_key.get_json()["receipt"], by_key.get_json()["fields"]) == ("filled", ["key"])
    assert client.get(in_path("k")).get_json() == client.get(in_path(derived)).get_json()


@pytest.mark.parametrize(
    "path", [in_path("nobody"), in_path("0197a3c1-5a0e-7b2f-8d4c-6e1f2a3b4c5d"), "/v1/sessions/%ff", in_path("a\0b")]
)
def test_a_session_that_nobody_logged_is_404(client: FlaskClient, path: str) -> None:
    answers = [
        client.get(path),
        client.get(f"{path}/interactions"),
        client.patch(path, json={"title": "T"}),
        client.delete(path),
    ]
    assert [problem(answer)["status"] for answer in answers] == [404] * 4


def test_an_edit_replaces_and_null_empties(client: FlaskClient) -> None:
    create(client, session_id="k", title="T", tags=["a"], metadata={"a": 1}, user_id="ada")
    edits: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"title": "Mended", "status": "closed"}, {"title": "Mended", "status": "closed", "tags": ["a"]}),
        ({"tags": ["c", "b"], "metadata": {"b": 2}}, {"tags": ["c", "b"], "metadata": {"b": 2}, "title": "Mended"}),
        ({"title": None, "tags": None, "metadata": None}, {"title": None, "tags": [], "metadata": {}}),
        ({"status": "open", "tags": [], "title": ""}, {"status": "open", "tags": [], "title": ""}),
    ]
    for changes, expected in edits:
        answer = client.patch(in_path("k"), json=changes)
        assert answer.status_code == 200
        assert expected.items() <= answer.get_json().items()
        assert answer.get_json() == client.get(in_path("k")).get_json()
    assert client.get(in_path("k")).get_json()["user_id"] == "ada"


@pytest.mark.parametrize(
    ("changes", "path"),
    [({}, "$"), ({"status": None}, "$.status"), ({"status": "gone"}, "$.status"), ({"key": "eve"}, "$.key")],
)
def test_an_edit_that_edits_nothing_editable_is_refused(
    client: FlaskClient, changes: dict[str, Any], path: str
) -> None:
    create(client, session_id="k", title="T")
    answer = client.patch(in_path("k"), json=changes)
    assert (answer.status_code, paths(answer)) == (422, [path])


def test_an_erased_session_is_gone_under_every_name_and_for_every_call(client: FlaskClient) -> None:
    session_id = create(client, session_id="k", title="T").get_json()["session_id"]
    client.post("/v1/interactions", json={"session_id": "k", "prompt": "Hello"})
    erased = client.delete(in_path("k"))
    assert erased.status_code == 200
    assert (erased.get_json()["session_id"], erased.get_json()["interactions"]) == (session_id, 1)
    again = client.delete(in_path(session_id)).get_json()
    assert again == erased.get_json() | {"interactions": 0, "signature": again["signature"]}
    for name in ("k", session_id):
        refused = [
            client.get(in_path(name)),
            client.get(f"{in_path(name)}/interactions"),
            client.patch(in_path(name), json={"title": "T"}),
            create(client, session_id=name),
            client.post("/v1/interactions", json={"session_id": name, "prompt": "Late"}),
            client.post("/session/create", json={"session_id": name}),
            client.post("/interaction/log", json={"session_id": name, "prompt": "Late"}),
        ]
        assert [problem(answer)["status"] for answer in refused] == [410] * 7
        assert {problem(answer)["session_id"] for answer in refused} == {session_id}


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/folders", "/session/create", "/conversation/start"])
def test_what_cannot_be_explained_is_not_written_either(client: FlaskClient, path: str) -> None:
    answer = client.post(f"{path}?dry_run=true", json={})
    assert [field["path"] for field in problem(answer, 422)["fields"]] == ["?dry_run"]
    assert client.get("/v1/sessions").get_json()["sessions"] == []
