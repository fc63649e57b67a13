"""The spans of an interaction's trace over HTTP, and its trace and span id wherever it is shown."""

from flask.testing import FlaskClient

from logging_store.repository import ConversationRepository
from tests.store.test_spans import AGENT, CALL, ROOT, TRACE, number


def test_the_spans_of_an_interaction(client: FlaskClient, repository: ConversationRepository) -> None:
    repository.write_spans([CALL, AGENT, ROOT])
    listed = client.get("/v1/sessions/chat-42/interactions").get_json()["interactions"]
    assert [(each["trace_id"], each["span_id"], each["participant"]) for each in listed] == [(TRACE, number(3), "ada")]
    answer = client.get(f"/v1/sessions/chat-42/interactions/{listed[0]['interaction_id']}/spans?limit=2").get_json()
    assert answer["session_key"] == "chat-42"
    assert answer["complete"] is False
    assert [each["span_id"] for each in answer["spans"] if each["is_own"]] == [number(3)]
    assert client.get("/v1/sessions/chat-42/interactions/nobody/spans").status_code == 404
    assert client.get("/v1/sessions/nobody/interactions/nobody/spans").status_code == 404


def test_an_interaction_may_say_which_span_it_is(client: FlaskClient) -> None:
    call = {"session_id": "s", "interaction_id": "i", "prompt": "Hi", "trace_id": TRACE, "span_id": number(3)}
    assert client.post("/v1/interactions", json=call).get_json()["receipt"] == "created"
    assert client.post("/v1/interactions", json=call).get_json()["receipt"] == "duplicate"
    (row,) = client.get("/v1/sessions/s/interactions").get_json()["interactions"]
    assert (row["trace_id"], row["span_id"]) == (TRACE, number(3))
    assert client.get(f"/v1/sessions/s/interactions/{row['interaction_id']}/spans").get_json()["spans"] == []
    wrong = client.post("/v1/interactions", json=call | {"interaction_id": "j", "trace_id": "ABC"})
    assert wrong.status_code == 422
