"""The audit of reads: each call that shows conversations of others is recorded before it is answered."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jwt
import psycopg
import pytest
from flask import Flask

from app import create_app
from conversation.keys.key_registry import KeyRegistry, NewKey
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.errors import StoreUnavailable
from logging_store.operations import A, Operation, Q
from logging_store.postgres.function_store import FunctionStore
from logging_store.records import identity
from logging_store.store import Store
from tests.access.conftest import Calls
from tests.conftest import PROJECT, Backend
from tests.doctor.operator import Operator
from tests.issuers import ISSUER, claims


def id_of(session: str) -> str:
    return identity.session(PROJECT, session).id


@pytest.fixture
def audited(store: FunctionStore, tmp_path: Path) -> Flask:
    """Return a service that records reads."""
    return create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path), "TURNLOG_AUDIT_READS": "true"}), store)


@pytest.fixture
def admin(audited: Flask, secret_key: NewKey) -> Calls:
    """Return the calls of an administrator, with ada's sessions a1 and a2 and bob's session b logged."""
    calls = Calls(audited.test_client(), secret_key.text, {})
    for session, user in (("a1", "ada"), ("a2", "ada"), ("b", "bob")):
        calls("POST", "/v1/sessions", {"session_id": session, "user_id": user, "title": f"{session} of {user}"})
        calls("POST", "/v1/interactions", {"session_id": session, "prompt": f"Hello {session}", "error": "Timeout"})
    return calls


@pytest.fixture
def reader(audited: Flask, registry: KeyRegistry) -> tuple[Calls, str]:
    """Return the calls of a key that reads, and its id."""
    key = registry.create("default", "secret", {"read"})
    return Calls(audited.test_client(), key.text, {}), str(key.key.id)


def reads(admin: Calls, query: str = "") -> list[dict[str, Any]]:
    answer = admin("GET", f"/v1/audit{query}")
    assert answer.status_code == 200, answer.get_data()
    found: list[dict[str, Any]] = answer.get_json()["reads"]
    return found


@pytest.mark.every_store
def test_a_read_is_recorded_with_its_reader_and_what_it_showed(admin: Calls, reader: tuple[Calls, str]) -> None:
    calls, key_id = reader
    assert calls("GET", "/v1/sessions/a1/interactions").status_code == 200
    (read,) = reads(admin)
    assert read == {
        "id": read["id"],
        "at": read["at"],
        "reader": {"kind": "secret", "key_id": key_id, "user_id": None},
        "call": "GET /v1/sessions/{session}/interactions",
        "user_id": None,
        "session_ids": [id_of("a1")],
    }


@pytest.mark.parametrize(
    ("path", "shown", "user"),
    [
        ("/v1/sessions/a1", {"a1"}, None),
        (f"/v1/sessions/{identity.session(PROJECT, 'a1').id}", {"a1"}, None),
        ("/v1/sessions/a1/feedback", {"a1"}, None),
        ("/v1/sessions/a1/participants", {"a1"}, None),
        ("/v1/sessions/a1/gaps", {"a1"}, None),
        ("/v1/sessions", {"a1", "a2", "b"}, None),
        ("/v1/sessions?user_id=ada", {"a1", "a2"}, "ada"),
        ("/v1/sessions?user_id=nobody", set(), "nobody"),
        ("/v1/interactions", {"a1", "a2", "b"}, None),
        ("/v1/interactions?q=a2", {"a2"}, None),
        ("/v1/users/ada/export", {"a1", "a2"}, "ada"),
        ("/v1/usage?user_id=ada", set(), "ada"),
        ("/conversation/a1", {"a1"}, None),
        ("/sessions", {"a1", "a2", "b"}, None),
        ("/sessions/a1", {"a1"}, None),
        ("/sessions/a1/conversation.md", {"a1"}, None),
        ("/sessions/a1/turnlog.jsonl", {"a1"}, None),
        ("/sessions/a1/json", {"a1"}, None),
        ("/live", {"a1", "a2", "b"}, None),
        ("/search?q=a2", {"a2"}, None),
    ],
)
def test_each_way_of_reading_is_recorded(admin: Calls, path: str, shown: set[str], user: str | None) -> None:
    calls = admin if path.startswith(("/v1", "/conversation/")) else admin.signed_in()
    answer = calls("GET", path)
    assert answer.status_code == 200
    answer.get_data()
    (read,) = reads(admin)
    assert (set(read["session_ids"]), read["user_id"]) == ({id_of(each) for each in shown}, user)
    assert read["reader"]["kind"] == "secret"


@pytest.mark.parametrize(
    "path", ["/v1/overview", "/v1/usage", "/v1/interactions?q=nowhere", "/v1/sessions/unknown", "/v1/audit?user_id=ada"]
)
def test_what_shows_no_conversation_is_not_recorded(admin: Calls, path: str) -> None:
    admin("GET", path)
    admin.signed_in()("GET", "/")
    admin.signed_in()("GET", "/keys")
    assert reads(admin) == []


def test_it_is_off_by_default(backend_calls: Calls) -> None:
    backend_calls("POST", "/v1/interactions", {"session_id": "s", "prompt": "Hello"})
    backend_calls("GET", "/v1/sessions/s/interactions")
    assert reads(backend_calls) == []


def test_who_reads_only_their_own_sessions_is_not_recorded(
    store: FunctionStore, secret_key: NewKey, tmp_path: Path
) -> None:
    secret = "a-secret-of-at-least-32-characters"  # noqa: S105
    settings = {
        "DATA_DIR": str(tmp_path), "TURNLOG_AUDIT_READS": "true", "TURNLOG_USER_TOKENS": "hs256",
        "TURNLOG_JWT_SECRET": secret, "TURNLOG_JWT_ISSUER": ISSUER,
    }  # fmt: skip
    app = create_app(Settings.from_mapping(settings), store)
    user = Calls(app.test_client(), jwt.encode(claims(), secret, "HS256"), {})
    assert user("POST", "/v1/interactions", {"session_id": "own", "prompt": "Hello"}).status_code == 201
    for path in ("/v1/sessions", "/v1/sessions/own", "/v1/sessions/own/interactions", "/conversation/own"):
        assert user("GET", path).status_code == 200
    admin = Calls(app.test_client(), secret_key.text, {})
    assert reads(admin) == []
    admin("GET", "/v1/sessions/own")
    assert len(reads(admin)) == 1


class _Unrecorded:
    """A store that can't add records of reads."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def ask(self, operation: Operation[Q, A], project: str | None, query: Q) -> A:
        if operation.name == ops.ADD_READ.name:
            raise StoreUnavailable
        return self.inner.ask(operation, project, query)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_what_cannot_be_recorded_is_not_read(store: FunctionStore, secret_key: NewKey, tmp_path: Path) -> None:
    settings = Settings.from_mapping({"DATA_DIR": str(tmp_path), "TURNLOG_AUDIT_READS": "true"})
    calls = Calls(create_app(settings, _Unrecorded(store)).test_client(), secret_key.text, {})
    calls("POST", "/v1/interactions", {"session_id": "s", "prompt": "a secret"})
    for reading, path in ((calls, "/v1/sessions/s/interactions"), (calls.signed_in(), "/sessions/s")):
        answer = reading("GET", path)
        assert answer.status_code == 503
        assert "a secret" not in answer.get_data(as_text=True)
    assert calls("POST", "/v1/interactions", {"session_id": "s", "prompt": "more"}).status_code == 201


def test_reads_can_be_found_by_session_user_reader_and_time(admin: Calls, reader: tuple[Calls, str]) -> None:
    calls, key_id = reader
    calls("GET", "/v1/sessions/a1")
    admin("GET", "/v1/sessions/b")
    admin("GET", "/v1/users/ada/export").get_data()
    assert [read["call"] for read in reads(admin)] == [
        "GET /v1/users/{user}/export", "GET /v1/sessions/{session}", "GET /v1/sessions/{session}",
    ]  # fmt: skip
    assert [read["session_ids"] for read in reads(admin, "?session=b")] == [[id_of("b")]]
    assert [read["user_id"] for read in reads(admin, "?user_id=ada")] == ["ada", None]
    assert [read["session_ids"] for read in reads(admin, f"?reader={key_id}")] == [[id_of("a1")]]
    assert reads(admin, "?to=2020-01-01T00:00:00Z") == []
    assert len(reads(admin, "?from=2020-01-01T00:00:00Z")) == 3
    seen, page = [], admin("GET", "/v1/audit?limit=2").get_json()
    seen += page["reads"]
    page = admin("GET", f"/v1/audit?limit=2&cursor={page['next']}").get_json()
    assert (seen + page["reads"], page["next"]) == (reads(admin), None)
    assert admin("GET", "/v1/audit?cursor=x").status_code == 422
    assert calls("GET", "/v1/audit").status_code == 403


def add(store: FunctionStore, sessions: list[str], **more: Any) -> None:
    row: Mapping[str, Any] = {
        "id": str(identity.session(PROJECT, f"{sessions} {more}").id),
        "kind": "member", "key_id": None, "reader": None, "call": "GET /sessions", "user_id": None,
        "session_ids": [id_of(each) for each in sessions],
    }  # fmt: skip
    store.ask(ops.ADD_READ, PROJECT, ops.NewRead(**{**row, **more}))  # type: ignore[typeddict-item]


@pytest.mark.every_store
def test_an_erased_user_is_in_no_record(admin: Calls, store: FunctionStore) -> None:
    add(store, ["a1", "a2"])
    add(store, ["a1", "b"])
    add(store, ["b"])
    add(store, ["b"], reader="ada")
    add(store, [], user_id="ada")
    add(store, [], user_id="bob")
    assert admin("DELETE", "/v1/users/ada").status_code == 200
    assert sorted((read["session_ids"], read["user_id"]) for read in reads(admin) if not read["user_id"]) == [
        ([id_of("b")], None), ([id_of("b")], None),
    ]  # fmt: skip
    assert {read["user_id"] for read in reads(admin)} == {None, "bob"}
    assert {read["reader"]["user_id"] for read in reads(admin)} == {None}


def test_a_reader_without_sessions_is_erased_too(admin: Calls, store: FunctionStore) -> None:
    for n in range(5):
        add(store, ["b"], reader="eve", call=f"GET /{n}")
    proof = admin("DELETE", "/v1/users/eve").get_json()
    assert reads(admin) == []
    assert "ai_reads" in json.dumps(proof)


def test_many_records_are_erased_in_steps(admin: Calls, store: FunctionStore, backend: Backend) -> None:
    for n in range(7):
        add(store, ["a1", "a2", "b"], call=f"GET /{n}")
    query = {"user_id": "ada", "most": 3, "begin": True}
    steps, left = 0, True
    while left:
        left = store.ask(ops.ERASE_USER, PROJECT, cast("ops.EraseUserQuery", query))["left"]
        query, steps = query | {"begin": False}, steps + 1
    assert steps > 3
    assert {tuple(read["session_ids"]) for read in reads(admin)} == {(id_of("b"),)}
    assert admin("GET", "/v1/sessions/a1").status_code == 410


@pytest.mark.own_database
def test_old_records_expire(admin: Calls, store: FunctionStore, operator: Operator, backend: Backend) -> None:
    add(store, ["a1"])
    add(store, ["b"])
    with psycopg.connect(backend.database, autocommit=True) as connection:
        connection.execute(
            "update turnlog.ai_reads set at = now() - interval '40 days' where session_ids = %s::uuid[]",
            [[id_of("a1")]],
        )
    aged = Operator(operator.environment | {"TURNLOG_AUDIT_KEEP_DAYS": "30"}, operator.database)
    assert "1 records of reads older than 30 days would go" in aged.run("expire", "--dry-run").output
    assert len(reads(admin)) == 2
    assert "1 records of reads older than 30 days deleted" in aged.run("expire").output
    assert [read["session_ids"] for read in reads(admin)] == [[id_of("b")]]


def test_the_commands_list_reads_and_record_exports(admin: Calls, operator: Operator, tmp_path: Path) -> None:
    auditing = Operator(operator.environment | {"TURNLOG_AUDIT_READS": "true"}, operator.database)
    admin("GET", "/v1/sessions/b")
    assert auditing.run("export", "--session", "a1", "-o", str(tmp_path / "a1.jsonl")).exit_code == 0
    listed = auditing.run("audit", "--user-id", "ada")
    assert listed.exit_code == 0, listed.output
    assert "turnlog export" in listed.stdout
    assert "GET /v1/sessions/{session}" not in listed.stdout
    found = json.loads(auditing.run("audit", "--json", "--session", "b").stdout)["reads"]
    assert [read["call"] for read in found] == ["GET /v1/sessions/{session}"]
    refused = auditing.run("audit", "--from", "soon")
    assert (refused.exit_code, "--from: " in refused.output) == (2, True)
