"""The older routes, which existing frontends call, over the same log."""

from flask.testing import FlaskClient

from tests.http_calls import in_path, paths, problem, transcript

MADE_UP = "session_1700000000000_k3j9x2"
UUID = "01890A5D-AC96-774B-BCCE-B302099A8057"


def test_a_session_is_answered_under_the_name_that_was_sent(client: FlaskClient) -> None:
    first = client.post("/session/create", json={"session_id": MADE_UP})
    again = client.post("/session/create", json={"session_id": MADE_UP})
    assert (first.status_code, first.get_json()) == (201, {"session_id": MADE_UP, "receipt": "created"})
    assert (again.status_code, again.get_json()) == (200, {"session_id": MADE_UP, "receipt": "duplicate"})
    assert client.get(in_path(MADE_UP)).get_json()["key"] == MADE_UP


def test_without_a_name_a_session_gets_one(client: FlaskClient) -> None:
    for kept in (client.post("/session/create", json={}), client.post("/session/create")):
        assert kept.status_code == 201
        assert client.get(in_path(kept.get_json()["session_id"])).status_code == 200


def test_an_interaction_is_answered_under_the_names_that_were_sent(client: FlaskClient) -> None:
    body = {"session_id": MADE_UP, "interaction_id": "m1", "prompt": "Hello", "response": "Hi"}
    first, again = client.post("/interaction/log", json=body), client.post("/interaction/log", json=body)
    names = {"session_id": MADE_UP, "interaction_id": "m1"}
    assert (first.status_code, first.get_json()) == (201, names | {"receipt": "created"})
    assert (again.status_code, again.get_json()) == (200, names | {"receipt": "duplicate"})


def test_a_uuid_is_answered_in_the_spelling_it_came_in(client: FlaskClient) -> None:
    body = {"session_id": UUID, "interaction_id": UUID, "prompt": "Hello"}
    kept = client.post("/interaction/log", json=body).get_json()
    assert (kept["session_id"], kept["interaction_id"]) == (UUID, UUID)
    assert client.post("/session/create", json={"session_id": UUID}).get_json()["session_id"] == UUID


def test_old_and_new_spellings_meet_in_one_log(client: FlaskClient) -> None:
    client.post("/interaction/log", json={"session_id": MADE_UP, "interaction_id": "m1", "prompt": "Hello"})
    client.post("/v1/interactions", json={"session_id": MADE_UP, "interaction_id": "m1", "response": "Hi"})
    created = client.post("/session/create", json={"session_id": MADE_UP, "title": "T"})
    (read,) = transcript(client, MADE_UP)
    assert (created.status_code, created.get_json()["receipt"]) == (200, "filled")
    assert (read["prompt"], read["response"]) == ("Hello", "Hi")
    assert len(client.get("/v1/sessions").get_json()["sessions"]) == 1


def test_contradictions_and_nonsense_are_refused_as_in_the_new_spelling(client: FlaskClient) -> None:
    client.post("/interaction/log", json={"session_id": "s", "interaction_id": "i", "prompt": "Hello"})
    client.post("/session/create", json={"session_id": "s", "title": "T"})
    conflicts = [
        client.post("/interaction/log", json={"session_id": "s", "interaction_id": "i", "prompt": "Bye"}),
        client.post("/session/create", json={"session_id": "s", "title": "Other"}),
    ]
    assert [problem(answer)["status"] for answer in conflicts] == [409, 409]
    assert [paths(answer) for answer in conflicts] == [["$.prompt"], ["$.title"]]
    refused = [
        client.post("/interaction/log", json={"session_id": "s"}),
        client.post("/session/create", json={"session_id": "undefined"}),
        client.post("/session/create", json={"sessionId": "s"}),
    ]
    assert [problem(answer)["status"] for answer in refused] == [422, 422, 422]
    assert [paths(answer) for answer in refused] == [["$"], ["$.session_id"], ["$.sessionId"]]
