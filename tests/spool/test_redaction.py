"""The spool and the dead letters only contain redacted texts."""

from pathlib import Path

from app import create_app
from conversation.settings import Settings
from logging_store.errors import Invalid, StoreUnavailable
from logging_store.spool import Spool
from tests.http_calls import KEYLESS, create, log, transcript
from tests.spool.conftest import delivered, is_on_disk
from tests.spool.flaky_store import FlakyStore

MAIL = "ada@example.com"
SAID, STORED = f"I am {MAIL}", "I am [mail]"


def test_the_spool_and_the_dead_letters_only_have_redacted_texts(
    inner: FlakyStore, spool: Spool, tmp_path: Path
) -> None:
    settings = Settings.from_mapping(KEYLESS | {"TURNLOG_REDACT": "mail", "DATA_DIR": str(tmp_path)})
    client = create_app(settings, spool).test_client()
    inner.away = StoreUnavailable("nobody answers")
    assert log(client, session_id="s", interaction_id="1", prompt=SAID).get_json()["receipt"] == "spooled"
    create(client, session_id="s", title=SAID)
    assert transcript(client, "s")[0]["prompt"] == STORED
    assert not is_on_disk(MAIL.encode(), tmp_path)
    inner.away, inner.refuses = None, lambda batch: Invalid("refused") if batch.interactions else None
    delivered(spool)
    (letter,) = spool.dead_letters.list()
    assert letter.batch.interactions[0]["prompt"] == STORED
    assert is_on_disk(b"[mail]", tmp_path)
    assert not is_on_disk(MAIL.encode(), tmp_path)
