"""How exporters of OpenTelemetry send a key, and how they are refused."""

from base64 import b64encode

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from conversation.keys.key_registry import NewKey
from tests.otlp.builders import Sent, chat, traces

PATHS = ("/v1/traces", "/v1/logs", "/api/public/otel/v1/traces")


def export(app: Flask, path: str, authorization: str) -> TestResponse:
    body = traces(Sent(attributes=chat())) if "traces" in path else b""
    headers = {"Authorization": authorization}
    return app.test_client().post(path, data=body, content_type="application/x-protobuf", headers=headers)


def basic(name: str, password: str) -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize("path", PATHS)
def test_a_key_is_taken_in_each_form_that_exporters_send(guarded: Flask, secret_key: NewKey, path: str) -> None:
    text = secret_key.text
    for sent in (
        f"Bearer {text}",
        f"Bearer%20{text}",
        basic("pk-lf-1", text),
        basic("", text),
        f"basic {basic('a', text)[6:]}",
    ):
        assert export(guarded, path, sent).status_code == 200, sent


@pytest.mark.parametrize("path", PATHS)
def test_anything_else_is_refused_in_the_encoding_of_the_request(guarded: Flask, secret_key: NewKey, path: str) -> None:
    text = secret_key.text
    wrong = [basic("pk", text[:-1]), basic(text, "sk"), basic("pk", "sk-lf-1"), f"Basic {text}", "Basic ÿ", "Basic", ""]
    for sent in wrong:
        answer = export(guarded, path, sent.encode().decode("latin-1"))
        assert (answer.status_code, answer.mimetype) == (401, "application/x-protobuf"), sent
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.data[:2] == b"\x08\x10"  # UNAUTHENTICATED
        assert text.encode() not in answer.data


def test_a_publishable_key_may_not_export(guarded: Flask, publishable_key: NewKey) -> None:
    answer = export(guarded, "/v1/traces", f"Bearer {publishable_key.text}")
    assert (answer.status_code, answer.data[:2]) == (403, b"\x08\x07")  # PERMISSION_DENIED
    assert b"secret-key-required" in answer.data
