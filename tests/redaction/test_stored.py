"""No unredacted text reaches the store, whichever way it comes."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from app import create_app
from conversation.proof import comparison as comparing
from conversation.settings import Settings
from conversation.turns.reading import OWN_ID, REPLIES_TO
from logging_store.errors import Invalid
from logging_store.metrics.ledger import Ledger
from logging_store.records.models import Interaction, SessionChanges
from logging_store.redaction import Redaction, row_fields
from logging_store.redaction.finder_factory import create_finders
from logging_store.redaction.finders import Custom, Mail
from logging_store.redaction.linear_regex import Span
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT, Backend
from tests.http_calls import KEYLESS, create, log, problem, transcript

AT = "2025-11-21T10:00:00Z"
MAIL, CARD = "ada@example.com", "4111 1111 1111 1111"
ALL = {"TURNLOG_REDACT": "secrets,mail,card,ip,phone", "TURNLOG_REDACT_PATTERNS": '{"badge": "B-[0-9]{6}"}'}
SAID = f"I am {MAIL}, card {CARD}, +1 408 247 8880 at 203.0.113.7, badge B-123456, key turnlog_sk_0123456789abcdef"
STORED = "I am [mail], card [card], [phone] at [ip], badge [badge], key [secret]"


class Failing:
    """Finds nothing and fails, where a text has a word that it can't bear."""

    name, marker, hint = "failing", "[failing]", "unbearable"

    def find(self, text: bytes) -> Iterator[Span]:
        if b"unbearable" in text:
            raise RuntimeError(text)
        yield Span(0, 0)


@pytest.fixture
def redacting(store: Store) -> FlaskClient:
    return create_app(Settings.from_mapping(ALL | KEYLESS), store).test_client()


def everything(database: str) -> str:
    """Return all that a database holds of the log, as one text."""
    with psycopg.connect(database) as connection:
        tables = ("ai_sessions", "ai_interactions", "ai_session_folders", "ai_session_participants", "ai_feedback")
        return "\n".join(
            str(row)
            for table in tables
            for row in connection.execute(f"select to_jsonb(t) from turnlog.{table} t").fetchall()  # noqa: S608 - constants
        )


def test_matches_are_replaced_in_every_field_that_people_write(redacting: FlaskClient, backend: Backend) -> None:
    create(
        redacting,
        session_id="s",
        title=SAID,
        tags=[MAIL, "x"],
        metadata={"note": [SAID], MAIL: {"deep": [{"a": SAID}]}},
    )
    log(redacting, session_id="s", interaction_id="1", prompt=SAID, response=SAID, error=SAID, metadata={"n": SAID})
    redacting.post("/v1/folders", json={"folder_id": "f", "name": SAID, "metadata": {"n": SAID}})
    redacting.patch("/v1/sessions/s", json={"title": f"again {SAID}", "metadata": {"x": SAID}, "tags": [MAIL, CARD]})
    redacting.post("/v1/interactions/batch", json={"interactions": [{"session_id": "s", "prompt": SAID}]})
    redacting.post(
        "/conversation/start",
        json={
            "conversation_id": "c",
            "messages": [{"role": "user", "content": SAID}, {"role": "assistant", "content": SAID}],
        },
    )
    redacting.post("/interaction/log", json={"session_id": "s", "prompt": SAID})

    assert transcript(redacting, "s")[0]["prompt"] == STORED
    session = redacting.get("/v1/sessions/s").get_json()
    assert (session["title"], session["tags"]) == (f"again {STORED}", ["[mail]", "[card]"])
    stored = everything(backend.database)
    assert stored.count(STORED) >= 11
    for original in (MAIL, "1111 1111", "247 8880", "203.0.113.7", "123456,", "0123456789abcdef"):
        assert original not in stored, original


@pytest.mark.parametrize("number", [4111111111111111, 4111111111111111.0, 4111111111111111.5, -4111111111111111.0])
def test_a_card_number_is_replaced_in_any_number_format(redacting: FlaskClient, number: float) -> None:
    log(redacting, session_id="s", prompt="x", metadata={"card": number, "seconds": 0.25, "far": 1e300})
    (turn,) = transcript(redacting, "s")
    sign = "-" if number < 0 else ""
    assert turn["metadata"] == {"card": f"{sign}[card]", "seconds": 0.25, "far": 1e300}


def test_messages_are_redacted_except_their_links(redacting: FlaskClient) -> None:
    arguments = json.dumps({"to": MAIL})
    call = {"id": MAIL, "type": "function", "function": {"name": "send", "arguments": arguments}}
    parts = [
        {"type": "text", "text": SAID},
        {"type": "tool_use", "id": "t@x.org", "input": {"id": MAIL, "card": 4111111111111111}},
    ]
    messages = [
        {"role": "assistant", "content": parts, "tool_calls": [call], "name": MAIL},
        {"role": "tool", "tool_call_id": MAIL, "content": SAID},
        {"role": MAIL, "content": None, "more": [{"role": MAIL}], MAIL: 1, CARD: 2, "bob@example.com": 3},
    ]
    log(redacting, session_id="s", prompt=messages)
    (turn,) = transcript(redacting, "s")
    assert turn["prompt"] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": STORED},
                {"type": "tool_use", "id": "t@x.org", "input": {"id": "[mail]", "card": "[card]"}},
            ],
            "tool_calls": [
                {"id": MAIL, "type": "function", "function": {"name": "send", "arguments": '{"to": "[mail]"}'}}
            ],
            "name": "[mail]",
        },
        {"role": "tool", "tool_call_id": MAIL, "content": STORED},
        {"role": MAIL, "content": None, "more": [{"role": "[mail]"}], "[mail]": 1, "[card]": 2, "[mail] 2": 3},
    ]


def test_names_of_records_are_not_redacted(redacting: FlaskClient) -> None:
    log(redacting, session_id=MAIL, interaction_id=CARD, prompt="x", participant=MAIL, model="m@x.org")
    create(redacting, session_id=MAIL, user_id=MAIL)
    (turn,) = transcript(redacting, MAIL)
    assert (turn["key"], turn["participant"], turn["model"]) == (CARD, MAIL, "m@x.org")
    assert redacting.get(f"/v1/sessions?user_id={MAIL}").get_json()["sessions"][0]["key"] == MAIL


def test_messages_of_chats_keep_their_ids(redacting: FlaskClient) -> None:
    assert {OWN_ID, REPLIES_TO} == row_fields.METADATA_LINKS
    sent = [
        {"role": "user", "content": MAIL, "message_id": "u@x.org"},
        {"role": "assistant", "content": "ok", "message_id": MAIL},
    ]
    redacting.post("/conversation/start", json={"conversation_id": "c", "messages": sent})
    stored = redacting.get("/conversation/c").get_json()["messages"]
    assert [(each["message_id"], each["content"]) for each in stored] == [("u@x.org", "[mail]"), (MAIL, "ok")]


def test_a_list_of_messages_is_compared_with_what_is_stored_of_it(redacting: FlaskClient) -> None:
    chat = [
        {"role": "user", "content": f"I am {MAIL}", "name": "ada"},
        {"role": "assistant", "content": "Hello", "tool_calls": [{"id": "1", "name": "mail", "args": {"to": MAIL}}]},
        {"role": "tool", "tool_call_id": "1", "content": MAIL},
        {"role": "assistant", "content": [{"type": "text", "text": f"Sent to {MAIL}"}]},
    ]
    for end, counts in ((1, {"created": 1}), (4, {"filled": 1, "created": 1}), (4, {"duplicate": 2})):
        sent = redacting.post("/v1/sessions/s/messages", json={"messages": chat[:end]})
        assert sent.get_json()["counts"] == counts
    stored = redacting.get("/v1/sessions/s/interactions").text
    assert MAIL not in stored
    assert stored.count("[mail]") == 4
    counted = [line for line in redacting.get("/metrics").text.splitlines() if "redactions_total" in line]
    assert 'turnlog_redactions_total{kind="mail"} 4.0' in counted


def test_a_repeat_is_a_duplicate_and_so_is_another_match_of_the_same_kind(redacting: FlaskClient) -> None:
    turn = {"session_id": "s", "interaction_id": "1"}
    assert log(redacting, **turn, prompt=f"to {MAIL}").get_json()["receipt"] == "created"
    assert log(redacting, **turn, prompt=f"to {MAIL}").get_json()["receipt"] == "duplicate"
    assert log(redacting, **turn, prompt="to bob@example.com").get_json()["receipt"] == "duplicate"
    plan = redacting.post(
        "/v1/interactions/batch?dry_run=true", json={"interactions": [{**turn, "prompt": f"to {MAIL}"}]}
    )
    assert plan.get_json()["counts"] == {"nothing": 1}


def test_replacements_are_counted_and_the_originals_are_not_stored(redacting: FlaskClient) -> None:
    log(redacting, session_id="s", prompt=SAID, response=MAIL)
    redacting.post("/v1/interactions?dry_run=true", json={"session_id": "s", "prompt": MAIL})
    counted = [line for line in redacting.get("/metrics").text.splitlines() if line.startswith("turnlog_redact")]
    kinds = {"mail": 2, "card": 1, "ip": 1, "phone": 1, "badge": 1, "secrets": 1}
    assert sorted(counted) == sorted(
        [f'turnlog_redactions_total{{kind="{kind}"}} {count}.0' for kind, count in kinds.items()]
        + [f'turnlog_redaction_failures_total{{kind="{kind}"}} 0.0' for kind in kinds]
    )


def test_without_the_setting_nothing_is_replaced_or_counted(client: FlaskClient) -> None:
    log(client, session_id="s", prompt=SAID)
    assert transcript(client, "s")[0]["prompt"] == SAID
    assert "redact" not in client.get("/metrics").text
    assert client.application.extensions["conversation_repository"].redaction is None


def test_an_import_is_redacted_and_the_ledger_compares_what_would_be_stored(
    backend: Backend, tmp_path: Path, store: Store
) -> None:
    app = create_app(Settings.from_mapping(backend.environment | ALL | KEYLESS | {"DATA_DIR": str(tmp_path)}))
    file = tmp_path / "sent.jsonl"
    file.write_text(
        json.dumps({"messages": [{"role": "user", "content": SAID}, {"role": "assistant", "content": MAIL}]})
    )
    assert app.test_cli_runner().invoke(args=["import", str(file), "--format", "openai-chat"]).exit_code == 0
    stored = everything(backend.database)
    assert STORED in stored
    assert MAIL not in stored

    line = {"session_id": "s", "interaction_id": "1", "prompt": SAID}
    file.write_text(json.dumps(line | {"receipt": "created"}))
    redaction = Redaction(list(create_finders(["mail"], {}, phone_regions=())))
    repository = ConversationRepository(store, PROJECT, redaction=redaction)
    repository.log([Interaction.model_validate(line)])
    assert comparing.compare(repository, file).stored == 1
    assert comparing.compare(ConversationRepository(store, PROJECT), file).differing == 1


def failing(store: Store, *, fail_open: bool) -> ConversationRepository:
    redaction = Redaction([Failing(), Mail()], fail_open=fail_open)
    return ConversationRepository(store, PROJECT, redaction=redaction)


def test_failing_closed_only_rejects_the_record_that_cannot_be_redacted(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    repository = failing(store, fail_open=False)
    logger = logging.getLogger("turnlog.redaction")
    logger.addHandler(caplog.handler)
    try:
        results = repository.log(
            [Interaction(session_id="s", prompt=text) for text in ("one", f"unbearable {MAIL}", f"three {MAIL}")]
        )
    finally:
        logger.removeHandler(caplog.handler)
    assert [kept.receipt.receipt for kept in results] == ["created", "rejected", "created"]
    assert results[1].receipt.fields == ("prompt",)
    assert "redacted (failing)" in (results[1].receipt.reason or "")
    prompts = [row["prompt"] for row in repository.transcript("s", {"limit": 10})["interactions"]]
    assert prompts == ["one", "three [mail]"]
    totals = repository.ledger.totals()
    assert (totals["received"], totals["rejected"], totals["not_redacted_failing"]) == (3, 1, 1)
    assert "RuntimeError" in caplog.text
    assert "rejected" in caplog.text
    assert "unbearable" not in caplog.text
    (planned,) = repository.dry_run([Interaction(session_id="s", prompt="unbearable")])
    assert planned.receipt.receipt == "rejected"
    with pytest.raises(Invalid, match="failing") as caught:
        repository.edit("s", SessionChanges(title="unbearable"))
    assert caught.value.field == "title"


def test_failing_open_stores_the_record_unredacted_and_counts_it(store: Store) -> None:
    repository = failing(store, fail_open=True)
    (kept,) = repository.log([Interaction(session_id="s", prompt=f"unbearable {MAIL}")])
    assert kept.receipt.receipt == "created"
    (row,) = repository.transcript("s", {"limit": 10})["interactions"]
    assert row["prompt"] == "unbearable [mail]", "what the others find is replaced all the same"
    assert repository.ledger.totals()["not_redacted_failing"] == 1


def test_over_http_the_error_names_the_field_and_the_finder(store: Store) -> None:
    app = create_app(Settings.from_mapping(KEYLESS | {"TURNLOG_REDACT": "mail"}), store)
    app.extensions["conversation_repository"] = failing(store, fail_open=False)
    client = app.test_client()
    refused = problem(log(client, session_id="s", prompt="unbearable"), 422)
    assert refused["fields"] == [{"path": "$.prompt", "detail": refused["detail"]}]
    assert "failing" in refused["detail"]
    assert client.get("/v1/sessions/s").status_code == 404
    assert problem(create(client, session_id="s", title="unbearable"), 422)["fields"][0]["path"] == "$.title"
    create(client, session_id="s")
    assert problem(client.patch("/v1/sessions/s", json={"title": "unbearable"}), 422)["fields"][0]["path"] == "$.title"


def test_a_text_that_takes_too_long_fails() -> None:
    seconds = iter(range(1_000_000))
    # each of its matches is looked for up to the end of the text
    slow = Redaction([Custom("slow", "a.*b|a")], clock=lambda: next(seconds), budget_s=20)
    patient: dict[str, Any] = {"prompt": "a" * 900}
    assert slow.redact_rows([patient]).replaced == {"slow": 900}
    long: dict[str, Any] = {"prompt": "a" * 5000}
    redacted = slow.redact_rows([long])
    assert redacted.failed == {"slow": 1}
    assert redacted.rejected[0].receipt == "rejected"


def test_overlapping_matches_become_one_marker() -> None:
    redaction = Redaction(
        [Custom("number", "[0-9]{4}"), *create_finders(["secrets", "mail", "card"], {}, phone_regions=())]
    )
    row: dict[str, Any] = {"prompt": f"{CARD}, token=a1{MAIL} and 1234"}
    replaced = redaction.redact_rows([row]).replaced
    assert row["prompt"] == "[card], token=[secret] and [number]"
    assert replaced == {"card": 1, "secrets": 1, "number": 1}


def test_names_that_become_equal_are_numbered() -> None:
    redaction = Redaction([Custom("x", "[abc]")])
    row: dict[str, Any] = {"metadata": {"a": 1, "b": 2, "[x]": 3, "[x] 2": 4, "c": 5}}
    redaction.redact_rows([row])
    assert row["metadata"] == {"[x] 3": 1, "[x] 4": 2, "[x]": 3, "[x] 2": 4, "[x] 5": 5}


@given(names=st.dictionaries(st.text(alphabet="ab[x] 2", max_size=6), st.integers(), max_size=12))
def test_no_entry_is_lost(names: dict[str, int]) -> None:
    row: dict[str, Any] = {"metadata": dict(names)}
    Redaction([Custom("x", "[ab]")]).redact_rows([row])
    assert sorted(row["metadata"].values()) == sorted(names.values())


@given(text=st.text())
def test_any_text_is_redacted_and_the_rest_stays(text: str) -> None:
    redaction = Redaction(
        list(create_finders(["secrets", "mail", "card", "ip", "phone"], {}, phone_regions=["US", "DE"]))
    )
    row: dict[str, Any] = {"prompt": f"{text} {MAIL} {text}"}
    redacted = redaction.redact_rows([row])
    assert not redacted.failed
    assert MAIL not in row["prompt"]
    again: dict[str, Any] = {"prompt": f"{text} {MAIL} {text}"}
    redaction.redact_rows([again])
    assert again == row


def test_a_ledger_counts_custom_names() -> None:
    ledger = Ledger(redacted=("mail", "badge"))
    ledger.redacted({"mail": 2}, {"badge": 1})
    totals = ledger.totals()
    assert (totals["redacted_mail"], totals["redacted_badge"], totals["not_redacted_badge"]) == (2, 0, 1)


def test_feedback_is_redacted_and_a_repeat_is_a_duplicate(redacting: FlaskClient, backend: Backend) -> None:
    body = {"session_id": "s", "interaction_id": "1", "value": SAID, "comment": f"Mail {MAIL}", "given_at": AT}
    receipts = [redacting.post("/v1/feedback", json=body).get_json()["receipt"] for _ in range(2)]
    assert receipts == ["created", "duplicate"]
    (row,) = redacting.get("/v1/sessions/s/feedback").get_json()["feedback"]
    assert (row["value"], row["comment"]) == (STORED, "Mail [mail]")
    assert MAIL not in everything(backend.database)
