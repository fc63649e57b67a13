"""Whatever goes wrong is answered as problem details, and tells nothing of the inside."""

import logging
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from conversation.settings import Settings
from logging_store import errors
from logging_store.batches import Batch, BatchReceipts, Receipt
from logging_store.store import Backlog
from tests.api import KEYLESS, problem

INSIDE = "host=db.internal password=hunter2"
CLASH = errors.Conflict(
    "duplicate key", constraint="a_rule", columns=("project", "key"), attempted={"project": "p", "key": "k"}
)


class FailingStore:
    """A store whose every call ends with the same error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def _fail(self, *_: Any) -> Any:
        raise self.error

    def start(self) -> None: ...

    write = ask = ping = _fail

    def backlog(self) -> Backlog:
        return Backlog()

    def close(self) -> None: ...


class PickyStore(FailingStore):
    """A store that refuses any batch with a poisoned record in it, and keeps the others."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.kept: list[str] = []

    def write(self, batch: Batch) -> BatchReceipts:
        if any(row.get("prompt") == "poison" for row in batch.interactions):
            raise self.error
        self.kept += [row["prompt"] for row in batch.interactions]
        return BatchReceipts(
            [Receipt(receipt="created") for _ in batch.sessions],
            [Receipt(receipt="created") for _ in batch.interactions],
        )


def client_of(store: FailingStore) -> FlaskClient:
    return create_app(Settings.from_mapping(KEYLESS), store).test_client()


def every_call(client: FlaskClient) -> list[TestResponse]:
    return [
        client.post("/v1/sessions", json={"session_id": "s"}),
        client.post("/v1/interactions", json={"prompt": "Hello"}),
        client.post("/session/create", json={}),
        client.post("/interaction/log", json={"prompt": "Hello"}),
        client.get("/v1/sessions"),
        client.get("/v1/sessions/s"),
        client.get("/v1/sessions/s/interactions"),
        client.get("/v1/sessions/s/gaps"),
        client.patch("/v1/sessions/s", json={"title": "T"}),
        client.delete("/v1/sessions/s"),
    ]


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.StoreUnavailable(INSIDE), 503, "2"),
        (errors.Misconfigured(INSIDE), 503, "60"),
        (errors.Invalid("value too long", field="title"), 422, None),
        (CLASH, 409, None),
        (errors.Conflict("held"), 409, None),
        (RuntimeError(INSIDE), 500, None),
        (KeyError(INSIDE), 500, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_of_the_store_is_the_same_problem_for_every_call(
    error: Exception, status: int, retry_after: str | None
) -> None:
    for answer in every_call(client_of(FailingStore(error))):
        assert problem(answer)["status"] == status
        assert answer.headers.get("Retry-After") == retry_after
        assert (str(problem(answer).get("retry_after", "")) or None) == retry_after
        assert "hunter2" not in answer.get_data(as_text=True)
        assert problem(answer)["title"]
        assert not problem(answer)["detail"].endswith(": ")


def test_refused_data_is_named() -> None:
    refused = errors.Invalid("value too long", field="title")
    for answer in every_call(client_of(FailingStore(refused))):
        assert problem(answer)["fields"] == [{"path": "$.title", "detail": "value too long"}]


def test_a_clash_names_its_rule_and_what_was_tried() -> None:
    for answer in every_call(client_of(FailingStore(CLASH))):
        body = problem(answer)
        assert (body["constraint"], body["columns"]) == ("a_rule", ["project", "key"])
        assert body["attempted"] == {"project": "p", "key": "k"}
        assert "a_rule (project, key)" in body["detail"]


@pytest.mark.parametrize("error", [errors.StoreUnavailable(INSIDE), errors.Misconfigured(INSIDE), RuntimeError(INSIDE)])
def test_a_batch_that_fails_as_a_whole_is_one_problem(error: Exception) -> None:
    answer = client_of(FailingStore(error)).post("/v1/interactions/batch", json={"interactions": [{"prompt": "Hello"}]})
    assert problem(answer)["status"] == (500 if isinstance(error, RuntimeError) else 503)


def test_what_no_caller_may_see_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    for error in (errors.StoreUnavailable(INSIDE), errors.Misconfigured(INSIDE), RuntimeError(INSIDE)):
        caplog.clear()
        client_of(FailingStore(error)).get("/v1/sessions")
        assert INSIDE in caplog.text
        assert max(record.levelno for record in caplog.records) >= logging.WARNING


@pytest.mark.parametrize("poisoned", [{0}, {6}, {3, 4}, {0, 2, 5, 6}, set(range(7)), set()], ids=str)
@pytest.mark.parametrize(
    ("error", "outcome"), [(errors.Invalid("no", field="prompt"), "rejected"), (CLASH, "conflict")]
)
def test_a_poisoned_record_harms_no_other(poisoned: set[int], error: Exception, outcome: str) -> None:
    store = PickyStore(error)
    items = [{"session_id": "s", "prompt": "poison" if n in poisoned else str(n)} for n in range(7)]
    answer = client_of(store).post("/v1/interactions/batch", json={"interactions": items})
    receipts = answer.get_json()["receipts"]
    assert answer.status_code == (207 if poisoned else 200)
    assert [each["receipt"] for each in receipts] == [outcome if n in poisoned else "created" for n in range(7)]
    assert [each["index"] for each in receipts] == list(range(7))
    assert store.kept == [str(n) for n in range(7) if n not in poisoned]


def test_an_unavailable_store_is_never_taken_for_bad_data() -> None:
    store = PickyStore(errors.StoreUnavailable())
    items = [{"prompt": "poison"}, {"prompt": "Hello"}]
    answer = client_of(store).post("/v1/interactions/batch", json={"interactions": items})
    assert (problem(answer)["status"], store.kept) == (503, [])


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1", 404, None),
        ("GET", "/v1/sessions/", 404, None),
        ("GET", "/v1/sessions/a/b", 404, None),
        ("GET", "/v1/sessions/a/interactions/", 404, None),
        ("POST", "/v2/interactions", 404, None),
        ("PUT", "/v1/sessions", 405, {"GET", "HEAD", "OPTIONS", "POST"}),
        ("PUT", "/v1/interactions", 405, {"GET", "HEAD", "OPTIONS", "POST"}),
        ("POST", "/v1/sessions/a", 405, {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH"}),
        ("TRACE", "/livez", 405, {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_what_is_not_there_is_a_problem_too(method: str, path: str, status: int, allow: set[str] | None) -> None:
    answer = client_of(FailingStore(RuntimeError())).open(path, method=method)
    assert problem(answer)["status"] == status
    assert (set(answer.headers["Allow"].split(", ")) if "Allow" in answer.headers else None) == allow
