"""Errors are classified by SQLSTATE alone: transient, a misconfiguration, or invalid data."""

from collections.abc import Mapping
from typing import Any

import pytest

from logging_store import errors
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.migrations import SCHEMA_VERSION
from logging_store.postgres.sqlstate import classify

TRUSTWORTHY = {
    "schema": SCHEMA_VERSION,
    "database_id": "0123456789abcdef-01234567",
    "server_version": "18.6",
    "read_only": False,
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "transaction_isolation": "read committed",
    "rows_hidden": False,
    "now": "2026-11-29T12:00:00+00:00",
}


class Answering(FunctionStore):
    """Gives the same answer to every call."""

    def __init__(self, answer: Any) -> None:
        super().__init__(deadline_s=1, pool_size=1)
        self.answer = answer

    def _call(self, function: str, value: Mapping[str, Any], ends: float) -> Any:  # noqa: ARG002 - whatever is asked
        return self.answer

    def _call_apart(self, function: str, ends: float) -> Any:
        return self._call(function, {}, ends)

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("08006", "connection_failure"),
        ("25P03", "idle_in_transaction_session_timeout"),
        ("25P04", "transaction_timeout"),
        ("40001", "serialization_failure"),
        ("40003", "statement_completion_unknown"),
        ("40P01", "deadlock_detected"),
        ("53100", "disk_full"),
        ("53300", "too_many_connections"),
        ("57P01", "admin_shutdown"),
        ("57P03", "cannot_connect_now"),
        ("58030", "io_error"),
        ("XX000", "internal_error, a pooler's refusal"),
        ("PGRST003", "PostgREST: pool timeout"),
        ("XX002", "unknown to us: nothing is lost by trying again"),
        ("P0001", "unknown to us"),
        ("99999", "unknown to everybody"),
    ],
)
def test_transient_errors_are_unavailable(code: str, why: str) -> None:
    error = classify(code, "it failed")
    assert (type(error), str(error)) == (errors.StoreUnavailable, f"it failed ({code})"), why


@pytest.mark.parametrize("code", ["PGRST000", "PGRST001", "PGRST002"])
def test_postgrest_without_connections_to_its_database_is_reconnecting(code: str) -> None:
    assert type(classify(code, "it failed")) is errors.StoreReconnecting


def test_a_read_only_database_still_answers_reads() -> None:
    assert type(classify("25006", "read_only_sql_transaction, after a failover")) is errors.StoreReadOnly


@pytest.mark.parametrize(("code", "kind"), [("55P03", errors.StoreLocked), ("57014", errors.StoreBusy)])
def test_lock_and_statement_timeouts_are_busy_not_unavailable(code: str, kind: type[errors.StoreBusy]) -> None:
    assert type(classify(code, "it failed")) is kind


@pytest.mark.parametrize(
    ("code", "message", "known", "field"),
    [
        ("22P02", "invalid input syntax for type uuid", {"column": "session_id"}, "session_id"),
        ("22P02", 'invalid input syntax for type integer: "x"', {}, None),
        ("22003", "value out of range", {"column": "input_tokens"}, "input_tokens"),
        ("22P05", "unsupported Unicode escape sequence", {}, None),
        ("22023", "cannot extract elements from a scalar", {}, None),
        ("23502", 'null value in column "created_at" of relation "ai_sessions"', {}, "created_at"),
        ("23502", "null value", {"column": "created_at"}, "created_at"),
        ("23514", "violates check", {"constraint": "ai_interactions_prompt_check"}, "prompt"),
        ("23514", "violates check", {"constraint": "ai_sessions_user_id_check"}, "user_id"),
        (
            "23514",
            'new row for relation "ai_interactions" violates check constraint "ai_interactions_metadata_check"',
            {},
            "metadata",
        ),
        ("23514", "violates check", {"constraint": "their_own_rule"}, None),
        ("54000", "row is too big", {}, None),
        ("21000", "ON CONFLICT DO UPDATE command cannot affect row a second time", {}, None),
    ],
)
def test_invalid_data_names_the_field(code: str, message: str, known: dict[str, str], field: str | None) -> None:
    error = classify(code, message, **known)
    assert isinstance(error, errors.Invalid)
    assert error.field == field
    assert message.replace('"x"', '"…"') in str(error)  # a value may be what people said


@pytest.mark.parametrize(
    ("code", "message", "to_do"),
    [
        ("42P01", 'relation "turnlog.ai_sessions" does not exist', "apply the migrations"),
        ("42883", "function turnlog.write(jsonb) does not exist", "apply the migrations"),
        ("PGRST202", "Could not find the function", "notify pgrst, 'reload schema'"),
        ("42501", "permission denied for function turnlog.write", r"use the secret \(service_role\) key"),
        ("22023", 'role "somebody" does not exist', r"use the secret \(service_role\) key"),
        ("28P01", "password authentication failed", "check the user and password in DATABASE_URL"),
        ("28000", 'role "somebody" does not exist', "check the user and password in DATABASE_URL"),
        ("3D000", 'database "nowhere" does not exist', "the database in DATABASE_URL doesn't exist"),
        ("PGRST106", "Invalid schema: public", "expose the schema"),
        ("PGRST301", "No suitable key or wrong key type", "check SUPABASE_SECRET_KEY"),
        ("PGRST303", "JWT expired", "make a new secret key"),
        ("42703", 'column "x" does not exist', "42703"),
        ("PGRST102", "Empty or invalid json", "PGRST102"),
    ],
)
def test_a_misconfiguration_says_how_to_fix_it(code: str, message: str, to_do: str) -> None:
    with pytest.raises(errors.Misconfigured, match=to_do) as caught:
        raise classify(code, message)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("detail", "columns", "attempted"),
    [
        ("Key (project, key)=(p, chat-1) already exists.", ("project", "key"), {"project": "p", "key": "chat-1"}),
        ("Key (key)=(chat-1) already exists.", ("key",), {"key": "chat-1"}),
        # a comma alone separates nothing; with a space after it the values can't be told apart
        ("Key (project, key)=(p, a,b) already exists.", ("project", "key"), {"project": "p", "key": "a,b"}),
        ("Key (project, key)=(p, a, b) already exists.", ("project", "key"), {"project, key": "p, a, b"}),
        ("Key (project, key)=(p, a) (b) already exists.", ("project", "key"), {"project": "p", "key": "a) (b"}),
        (
            "Key (project, key)=(p, two\nlines) already exists.",
            ("project", "key"),
            {"project": "p", "key": "two\nlines"},
        ),
        (None, (), {}),
        ("something else", (), {}),
    ],
)
def test_a_conflict_names_the_constraint_and_the_attempted_values(
    detail: str | None, columns: tuple[str, ...], attempted: dict[str, str]
) -> None:
    message = 'duplicate key value violates unique constraint "ai_sessions_project_key_key"'
    for constraint in ("ai_sessions_project_key_key", None):  # PostgREST doesn't say it apart from the message
        clash = classify("23505", message, detail=detail, constraint=constraint)
        assert isinstance(clash, errors.Conflict)
        assert clash.constraint == "ai_sessions_project_key_key"
        assert (clash.columns, clash.attempted) == (columns, attempted)


def test_durable_settings_pass_the_check() -> None:
    assert Answering(TRUSTWORTHY).ping() == TRUSTWORTHY


@pytest.mark.parametrize(
    ("setting", "value", "kind", "sentence"),
    [
        ("fsync", "off", errors.Misconfigured, "fsync = off and may lose what it acknowledged: turn it on"),
        ("synchronous_commit", "off", errors.Misconfigured, "synchronous_commit = off and may lose"),
        ("full_page_writes", "off", errors.Misconfigured, "full_page_writes = off and may lose"),
        ("transaction_isolation", "serializable", errors.Misconfigured, "reset default_transaction_isolation"),
        ("transaction_isolation", "repeatable read", errors.Misconfigured, "'repeatable read'"),
        ("rows_hidden", True, errors.Misconfigured, "connect as their owner, or as service_role"),
        (
            "schema",
            "20200101000000",
            errors.Misconfigured,
            f"schema 20200101000000, this service needs {SCHEMA_VERSION}",
        ),
        ("read_only", True, errors.StoreReadOnly, "read-only"),
        ("schema", "99991231000000", errors.Misconfigured, "run the newer version"),
    ],
)
def test_settings_that_may_lose_data_are_refused(
    setting: str, value: Any, kind: type[errors.StoreError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        Answering({**TRUSTWORTHY, setting: value}).ping()
