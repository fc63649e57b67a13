"""MongoDB exports are repaired on import: every repair is reported, and nothing of a document is lost."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation.archive import documents
from conversation.archive.entries import Entry, ParsedRecord, RejectedEntry, RepairedId
from conversation.archive.formats import extended_json, mongoexport
from logging_store.records.models import Interaction, Session

Json = dict[str, Any]

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
OIDS = st.text("0123456789abcdef", min_size=24, max_size=24)
TIMES = st.datetimes().map(lambda time: {"$date": f"{time.replace(year=2020, microsecond=0).isoformat()}.123Z"})
EXTRAS = st.dictionaries(
    WORDS.map(lambda name: f"x{name}"),
    WORDS | st.integers() | st.builds(lambda oid: {"$oid": oid}, OIDS) | TIMES | st.none() | st.lists(WORDS, max_size=2)
    | st.integers().map(lambda number: {"$numberLong": str(number)}),
    max_size=3,
)  # fmt: skip
BAD_NAMES = st.sampled_from([None, "", " \t", "null", "undefined", "NULL", {"$undefined": True}, ["a"], 1.5, "x" * 201])
NAMES = st.sampled_from(["s1", "s2", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"]) | WORDS | st.integers()


@st.composite
def conversations(draw: st.DrawFn) -> Json:
    messages = st.fixed_dictionaries(
        {"content": WORDS},
        optional={
            "role": st.sampled_from(["user", "assistant", "system", "bot", "tool"]),
            "timestamp": TIMES,
            "_id": st.builds(lambda oid: {"$oid": oid}, OIDS),
            "more": WORDS,
        },
    )
    document: Json = {"messages": draw(st.lists(messages, max_size=5)), **draw(EXTRAS)}
    if draw(st.booleans()):
        document["_id"] = {"$oid": draw(OIDS)}
    if draw(st.booleans()):
        document["sessionId"] = draw(NAMES | BAD_NAMES)
    for name, values in (("userId", WORDS), ("title", WORDS), ("createdAt", TIMES | WORDS), ("tags", st.lists(WORDS))):
        if draw(st.booleans()):
            document[name] = draw(values)
    return document


def entries(*lines: Json) -> list[Entry]:
    text = "\n".join(json.dumps(line) for line in lines).encode()
    return list(mongoexport.read(documents.read(io.BytesIO(text))))


def facts(found: list[Entry], model: type[Session] | type[Interaction]) -> list[Json]:
    return [
        each.record.json_fields() for each in found if isinstance(each, ParsedRecord) and isinstance(each.record, model)
    ]


def leaves(value: Any) -> Iterator[Any]:
    """Yield what a JSON value says, times in one spelling."""
    match value:
        case dict():
            for item in value.values():
                yield from leaves(item)
        case list():
            for item in value:
                yield from leaves(item)
        case str():
            yield extended_json.time_of(value) or value
        case _:
            yield repr(value)


def without_repeated_instructions(line: Json) -> Json:
    """Return a conversation without instructions that only say the last ones again: they are stored once."""
    kept: list[Json] = []
    last = None
    for message in line["messages"]:
        if message.get("role") != "system" or message["content"] != last:
            kept.append(message)
        last = message["content"] if message.get("role") == "system" else last
    return {**line, "messages": kept}


@given(st.lists(conversations(), max_size=4))
def test_nothing_of_any_conversation_is_dropped(lines: list[Json]) -> None:
    found = entries(*lines)
    assert not [each for each in found if isinstance(each, RejectedEntry)]
    for number, line in enumerate(lines, start=1):
        records = [
            each.record.json_fields()
            for each in found
            if isinstance(each, ParsedRecord) and each.location.number == number
        ]
        expected = Counter(leaves(extended_json.plain(without_repeated_instructions(line))))
        kept = Counter(leaves(records))
        # prompt and response tell who spoke where the text alone stands; a number that names a session is its text
        implied = Counter({"user": 9, "assistant": 9, repr(line.get("sessionId")): 1})
        assert not expected - kept - implied, (line, records)


@given(st.lists(conversations(), max_size=6))
def test_missing_and_repeated_session_ids_are_repaired_and_reported(lines: list[Json]) -> None:
    found = entries(*lines)
    again = entries(*lines)
    assert found == again
    told = [each for each in found if isinstance(each, RepairedId)]
    owners: dict[str, set[str]] = {}
    for each in found:
        if isinstance(each, ParsedRecord) and isinstance(each.record, Session):
            document = extended_json.plain(lines[each.location.number - 1])
            same = json.dumps(document.get("_id", document), sort_keys=True)
            owners.setdefault((each.record.session_id or "").lower(), set()).add(same)
    assert all(len(documents_of_it) == 1 for documents_of_it in owners.values())
    used: dict[str, Any] = {}
    for number, line in enumerate(lines, start=1):
        repair = next((each for each in told if each.location.number == number), None)
        if repair:
            assert repair.session_id.startswith(("mongo-", "sha256-"))
            assert repair.reason in {"missing", "null", "blank", "a placeholder", "not a name", "repeated"}
        elif not isinstance(line.get("sessionId"), str | int):
            pytest.fail(f"{line} was not repaired")
        used[str(line.get("sessionId"))] = line


def test_repairs_derive_from_the_id_of_the_document() -> None:
    found = entries(
        {"_id": {"$oid": "a1"}, "sessionId": "s", "messages": []},
        {"_id": {"$oid": "a2"}, "sessionId": None, "messages": []},
        {"_id": {"$oid": "a3"}, "sessionId": " ", "messages": None},
        {"_id": {"$oid": "a4"}, "messages": []},
        {"_id": {"$oid": "a5"}, "sessionId": "s", "messages": []},
        {"_id": {"$oid": "a6"}, "sessionId": "undefined", "messages": []},
        {"sessionId": "s", "messages": []},
        {"_id": {"$oid": "a1"}, "sessionId": "s", "messages": []},
    )
    told = [each for each in found if isinstance(each, RepairedId)]
    assert [(each.location.number, each.reason, each.was, each.session_id[:8]) for each in told] == [
        (2, "null", None, "mongo-a2"),
        (3, "blank", " ", "mongo-a3"),
        (4, "missing", None, "mongo-a4"),
        (5, "repeated", "s", "mongo-a5"),
        (6, "a placeholder", "undefined", "mongo-a6"),
        (7, "repeated", "s", "sha256-5"),
    ]  # fmt: skip
    names = [each["session_id"] for each in facts(found, Session)]
    assert names[0] == names[-1] == "s"  # the last line is the first document once more
    assert facts(found, Session)[4]["metadata"] == {"_id": "a5", "sessionId": "s"}


def test_a_uuid_in_another_spelling_is_the_same_id() -> None:
    lower = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
    found = entries(
        {"_id": 1, "sessionId": lower, "messages": []}, {"_id": 2, "sessionId": lower.upper(), "messages": []}
    )
    assert [each.reason for each in found if isinstance(each, RepairedId)] == ["repeated"]


def test_a_conversation_has_its_times_and_its_fields() -> None:
    found = entries(
        {
            "_id": {"$oid": "5f43a1b2c3d4e5f607182930"},
            "sessionId": {"$oid": "5f43a1b2c3d4e5f607182931"},
            "userId": "ada",
            "title": "Hello",
            "createdAt": {"$date": "2020-08-24T11:14:10.123Z"},
            "updatedAt": {"$date": {"$numberLong": "1598267651000"}},
            "visits": {"$numberLong": "9223372036854775807"},
            "rating": {"$numberDecimal": "4.50"},
            "score": {"$numberDouble": "0.5"},
            "odd": {"$numberDouble": "NaN"},
            "__v": {"$numberInt": "3"},
            "device": {"$binary": {"base64": "b5YZ/4uG0BG0LQDPT8lk/w==", "subType": "04"}},
            "messages": [
                {"role": "user", "content": "Hi", "timestamp": {"$date": 1598267650123}, "_id": {"$oid": "m1"}},
                {"role": "bot", "content": "Ho", "timestamp": {"$date": "2020-08-24T13:14:11+0200"}},
            ],
        }
    )
    assert facts(found, Session) == [
        {
            "session_id": "5f43a1b2c3d4e5f607182931",
            "user_id": "ada",
            "title": "Hello",
            "started_at": "2020-08-24T11:14:10.123000Z",
            "metadata": {
                "_id": "5f43a1b2c3d4e5f607182930",
                "updatedAt": "2020-08-24T11:14:11.000+00:00",
                "visits": "9223372036854775807",
                "rating": "4.50",
                "score": 0.5,
                "odd": "NaN",
                "__v": 3,
                "device": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
            },
        }
    ]
    assert facts(found, Interaction) == [
        {
            "session_id": "5f43a1b2c3d4e5f607182931",
            "interaction_id": "m1",
            "turn": 1,
            "prompt": "Hi",
            "response": "Ho",
            "started_at": "2020-08-24T11:14:10.123000Z",
            "completed_at": "2020-08-24T11:14:11Z",
            "metadata": {"response": {"speaker": "bot"}},
        }
    ]


def test_every_message_is_kept_with_its_time() -> None:
    messages = [
        {"role": "user", "content": "a", "timestamp": {"$date": 0}},
        {"role": "assistant", "content": "b", "timestamp": {"$date": 1000}},
        {"role": "assistant", "content": "c", "timestamp": {"$date": 2000}},
        {"text": "no role"},
        "no message",
    ]
    interactions = facts(entries({"_id": 1, "sessionId": "s", "messages": messages}), Interaction)
    assert [[each.get(name) for name in ("prompt", "response", "completed_at")] for each in interactions] == [
        ["a", "b", "1970-01-01T00:00:01Z"],
        [None, "c", "1970-01-01T00:00:02Z"],
        [[{"role": "unknown", "content": "no role"}, {"role": "unknown", "content": "no message"}], None, None],
    ]


def test_single_messages_are_gathered_and_put_in_order() -> None:
    def message(n: int, session: Any, role: str, second: int | None) -> Json:
        at = {} if second is None else {"createdAt": {"$date": f"2020-01-01T00:00:{second:02d}Z"}}
        return {"_id": {"$oid": f"m{n}"}, "sessionId": session, "role": role, "content": f"c{n}", "userId": "ada", **at}

    found = entries(
        message(1, "b", "assistant", 4),
        message(2, "a", "user", 1),
        message(3, None, "user", 2),
        message(4, "b", "user", 3),
        message(5, "a", "assistant", 2),
        message(6, "a", "user", None),
        {"_id": 7, "sessionId": "a"},
        {"_id": 8, "role": "user", "content": "of no conversation"},
    )
    assert [(each.location.number, each.session_id) for each in found if isinstance(each, RepairedId)] == [
        (3, "mongo-m3")
    ]
    assert [each.location.number for each in found if isinstance(each, RejectedEntry)] == [7, 8]
    assert facts(found, Session) == [{"session_id": name, "user_id": "ada"} for name in ("a", "b", "mongo-m3")]
    told = [(each["session_id"], each["prompt"], each.get("response")) for each in facts(found, Interaction)]
    assert told == [("a", "c2", "c5"), ("a", "c6", None), ("b", "c4", "c1"), ("mongo-m3", "c3", None)]
    assert [each["interaction_id"] for each in facts(found, Interaction)] == ["m2", "m6", "m4", "m3"]


@pytest.mark.parametrize(
    ("wrapped", "plain"),
    [
        ({"$date": {"$numberLong": "-1"}}, "1969-12-31T23:59:59.999+00:00"),
        ({"$date": 10**18}, "1000000000000000000"),
        ({"$date": 2**52}, 2**52),
        ({"$date": "yesterday"}, "yesterday"),
        ({"$numberLong": "x"}, "x"),
        ({"$numberInt": "-7"}, -7),
        ({"$numberDouble": "-0.0"}, -0.0),
        ({"$numberDouble": "x"}, "x"),
        ({"$oid": "a", "b": 1}, {"$oid": "a", "b": 1}),
        ({"$binary": "b5YZ/4uG0BG0LQDPT8lk/w==", "$type": "04"}, "6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
        ({"$binary": {"base64": "AAAA", "subType": "00"}}, {"$binary": {"base64": "AAAA", "subType": "00"}}),
        ({"$binary": {"base64": "?", "subType": "04"}}, {"$binary": {"base64": "?", "subType": "04"}}),
        ({"$timestamp": {"t": 1, "i": 2}}, {"$timestamp": {"t": 1, "i": 2}}),
        (2**53 + 1, "9007199254740993"),
        (float("inf"), "inf"),
        ([{"$uuid": "u"}, {"$symbol": "s"}, {"$undefined": True}, True], ["u", "s", None, True]),
    ],
)  # fmt: skip
def test_wrappers_become_plain_values(wrapped: Any, plain: Any) -> None:
    assert repr(extended_json.plain(wrapped)) == repr(plain)
