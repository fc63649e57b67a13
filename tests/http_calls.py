"""Calls of the HTTP API that many tests make, and what every refusal has."""

from typing import Any
from urllib.parse import quote

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from conversation.refusals.codes import CODES

#: Settings of a service that its tests call without a key.
KEYLESS = {"TURNLOG_KEYLESS": "true"}


def in_path(name: str) -> str:
    return f"/v1/sessions/{quote(name, safe='')}"


def create(client: FlaskClient, **fields: Any) -> TestResponse:
    return client.post("/v1/sessions", json=fields)


def log(client: FlaskClient, **fields: Any) -> TestResponse:
    return client.post("/v1/interactions", json=fields)


def transcript(client: FlaskClient, name: str) -> list[dict[str, Any]]:
    """Return all interactions of a session, those of other branches, too."""
    path = f"{in_path(name)}/interactions?branches=all"
    interactions: list[dict[str, Any]] = client.get(path).get_json()["interactions"]
    return interactions


def problem(answer: TestResponse, status: int | None = None) -> dict[str, Any]:
    """Return an answer's problem details; its status, where that is asked for, and its type are as they must be."""
    assert status in {None, answer.status_code}
    assert answer.mimetype == "application/problem+json"
    body: dict[str, Any] = answer.get_json()
    assert body["status"] == answer.status_code
    assert body["type"] == CODES[body["code"]].path
    assert body["request_id"] == answer.headers.get("X-Request-Id")
    return body


def refusal_code(answer: TestResponse) -> str:
    """Return the code of a refusal: of problem details, or of the Status by which OTLP's routes answer."""
    if answer.mimetype == "application/json":
        message: str = answer.get_json()["message"]
        return message.rpartition("(")[2].removesuffix(")")
    code: str = problem(answer)["code"]
    return code


def same_problem(answer: TestResponse, status: int, name: str) -> dict[str, Any]:
    """Return a problem without what is its own: its request's id, and the name that was looked for."""
    told = problem(answer, status)
    return told | {"request_id": "", "detail": told["detail"].replace(name, "…")}


def paths(answer: TestResponse) -> list[str]:
    """Return the JSON paths of the fields that a refusal names."""
    return [field["path"] for field in problem(answer)["fields"]]
