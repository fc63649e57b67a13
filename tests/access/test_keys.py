"""The format of keys and session tokens: typing errors and forgeries are detected."""

import random
import re
import time
import uuid
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation.access import session_tokens
from conversation.access.key_cache import KeyCache
from conversation.keys import api_keys
from conversation.keys.api_keys import Key, KeyKind

SESSION = str(uuid.uuid4())
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def key(**changes: object) -> Key:
    row = {
        "project": "default", "id": uuid.uuid4(), "family": uuid.UUID(int=7), "kind": "publishable", "hint": "",
        "name": None, "scopes": ["log"], "origins": ["https://a.example"], "created_at": datetime.now(UTC),
        "expires_at": None, "revoked_at": None, "last_used_at": None, "token_secret": "s" * 43,
    }  # fmt: skip
    return Key.model_validate(row | changes)


@pytest.mark.parametrize("kind", get_args(KeyKind))
def test_a_key_shows_its_kind_and_is_unique(kind: KeyKind) -> None:
    made = {api_keys.make(kind) for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(rf"turnlog_{kind[0]}k_[0-9A-Za-z]{{30}}", text) for text in made)
    assert all(api_keys.digest_of(text) for text in made)


@given(st.integers(0, 40), st.sampled_from(BASE62 + "-_ \n"))
def test_the_checksum_finds_any_wrong_character(place: int, character: str) -> None:
    text = "turnlog_sk_9SXNAYfTtMB7spSzVNPckDMh4YcTJ8"
    wrong = text[:place] + character + text[place + 1 :]
    assert api_keys.digest_of(text)
    assert (api_keys.digest_of(wrong) is not None) == (wrong == text)


@given(st.integers(11, 39))
def test_the_checksum_finds_swapped_neighbours(place: int) -> None:
    text = "turnlog_sk_9SXNAYfTtMB7spSzVNPckDMh4YcTJ8"
    swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    assert swapped == text or not api_keys.digest_of(swapped)


def test_a_token_returns_what_was_signed() -> None:
    text, ends = session_tokens.issue(key(), SESSION, "token:x")
    assert session_tokens.read(key(), text) == session_tokens.SessionToken(SESSION, "token:x")
    assert 0 < ends.timestamp() - time.time() <= session_tokens.LIFETIME_S


@pytest.mark.parametrize(
    "changes", [{"project": "shop"}, {"family": uuid.UUID(int=8)}, {"token_secret": "t" * 43}, {"token_secret": ""}]
)
def test_a_token_is_bound_to_project_family_and_secret(changes: dict[str, object]) -> None:
    text, _ = session_tokens.issue(key(), SESSION, "token:x")
    assert session_tokens.read(key(**changes), text) is None


def test_a_token_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    text, _ = session_tokens.issue(key(), SESSION, "token:x")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + session_tokens.LIFETIME_S + 1)
    assert session_tokens.read(key(), text) is None


def test_no_mangled_token_is_read() -> None:
    text, _ = session_tokens.issue(key(), SESSION, "token:x")
    chance = random.Random(5)
    for _ in range(2000):
        place = chance.randrange(len(text))
        mangled = text[:place] + chance.choice(BASE62 + "-_.") + text[place + 1 :]
        read = session_tokens.read(key(), mangled)
        # the last character of base64 has bits that say nothing
        assert mangled == text or read is None or (place == len(text) - 1 and read.session_id == SESSION)
    for other in ("", "turnlog_st_", text + "x", text[:-10], "x" * 5000, "turnlog_st_" + "." * 500):
        assert session_tokens.read(key(), other) is None


def test_the_same_claim_is_somebody_else_with_another_key() -> None:
    owners = {
        session_tokens.owner_of(each, "claim") for each in (key(), key(family=uuid.UUID(int=8)), key(project="p"))
    }
    assert len(owners) == 3
    assert session_tokens.owner_of(key(), "claim") == session_tokens.owner_of(key(id=uuid.uuid4()), "claim")


def test_a_known_key_that_another_version_wrote_is_none(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite3"
    KeyCache(path).save("d", key())
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("update cached_keys set key = '{}'")
    assert KeyCache(path).load("d") is None
