"""Whatever goes wrong is answered as problem details, and tells nothing of the inside."""

import logging
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from conversation import refusals
from conversation.api import problems
from conversation.api.route_templates import described_routes
from conversation.refusals import near_misses
from conversation.refusals.codes import CODES
from conversation.settings import Settings
from logging_store import errors
from logging_store import operations as ops
from logging_store.batches import Batch, BatchReceipts, Receipt
from logging_store.store import Backlog
from tests.http_calls import KEYLESS, problem

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


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/v1/session", "POST /v1/sessions"),
        ("GET", "/v1/session/abc", "GET /v1/sessions/{session}"),
        ("POST", "/v1/interaction", "POST /v1/interactions"),
        ("GET", "/v1/sessions/", "GET /v1/sessions"),
        ("POST", "/v1/sessions/", "POST /v1/sessions"),
        ("POST", "/api/v1/interactions", "POST /v1/interactions"),
        ("POST", "/interactions", "POST /v1/interactions"),
        ("POST", "/v2/interactions", "POST /v1/interactions"),
        ("GET", "/v1/sessions/abc/interaction", "GET /v1/sessions/{session}/interactions"),
        ("PUT", "/v1/session", "POST /v1/sessions"),
    ],
)
def test_a_route_that_is_nearly_one_is_named(method: str, path: str, meant: str) -> None:
    told = problem(client_of(FailingStore(RuntimeError())).open(path, method=method), 404)
    assert (told["code"], told["detail"]) == (
        "unknown-route",
        f"No such route. Did you mean {meant}? All routes: /openapi.json",
    )


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/weather", "/v1/a/b/c/d", "/v1/sessions/a/b", f"/{'x' * 5000}", "/%ff"]
)
def test_a_route_that_is_like_none_is_not_guessed(path: str) -> None:
    told = problem(client_of(FailingStore(RuntimeError())).get(path), 404)
    assert told["detail"] == "No such route. All routes: /openapi.json"


def test_every_route_is_nearest_to_itself() -> None:
    routes = list(described_routes(client_of(FailingStore(RuntimeError())).application))
    assert len(routes) > 15
    for template, methods in routes:
        path = re.sub(r"{\w+}", "s", template)
        for method in methods:
            assert near_misses.route(path, method, routes) == f"{method} {template}"


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("GET", "/v1/interactions/batch", "/v1/interactions/batch takes POST, not GET"),
        ("DELETE", "/v1/interactions", "/v1/interactions takes GET or POST, not DELETE"),
        ("PUT", "/v1/sessions/a%20b", "/v1/sessions/{session} takes DELETE, GET or PATCH, not PUT"),
        ("TRACE", "/livez", "/livez takes GET, not TRACE"),
    ],
)
def test_another_method_is_told_which_the_route_takes(method: str, path: str, detail: str) -> None:
    told = problem(client_of(FailingStore(RuntimeError())).open(path, method=method), 405)
    assert (told["code"], told["detail"]) == ("method-not-allowed", detail)


def test_every_code_has_a_page_where_its_type_leads() -> None:
    client = client_of(FailingStore(RuntimeError()))
    listed = client.get("/errors").text
    for code, kind in CODES.items():
        page = client.get(kind.path)
        assert (page.status_code, page.mimetype) == (200, "text/plain")
        assert all(text in page.text for text in (code, kind.title, str(kind.status), kind.meaning, kind.remedy))
        assert code in listed
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        for text in (kind.meaning, kind.remedy):
            assert text[0].isupper() or text[0] == "`"
            assert text.endswith(".")
    assert problem(client.get("/errors/nothing"), 404)["code"] == "not-found"


def test_the_contract_lists_the_codes() -> None:
    contract = client_of(FailingStore(RuntimeError())).get("/openapi.json").get_json()
    shape = contract["components"]["schemas"]["Problem"]
    assert shape["properties"]["code"]["enum"] == list(CODES)
    assert {"type", "title", "status", "code", "detail", "request_id"} <= set(shape["required"])


@pytest.mark.parametrize("path", ["/livez", "/v1/sessions", "/nothing"])
def test_each_answer_has_its_requests_id(path: str) -> None:
    client = client_of(FailingStore(RuntimeError()))
    first, second = (client.get(path).headers["X-Request-Id"] for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{24}", first)
    assert first != second
    assert client.get(path, headers={"X-Request-Id": "from-a_proxy:1/2"}).headers.getlist("X-Request-Id") == [
        "from-a_proxy:1/2"
    ]


@pytest.mark.parametrize("sent", ["", " ", "a b", "x" * 65, "é", "a\tb", '"', "<script>"])
def test_an_id_that_no_proxy_makes_is_not_taken_over(sent: str) -> None:
    client = client_of(FailingStore(RuntimeError()))
    answer = client.get("/nothing", headers={"X-Request-Id": sent.encode().decode("latin-1")})
    assert re.fullmatch(r"[0-9a-f]{24}", answer.headers["X-Request-Id"])
    assert problem(answer)["request_id"] == answer.headers["X-Request-Id"]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "turnlog.refused"]


def test_each_refused_call_leaves_a_line_without_what_it_holds(caplog: pytest.LogCaptureFixture) -> None:
    client = client_of(FailingStore(errors.StoreUnavailable()))
    own = {"X-Request-Id": "r1"}
    client.get("/v1/sessions/a-name?limit=said", headers=own)
    client.post("/v1/interactions", json={"promt": "said"}, headers=own)
    client.get("/said/by/somebody?x=said", headers=own)
    client.open("/v1/interactions/batch", method="SAID", headers=own)
    client.get("/livez", headers=own)
    assert lines(caplog) == [
        "refused GET /v1/sessions/<name:session>: 503 store-unavailable (request r1)",
        "refused POST /v1/interactions: 422 invalid (request r1)",
        "refused GET (no route): 404 unknown-route (request r1)",
        "refused (another method) /v1/interactions/batch: 405 method-not-allowed (request r1)",
    ]


def test_a_flood_of_refusals_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    caplog.set_level(logging.INFO, "turnlog.refused")
    written = refusals.RefusalLog(lambda: now[0])
    for _ in range(1000):
        written.write("/v1/interactions", "POST", 422, "invalid", "r")
    written.write("/v1/sessions", "GET", 401, "missing-key", "r")
    assert len(lines(caplog)) == 5 + 1
    now[0] = 1.0
    written.write("/v1/sessions", "GET", 401, "missing-key", "r")
    assert lines(caplog)[6:] == [
        "refused /v1/interactions: 995 more in the same second",
        "refused GET /v1/sessions: 401 missing-key (request r)",
    ]


def test_an_outage_is_logged_once_and_then_each_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    client = client_of(FailingStore(errors.StoreUnavailable("away")))
    client.application.extensions["turnlog_repeated_problems"] = refusals.MessageThrottle(lambda: now[0])
    for second in range(0, 121, 10):
        now[0] = float(second)
        client.get("/v1/sessions")
    told = [record.getMessage() for record in caplog.records if record.name == problems.__name__]
    assert told == [
        "store unavailable: away",
        "store unavailable: away (5 more calls since the last such line)",
        "store unavailable: away (5 more calls since the last such line)",
    ]


def test_what_was_looked_for_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Empty(FailingStore):
        def _nothing(self, operation: ops.Operation[Any, Any], *_: Any) -> Any:
            return {"folder": None, "sessions": [], "after": None} if operation is ops.FOLDER else None

        ask = _nothing

    client = client_of(Empty(RuntimeError()))
    session, folder = client.get("/v1/sessions/chat%201"), client.get("/v1/folders/ann")
    assert (problem(session, 404)["code"], problem(session)["detail"]) == (
        "session-not-found",
        'There is no session "chat 1"',
    )
    assert (problem(folder, 404)["code"], problem(folder)["detail"]) == ("folder-not-found", 'There is no folder "ann"')
    assert "chat" not in caplog.text


def test_a_long_id_is_not_repeated_whole() -> None:
    client = client_of(FailingStore(errors.SessionNotFound()))
    assert problem(client.get(f"/v1/sessions/{'x' * 200}"), 404)["detail"].count("x") == 60
