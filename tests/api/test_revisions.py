"""What contradicts a stored interaction is kept as a revision of it, where a caller sends `on_conflict: "revise"`."""

import os
from typing import Any

import pytest
from flask.testing import FlaskClient

from logging_store import operations as ops
from tests.http_calls import log, problem, transcript

NAME = {"session_id": "s", "interaction_id": "t"}
FIRST = {"prompt": "Tell", "response": "Once", "model": "m", "metadata": {"a": 1, "b": 2}}


def at(minute: int) -> dict[str, str]:
    return {"completed_at": f"2026-11-21T06:{minute:02}:00+00:00"}


def revise(client: FlaskClient, *records: dict[str, Any]) -> list[tuple[str, list[Any], str | None]]:
    """Send records of one interaction to be revised; return receipt, fields and reason of each."""
    body = {"interactions": [NAME | each for each in records], "on_conflict": "revise"}
    answer = client.post("/v1/interactions/batch", json=body).get_json()
    return [(each["receipt"], each["fields"], each.get("reason")) for each in answer["receipts"]]


def shown(client: FlaskClient) -> dict[str, Any]:
    (row,) = transcript(client, "s")
    return row


def test_what_was_said_last_is_shown(client: FlaskClient) -> None:
    assert revise(client, FIRST, {"prompt": "Say", "response": "Twice", "model": "n", "metadata": {"a": 3}}) == [
        ("created", [], None),
        ("revised", ["metadata.a", "model", "prompt", "response"], None),
    ]
    row = shown(client)
    assert (row["prompt"], row["response"], row["model"]) == ("Say", "Twice", "n")
    assert row["metadata"] == {"a": 3, "b": 2}


@pytest.mark.parametrize("is_first", [True, False])
def test_of_stated_times_the_later_one_counts(client: FlaskClient, is_first: bool) -> None:
    old, new = FIRST | at(10), {"response": "Twice", "output_tokens": 5} | at(20)
    if is_first:
        assert revise(client, old, new)[1] == ("revised", ["completed_at", "output_tokens", "response"], None)
    else:
        receipts = revise(client, new, old)
        assert receipts[1][0] == "revised"
        assert receipts[1][2] == "older"
    row = shown(client)
    assert (row["prompt"], row["response"], row["output_tokens"]) == ("Tell", "Twice", 5)
    assert row["completed_at"] == at(20)["completed_at"]


def test_the_same_again_is_a_duplicate_also_as_a_revision(client: FlaskClient) -> None:
    other = {"prompt": "Tell", "response": "Twice"}
    revise(client, FIRST, other)
    assert [each[0] for each in revise(client, other, FIRST, other, FIRST)] == ["duplicate"] * 4
    assert shown(client)["response"] == "Twice"


def test_an_answer_that_grows_is_no_revision(client: FlaskClient) -> None:
    growing = [{"response": text, "status": "pending"} for text in ("On", "Once", "Once upon")]
    receipts = revise(client, {"prompt": "Tell"}, *growing, growing[0], {"response": "Once upon a time"})
    assert [each[0] for each in receipts] == ["created", "filled", "filled", "filled", "duplicate", "filled"]
    assert shown(client)["response"] == "Once upon a time"
    assert revise(client, {"response": "Twice"}, {"response": "Once"}) == [
        ("revised", ["response"], None),
        ("duplicate", [], None),
    ]


def test_attempts_give_way_as_always(client: FlaskClient) -> None:
    failed = {"prompt": "Tell", "error": "rate limit", "model": "big"}
    assert [each[0] for each in revise(client, {"response": "Fine.", "model": "small"}, failed)] == [
        "created",
        "revised",
    ]
    row = shown(client)
    assert (row["response"], row["error"], row["model"], row["status"]) == (
        "Fine.",
        "rate limit",
        "small",
        "completed",
    )


def test_whose_it_is_and_where_it_stands_still_contradicts(client: FlaskClient) -> None:
    revise(client, FIRST | {"participant": "ada", "turn": 1})
    (receipt,) = revise(client, {"prompt": "Say", "participant": "bob", "turn": 2})
    assert receipt[0] == "conflict"
    assert [each["path"] for each in receipt[1]] == ["$.interactions[0].turn", "$.interactions[0].participant"]
    assert shown(client)["prompt"] == "Tell"


def test_an_edited_prompt_keeps_its_place(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="later", prompt="Next", started_at="2026-11-21T06:30:00Z")
    revise(client, {"prompt": "Tell", "started_at": "2026-11-21T06:00:00Z"})
    revise(client, {"prompt": "Say", "started_at": "2026-11-21T07:00:00Z"})
    assert [row["prompt"] for row in transcript(client, "s")] == ["Say", "Next"]


def test_one_interaction_is_revised_by_its_own_field(client: FlaskClient) -> None:
    log(client, **NAME, **FIRST)
    assert log(client, **NAME, response="Twice").status_code == 409
    answer = log(client, **NAME, response="Twice", on_conflict="revise")
    assert (answer.status_code, answer.get_json()["receipt"], answer.get_json()["fields"]) == (
        200,
        "revised",
        ["response"],
    )
    assert problem(log(client, **NAME, on_conflict="replace"))["fields"][0]["path"] == "$.on_conflict"


def test_a_dry_run_says_what_it_would_revise(client: FlaskClient) -> None:
    log(client, **NAME, **FIRST)
    body = {"interactions": [NAME | {"response": "Twice"}], "on_conflict": "revise"}
    (plan,) = client.post("/v1/interactions/batch?dry_run=true", json=body).get_json()["plan"]
    assert (plan["would"], plan["fields"]) == ("revise", ["response"])
    assert shown(client)["response"] == "Once"


def test_the_hundred_and_first_revision_is_a_conflict(client: FlaskClient) -> None:
    receipts = revise(client, *({"prompt": "Tell", "response": f"{n} times"} for n in range(101)))
    assert [each[0] for each in receipts] == ["created"] + ["revised"] * 100
    ((receipt, fields, reason),) = revise(client, {"response": "Never"})
    assert (receipt, reason) == ("conflict", "It has 100 revisions, which is the most")
    assert [each["path"] for each in fields] == ["$.interactions[0].response"]
    assert shown(client)["response"] == "100 times"
    assert revise(client, {"response": "0 times"}, {"response": "100 times"}, {"model": "m"}) == [
        ("duplicate", [], None),
        ("duplicate", [], None),
        ("filled", ["model"], None),
    ]
    answer = log(client, **NAME, response="Never", on_conflict="revise")
    assert "100 revisions" in problem(answer)["detail"]


def test_nothing_revises_an_erased_interaction(client: FlaskClient) -> None:
    revise(client, FIRST, {"response": "Twice"})
    client.delete("/v1/sessions/s/interactions/t")
    assert revise(client, {"response": "Thrice"})[0][0] == "rejected"


def revisions(client: FlaskClient, path: str = "s/interactions/t", query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/v1/sessions/{path}/revisions{query}")
    assert answer.status_code == 200
    listed: list[dict[str, Any]] = answer.get_json()["revisions"]
    return listed


def test_revisions_are_read_newest_first_with_what_differs(client: FlaskClient) -> None:
    revise(client, FIRST | at(10), {"prompt": "Say", "response": "Twice"} | at(20), {"response": "Thrice"} | at(30))
    newer, older = revisions(client)
    assert older["facts"] == {"prompt": "Tell", "response": "Once"} | at(10)
    assert older["fields"] == ["completed_at", "prompt", "response"]
    assert (older["said_at"], older["status"]) == (at(10)["completed_at"], "completed")
    assert newer["facts"] == {"response": "Twice"} | at(20)
    assert newer["created_at"] >= older["created_at"]


def test_a_revision_has_the_metadata_that_differ(client: FlaskClient) -> None:
    revise(client, FIRST, {"metadata": {"a": 3, "c": 4}})
    (revision,) = revisions(client)
    assert (revision["facts"], revision["fields"]) == ({"metadata": {"a": 1}}, ["metadata.a"])


def test_an_attempt_is_read_as_a_revision(client: FlaskClient) -> None:
    log(client, **NAME, prompt="Tell", response="Once")
    log(client, **NAME, response="Twice", status="abandoned")
    (attempt,) = revisions(client)
    assert (attempt["facts"], attempt["status"]) == ({"response": "Twice"}, "abandoned")


def test_an_error_from_an_attempt_makes_no_failure_of_what_was_said_before(client: FlaskClient) -> None:
    revise(client, {"prompt": "Q", "response": "One", **at(5)})
    revise(client, {"response": "no", "error": "x", "status": "failed", **at(4)})
    revise(client, {"prompt": "Q?", **at(6)})
    assert {"completed"} == {each["status"] for each in revisions(client) if "prompt" in each["fields"]}


def test_what_is_shown_again_is_no_revision_any_more(client: FlaskClient) -> None:
    revise(client, FIRST | at(10), FIRST | {"response": "Twice"} | at(20), FIRST | at(30))
    assert shown(client)["response"] == "Once"
    assert [each["facts"] for each in revisions(client)] == [{"response": "Twice"} | at(20)]


def test_revisions_come_in_pages(client: FlaskClient) -> None:
    revise(client, *({"prompt": "Tell", "response": f"{n} times"} for n in range(6)))
    path, seen, cursor = "/v1/sessions/s/interactions/t/revisions?limit=2", [], ""
    for _ in range(3):
        page = client.get(path + cursor).get_json()
        seen += [each["facts"]["response"] for each in page["revisions"]]
        cursor = f"&cursor={page['next']}"
    assert seen == [f"{n} times" for n in (4, 3, 2, 1, 0)]
    assert page["next"] is None


def test_a_page_with_photos_is_shorter(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "read_shrinking", lambda read, query: read(query | {"bytes": 200_000}))
    noise = [os.urandom(40_000).hex() for _ in range(4)]
    for photo in noise:
        revise(client, {"prompt": [{"role": "user", "content": [{"type": "image_url", "url": photo}]}]})
    page = client.get("/v1/sessions/s/interactions/t/revisions").get_json()
    assert [each["facts"]["prompt"][0]["content"][0]["url"] for each in page["revisions"]] == [*noise[2::-1]]
    revise(client, {"prompt": "no photo"})
    page = client.get("/v1/sessions/s/interactions/t/revisions").get_json()
    assert len(page["revisions"]) == 3
    assert page["next"]


def test_only_an_interaction_that_exists_has_revisions(client: FlaskClient) -> None:
    revise(client, FIRST, {"response": "Twice"})
    for path, code in (("s/interactions/u", "interaction-not-found"), ("u/interactions/t", "session-not-found")):
        assert problem(client.get(f"/v1/sessions/{path}/revisions"))["code"] == code
    client.delete("/v1/sessions/s/interactions/t")
    assert revisions(client) == []
