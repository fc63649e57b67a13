"""`turnlog keys`, as operators run it on each kind of store."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from tests.access.conftest import ORIGIN, Calls
from tests.doctor.operator import Operator


def made(operator: Operator, *arguments: str) -> str:
    result = operator.run("keys", "create", *arguments)
    assert result.exit_code == 0, result.output
    found = re.search(r"^turnlog_[sp]k_\w{30}$", result.stdout, re.MULTILINE)
    assert found, result.output
    return found[0]


def listed(operator: Operator, *arguments: str) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = json.loads(operator.run("keys", "list", "--json", *arguments).stdout)["keys"]
    return keys


def status(guarded: Flask, key: str) -> int:
    return Calls(guarded.test_client(), key, {})("GET", "/v1/sessions").status_code


def test_a_key_is_shown_once_and_opens_the_log(operator: Operator, guarded: Flask) -> None:
    text = made(operator, "--name", "backend")
    assert status(guarded, text) == 200
    for shown in (operator.run("keys", "list").output, json.dumps(listed(operator))):
        assert text not in shown
        assert text[:15] in shown
    (key,) = listed(operator)
    assert (key["project"], key["kind"], sorted(key["scopes"])) == ("default", "secret", ["log", "read"])
    assert not {"digest", "token_secret"} & key.keys()


def test_a_publishable_key_names_its_pages(operator: Operator) -> None:
    assert made(operator, "--kind", "publishable", "--origin", ORIGIN).startswith("turnlog_pk_")
    (key,) = listed(operator)
    assert (key["scopes"], key["origins"]) == (["log"], [ORIGIN])


def test_an_address_copied_with_its_slash_is_an_origin(operator: Operator) -> None:
    made(operator, "--kind", "publishable", "--origin", "http://localhost:3000/")
    assert listed(operator)[0]["origins"] == ["http://localhost:3000"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind", "publishable"], "Name the sites that may use it"),
        (["--kind", "publishable", "--origin", ORIGIN, "--scope", "read"], "may only log"),
        (["--origin", ORIGIN], "doesn't belong in a page"),
        (["--kind", "publishable", "--origin", "https://*.example.com"], "exactly as browsers send it"),
        (["--kind", "publishable", "--origin", f"{ORIGIN}/a"], "exactly as browsers send it"),
        (["--kind", "publishable", "--origin", f"{ORIGIN}//"], "exactly as browsers send it"),
        (["--kind", "publishable", "--origin", "localhost:3000"], "http://localhost:3000?"),
        (["--kind", "publishable", "--origin", "app.example.com"], "https://app.example.com?"),
        (["--kind", "publishable", "--origin", "null"], "exactly as browsers send it"),
        (["--expires", "soon"], "as in 90d"),
        (["--expires", "0d"], "as in 90d"),
        (["--expires", "99999w"], "no more than ten years"),
        (["--project", "two words"], "letters, digits"),
        (["--scope", "everything"], "is not one of"),
    ],
)
def test_invalid_options_are_named(operator: Operator, arguments: list[str], told: str) -> None:
    result = operator.run("keys", "create", *arguments)
    assert result.exit_code == 2
    assert told in result.output
    assert listed(operator) == []


def test_keys_of_projects_are_apart(operator: Operator) -> None:
    made(operator, "--project", "shop")
    made(operator, "--project", "blog", "--expires", "90d")
    assert [key["project"] for key in listed(operator)] == ["blog", "shop"]
    (key,) = listed(operator, "--project", "blog")
    ends = datetime.fromisoformat(key["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < ends <= timedelta(days=90)


@pytest.mark.parametrize("by", ["id", "beginning"])
def test_a_revoked_key_opens_nothing(operator: Operator, guarded: Flask, by: str) -> None:
    text, other = made(operator), made(operator)
    key = next(key for key in listed(operator) if text.startswith(key["hint"]))
    result = operator.run("keys", "revoke", key["id"] if by == "id" else text)
    assert "is revoked" in result.output
    assert (status(guarded, text), status(guarded, other)) == (401, 200)
    assert "revoked" in operator.run("keys", "list").output


def test_a_rotated_key_goes_on_for_a_while(operator: Operator, guarded: Flask) -> None:
    text = made(operator, "--scope", "read")
    result = operator.run("keys", "rotate", text[:15], "--overlap", "1h")
    newer = re.search(r"turnlog_sk_\w{30}", result.output)
    assert newer
    assert (status(guarded, text), status(guarded, newer[0])) == (200, 200)
    old, new = listed(operator)
    assert (old["scopes"], new["expires_at"]) == (new["scopes"], None)
    assert datetime.fromisoformat(old["expires_at"]) < datetime.now(UTC) + timedelta(hours=1)


def test_an_inactive_key_is_not_rotated(operator: Operator) -> None:
    text = made(operator)
    operator.run("keys", "revoke", text)
    result = operator.run("keys", "rotate", text)
    assert (result.exit_code, "Create a new key" in result.output) == (1, True)


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_the_beginning_of_every_key_names_none(operator: Operator, command: str) -> None:
    made(operator)
    result = operator.run("keys", command, "turnlog_sk_")
    assert (result.exit_code, "There is no such key" in result.output) == (1, True)


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_an_unknown_key_is_an_error(operator: Operator, command: str) -> None:
    made(operator)
    for name in ("turnlog_sk_zzzz", "01a1ff6b-6dd1-75ee-b8cf-7e25e5e773a2", "x"):
        result = operator.run("keys", command, name)
        assert (result.exit_code, "There is no such key" in result.output) == (1, True)
