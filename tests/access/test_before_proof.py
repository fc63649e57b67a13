"""What a call costs before its caller is known is bounded in bytes."""

import difflib
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from app import create_app
from conversation.access.received import Received
from conversation.keys.key_registry import NewKey
from conversation.refusals import near_misses
from conversation.settings import Settings
from logging_store.postgres.function_store import FunctionStore
from tests.access.conftest import Calls
from tests.access.test_matrix import Route, routes

SMALL, LARGE = 16 * 1024, 128 * 1024  # what a form may hold before, and after, its sender is known
SAME_SITE = {"Sec-Fetch-Site": "same-origin"}
PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'


def forms(app: Flask) -> Iterator[Route]:
    yield from (route for route in routes(app) if route.is_page and route.method not in {"GET", "HEAD"})


def post(app: Flask, route: Route, kind: str, body: bytes, *, chunked: bool, cookies: Any = None) -> tuple[int, int]:
    """Return the status of a form, and how many bytes of it were read."""
    path, _ = route.filled("name")
    sent = Received()
    sent.add(body)
    sent.seek(0)
    framing = {"HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {"CONTENT_LENGTH": str(len(body))}
    environ = {"wsgi.input": sent, "wsgi.input_terminated": True, "CONTENT_TYPE": kind} | framing
    client = cookies or app.test_client()
    with sent, client.open(path, method=route.method, headers=SAME_SITE, environ_overrides=environ) as answer:
        return answer.status_code, sent.tell()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_no_form_of_anybody_is_parsed_beyond_16_kb(guarded: Flask, *, chunked: bool) -> None:
    fields, parts = b"=&" * (2 << 20), PART * 50_000
    found = 0
    for route in forms(guarded):
        for kind, body in (("application/x-www-form-urlencoded", fields), ("multipart/form-data; boundary=x", parts)):
            status, taken = post(guarded, route, kind, body, chunked=chunked)
            assert taken == 0, route
            assert status == 413, route
            found += 1
    assert found >= 16


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_form_of_16_kb_is_read(guarded: Flask, *, chunked: bool) -> None:
    kind = "application/x-www-form-urlencoded"
    for path in ("/sign-in", "/sign-in/user"):
        body = b"key=" + b"a" * (SMALL - 4)
        status, taken = post(guarded, Route("POST", path, None, is_page=True), kind, body, chunked=chunked)
        assert (status, taken) == (401 if path == "/sign-in" else 403, SMALL)


def test_who_is_signed_in_may_send_a_long_note_and_no_more(guarded: Flask, secret_key: NewKey) -> None:
    client = guarded.test_client()
    client.post("/sign-in", data={"key": secret_key.text}, headers=SAME_SITE)
    admin = Calls(guarded.test_client(), secret_key.text, {})
    assert admin("POST", "/v1/sessions", {"session_id": "name"}).status_code == 201
    note = client.post("/sessions/name/feedback", data={"note": "\N{BALLOON}" * 10_000}, headers=SAME_SITE)
    assert note.status_code == 303
    for route in forms(guarded):
        if route.scope is not None:
            kind = "application/x-www-form-urlencoded"
            status, taken = post(guarded, route, kind, b"=&" * LARGE, chunked=False, cookies=client)
            assert (status, taken) == (413, 0), route


def test_long_paths_are_compared_by_length_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def ratio(matcher: difflib.SequenceMatcher[str]) -> float:
        nonlocal compared
        compared += 1
        return plain_ratio(matcher)

    plain_ratio = difflib.SequenceMatcher.ratio
    monkeypatch.setattr(difflib.SequenceMatcher, "ratio", ratio)
    known = [(f"/v1/{name}/{{id}}", ("GET",)) for name in ("sessions", "interactions", "folders", "users") * 20]
    assert near_misses.route("/v1/sesions/a", "GET", known) == "GET /v1/sessions/{id}"
    compared = 0
    assert near_misses.route(f"/v1/{'interactoins' * 300}/a", "GET", known) is None
    assert compared == 0


def test_a_long_list_of_kinds_gets_the_short_answer(store: FunctionStore, tmp_path: Any) -> None:
    client = create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), store).test_client()
    for accept, mimetype in (("text/html", "text/html"), ("text/html," * 3000, "application/problem+json")):
        assert client.get("/nowhere", headers={"Accept": accept}).mimetype == mimetype
