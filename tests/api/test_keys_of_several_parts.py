"""A key of several parts is one name, however it is spelled; any other part, or type, makes another name."""

import json
import random
import uuid
from datetime import UTC, datetime
from typing import Any

import jiter
from hypothesis import assume, given
from hypothesis import strategies as st

from logging_store.records.identity import NAMESPACE
from logging_store.records.models import Interaction
from logging_store.records.values import canonical_key
from logging_store.row_builder import RowBuilder

NOW = datetime(2026, 11, 23, tzinfo=UTC)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(str.strip)
PARTS = NAMES | st.integers(-(2**53), 2**53) | st.booleans()
KEYS = st.dictionaries(NAMES, PARTS, min_size=1, max_size=6)


def identity_of(spelled: str, session_id: str | None = None) -> tuple[str, str]:
    """Return session and id of an interaction whose key is spelled so in a request."""
    stated = Interaction.model_validate(
        {"session_id": session_id, "key": jiter.from_json(spelled.encode()), "error": ""}
    )
    (addressed,) = RowBuilder("default", NOW).build([stated])
    return addressed.row["session_id"], addressed.row["id"]


def spelled_otherwise(key: dict[str, Any], chance: random.Random) -> str:
    """Return JSON of a key: its parts in any order, any space between, characters escaped, whole numbers as floats."""

    def text(value: str) -> str:
        units = value.encode("utf-16-be")
        escaped = "".join(f"\\u{units[n]:02x}{units[n + 1]:02X}" for n in range(0, len(units), 2))
        return f'"{escaped}"' if chance.random() < 0.5 else json.dumps(value, ensure_ascii=False)

    def part(value: Any) -> str:
        if isinstance(value, str):
            return text(value)
        if isinstance(value, bool) or abs(value) >= 10**15:
            return json.dumps(value)
        return chance.choice([f"{value}", f"{value}.0", f"{value}.000", f"{value}e0", f"{value}0E-1"])

    def space() -> str:
        return chance.choice(["", " ", "\n\t"])

    parts = [f"{space()}{text(name)}{space()}:{space()}{part(value)}{space()}" for name, value in key.items()]
    chance.shuffle(parts)
    return "{" + ",".join(parts) + "}"


@given(key=KEYS, session_id=st.none() | NAMES, chance=st.randoms(use_true_random=False))
def test_any_order_and_any_spelling_is_the_same_interaction(
    key: dict[str, Any], session_id: str | None, chance: random.Random
) -> None:
    assume(session_id not in {".", ".."})
    plain = identity_of(json.dumps(key), session_id)
    assert identity_of(spelled_otherwise(key, chance), session_id) == plain


@given(key=KEYS, name=NAMES, value=PARTS, chance=st.randoms(use_true_random=False))
def test_a_change_of_any_part_or_type_is_another_interaction(
    key: dict[str, Any], name: str, value: Any, chance: random.Random
) -> None:
    changed = chance.choice(list(key))
    others = [
        key | {changed: value},
        key | {changed: retyped(key[changed])},
        key | {name: value},
        {part: each for part, each in key.items() if part != changed} | {name: key[changed]},
        {part: each for part, each in key.items() if part != changed},
    ]
    identities = {canonical_key(key): identity_of(json.dumps(key))}
    identities |= {canonical_key(each): identity_of(json.dumps(each)) for each in others if each}
    assert len({session for session, _ in identities.values()}) == len(identities)
    assert len({interaction for _, interaction in identities.values()}) == len(identities)
    assert identities[canonical_key(others[1])] != identities[canonical_key(key)]


def retyped(part: Any) -> Any:
    """Return a part as another type, the same to look at where there is one: "5" for 5, 1 for true."""
    if isinstance(part, bool):
        return int(part)
    if isinstance(part, int):
        return str(part)
    return int(part) if part.isascii() and part.isdigit() else part == "true"


def test_a_lessons_id_never_changes() -> None:
    """The example of identity.py: computed with another implementation, for other languages to check theirs."""
    spelled = '{"time_slot": 5, "school": "Elm Street", "provider": "tutors", "date": "2026-11-23"}'
    canonical = '{"date":"2026-11-23","provider":"tutors","school":"Elm Street","time_slot":5}'
    session_id, interaction_id = identity_of(spelled)
    assert session_id == str(uuid.uuid5(NAMESPACE, f"default\nkeyed-session\n{canonical}"))
    assert interaction_id == str(uuid.uuid5(NAMESPACE, f"default\ninteraction\n{session_id}\n{canonical}"))
    assert session_id == "2031621c-bf38-5427-aa86-6ec189bd88c9"
    assert interaction_id == "e90109bc-8b75-503e-a251-a11187e4005c"
    assert identity_of(spelled, "lessons")[1] == "d81c6b72-5ebd-5ee3-a1ed-5ced6fd135af"
