"""Bytes that can't be kept as they are get one verdict on every store, and leave nothing behind."""

import io
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from conversation.access.limits import MAX_BODY
from conversation.settings import Settings
from logging_store.store import Store
from tests.api.bad_bodies import BAD, INVALID, NOT_JSON, NOT_READ, UNSTORABLE, Bad
from tests.conftest import Backend
from tests.http_calls import KEYLESS, paths, problem, transcript

WITHOUT_LENGTH = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}


def send(client: FlaskClient, bad: Bad) -> TestResponse:
    options: dict[str, Any] = {"headers": bad.headers, "content_type": bad.content_type}
    if bad.chunked:
        # as a server hands over a body without a length
        options |= {"input_stream": io.BytesIO(bad.body), "environ_overrides": WITHOUT_LENGTH}
    else:
        options["data"] = bad.body
    return client.post(bad.path, **options)


def test_every_bad_body_has_a_name_of_its_own() -> None:
    every = [*BAD, *UNSTORABLE]
    assert len({bad.name for bad in every}) == len(every)


@pytest.mark.parametrize("corpus", [NOT_JSON, NOT_READ, INVALID], ids=["not JSON", "not read", "invalid"])
def test_bad_bodies_are_refused_and_leave_nothing(client: FlaskClient, backend: Backend, corpus: list[Bad]) -> None:
    verdicts = {}
    for bad in corpus:
        answer = send(client, bad)
        assert problem(answer)["detail"]
        verdicts[bad.name] = (answer.status_code, tuple(paths(answer)) if answer.status_code == 422 else ())
    assert verdicts == {bad.name: (bad.status, bad.paths) for bad in corpus}
    with psycopg.connect(backend.database) as connection:
        rows = connection.execute("select count(*) from turnlog.ai_sessions").fetchone()
    assert rows == (0,)


@pytest.mark.every_store
def test_what_cannot_be_stored_is_altered_and_listed(client: FlaskClient) -> None:
    verdicts = {bad.name: (send(client, bad), bad) for bad in UNSTORABLE}
    assert {name: answer.status_code for name, (answer, _) in verdicts.items() if answer.status_code > 202} == {}
    found = {name: answer.get_json()["altered"] for name, (answer, _) in verdicts.items()}
    assert found == {name: list(bad.paths) for name, (_, bad) in verdicts.items()}


def test_a_strict_service_refuses_what_cannot_be_stored(store: Store, backend: Backend) -> None:
    strict = create_app(Settings.from_mapping(KEYLESS | {"TURNLOG_UNSTORABLE": "reject"}), store).test_client()
    verdicts = {bad.name: (send(strict, bad), bad) for bad in UNSTORABLE}
    assert {name: (answer.status_code, tuple(paths(answer))) for name, (answer, _) in verdicts.items()} == {
        name: (bad.status, bad.paths) for name, (_, bad) in verdicts.items()
    }
    with psycopg.connect(backend.database) as connection:
        rows = connection.execute("select count(*) from turnlog.ai_sessions").fetchone()
    assert rows == (0,)


@pytest.mark.every_store
def test_a_body_of_exactly_16_mb_is_taken(client: FlaskClient) -> None:
    around = len(b'{"prompt":""}')
    text = "x" * (MAX_BODY - around)
    answer = client.post("/v1/interactions", data=f'{{"prompt":"{text}"}}', content_type="application/json")
    assert answer.status_code == 201
    assert transcript(client, answer.get_json()["session_id"])[0]["prompt"] == text
