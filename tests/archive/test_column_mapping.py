"""The mapping of columns for `--from-database`, without a database."""

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from conversation.archive.from_database import column_mapping, overrides, synonyms
from conversation.archive.from_database.column_mapping import TableMapping
from conversation.archive.from_database.column_values import Zone, converter
from conversation.archive.from_database.tables import Column, Kind, Reference, Table, TableName, kind_of
from conversation.archive.sources import SourceError

UTC, BERLIN = Zone(ZoneInfo("UTC")), Zone(ZoneInfo("Europe/Berlin"))
SESSIONS, INTERACTIONS = TableName("public", "ai_sessions"), TableName("public", "ai_interactions")


def table(name: TableName, *columns: str) -> Table:
    """Return a table of columns that are spelled `name type`; `name type -> column` refers to a session."""

    def column(text: str) -> Column:
        left, _, referred = text.partition(" -> ")
        column, type_ = left.split(" ", 1)
        return Column(column, type_, kind_of(type_), Reference(SESSIONS, referred) if referred else None)

    return Table(name, tuple(map(column, columns)), ("id",))


def interactions(*columns: str, maps: Sequence[str] = (), sessions: Table | None = None) -> TableMapping:
    theirs = table(INTERACTIONS, *columns)
    tables = {"interactions": theirs} | ({"sessions": sessions} if sessions else {})
    return column_mapping.interactions(theirs, overrides.parse(maps, tables), sessions)


def fields(understood: TableMapping) -> dict[str, str]:
    return {field: column.name for field, column in understood.fields.items()}


USUAL = {field.name: field for field in synonyms.INTERACTION_FIELDS}
TYPE: dict[Kind, str] = {"text": "text", "zoned": "timestamp with time zone", "integer": "bigint", "array": "text[]",
                         "json": "jsonb", "uuid": "uuid"}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "name"), [(field.name, name) for field in synonyms.INTERACTION_FIELDS for name in field.names]
)
def test_each_name_is_understood_as_its_field(field: str, name: str) -> None:
    kind = next(kind for kind in TYPE if kind in USUAL[field].kinds)
    others = ["session_id uuid", "prompt text", "response text"]
    camel = name.split("_", maxsplit=1)[0] + "".join(part.title() for part in name.split("_")[1:])
    for spelling in (name, name.upper(), camel):
        given = [each for each in others if each.split()[0] != field]
        understood = interactions(f"{spelling} {TYPE[kind]}", *given)
        assert fields(understood)[field] == spelling
        assert not understood.aside


@pytest.mark.parametrize(
    "column",
    ["model integer", "tokens text", "prompt_tokens text", "created_at boolean", "tags text", "metadata text",
     "cost text", "status boolean", "user_id jsonb", "latency_ms interval", "mood text", "updated_at date"],
)  # fmt: skip
def test_a_column_of_another_type_or_name_goes_to_metadata(column: str) -> None:
    understood = interactions("session_id uuid", "question text", column)
    assert fields(understood) == {"session_id": "session_id", "prompt": "question"}
    assert [each.name for each in understood.aside] == [column.split(maxsplit=1)[0]]


def test_of_two_columns_for_a_field_the_second_goes_to_metadata() -> None:
    understood = interactions(
        "id bigint", "chat_id bigint", "input jsonb", "prompt text", "created_at date", "ts bigint"
    )
    assert fields(understood) == {
        "interaction_id": "id", "session_id": "chat_id", "prompt": "prompt", "started_at": "created_at",
    }  # fmt: skip
    assert [each.name for each in understood.aside] == ["input", "ts"]


@pytest.mark.parametrize(
    ("columns", "referring", "expected"),
    [
        (["id uuid", "session_id text"], "session_id text", "session_id"),  # the name and the type
        (["id uuid", "session_id text"], "session_id uuid", "id"),  # the type says more than the name
        (["id bigint", "session_key text"], "session_id text -> session_key", "session_key"),  # the foreign key
        (["id bigint", "uuid uuid"], "parent uuid -> uuid", "uuid"),
        (["chat_id text", "title text"], "chat_id text", "chat_id"),
    ],
)
def test_the_session_id_is_the_column_that_interactions_refer_to(
    columns: list[str], referring: str, expected: str
) -> None:
    sessions, theirs = table(SESSIONS, *columns), table(INTERACTIONS, "id uuid", referring, "prompt text")
    assert fields(column_mapping.sessions(sessions, [], theirs))["session_id"] == expected
    assert fields(column_mapping.interactions(theirs, [], sessions))["session_id"] == referring.split(maxsplit=1)[0]


@pytest.mark.parametrize(
    ("columns", "shape"),
    [
        (["role text", "content text"], "messages"),
        (["sender text", "message jsonb"], "messages"),
        (["role text", "content text", "prompt text", "response text"], "interactions"),
        (["content text", "prompt text"], "interactions"),
    ],
)
def test_a_message_a_row_is_known_by_role_and_content(columns: list[str], shape: str) -> None:
    assert interactions("id uuid", "session_id uuid", *columns).shape == shape


def test_map_maps_a_column() -> None:
    understood = interactions(
        "id uuid", "room text", "says text", "prompt text", "secret text",
        maps=["room=session_id", "interactions.says=prompt", "prompt=response", "secret=-"],
    )  # fmt: skip
    assert fields(understood) == {
        "interaction_id": "id", "session_id": "room", "prompt": "says", "response": "prompt",
    }  # fmt: skip
    assert [each.name for each in understood.ignored] == ["secret"]
    assert not understood.aside


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (
            ["nothing=prompt"],
            "there is no column nothing: public.ai_interactions has id, session_id, q; public.ai_sessions has id, name",
        ),
        (["q=answer"], "answer is not a field of interactions. Fields: interaction_id, session_id"),
        (["id=-"], "both tables have a column id. Write --map sessions.id=- or --map interactions.id=-"),
        (["q"], "write --map theirs=ours"),
        (["q=prompt", "q=response"], "names public.ai_interactions.q twice"),
        (["q=prompt", "id=prompt"], "maps both q and id to prompt"),
    ],
)
def test_an_invalid_map_is_refused(maps: list[str], message: str) -> None:
    with pytest.raises(SourceError) as error:
        interactions(
            "id uuid", "session_id uuid", "q text", maps=maps, sessions=table(SESSIONS, "id uuid", "name text")
        )
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ["id uuid", "room text", "channel_ref text", "n date", "prompt text"],
            (
                "can't tell which column names the session of an interaction. Candidates: room (text),"
                " channel_ref (text). Name it, for example --map interactions.room=session_id"
            ),
        ),
        (
            ["id uuid", "session_id uuid", "says text", "hears jsonb", "n bigint"],
            (
                "can't tell which column holds what was asked, or answered. Candidates: says (text),"
                " hears (jsonb). Name it, for example --map interactions.says=prompt --map interactions.hears=response"
            ),
        ),
    ],
)
def test_an_ambiguous_required_column_is_asked_for(columns: list[str], message: str) -> None:
    with pytest.raises(SourceError) as error:
        interactions(*columns)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("value", "kind", "zone", "expected"),
    [
        ("2026-11-21 06:30:00.123456+00", "zoned", UTC, "2026-11-21T06:30:00.123456+00:00"),
        ("2026-11-21 06:30:00", "unzoned", UTC, "2026-11-21T06:30:00+00:00"),
        ("2026-07-21 06:30:00", "unzoned", BERLIN, "2026-07-21T06:30:00+02:00"),
        ("2026-11-21", "date", UTC, "2026-11-21T00:00:00+00:00"),
        ("2026-11-21T06:30:00Z", "text", UTC, "2026-11-21T06:30:00+00:00"),
        (1795242600, "integer", UTC, "2026-11-21T06:30:00+00:00"),
        (1795242600123, "integer", BERLIN, "2026-11-21T06:30:00.123000+00:00"),
        (1795242600123456, "integer", UTC, "2026-11-21T06:30:00.123456+00:00"),
        (1795242600123456789, "integer", UTC, "2026-11-21T06:30:00.123457+00:00"),
        ("1795242600.5", "number", UTC, "2026-11-21T06:30:00.500000+00:00"),
    ],
)
def test_times_of_any_type_are_times(value: Any, kind: Kind, zone: Zone, expected: str) -> None:
    assert converter("started_at", kind, zone, "interactions")(value) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("started_at", "infinity"), ("started_at", "0044-03-15 00:00:00+00 BC"), ("started_at", "last week"),
        ("started_at", True), ("input_tokens", 1.5), ("tags", ["a", 1]), ("tags", "a"), ("status", "who knows"),
        ("latency_ms", "soon"), ("cost_usd", None),
    ],
)  # fmt: skip
def test_a_value_that_is_none_of_its_field_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        converter(field, "text", UTC, "interactions")(value)


@pytest.mark.parametrize(
    ("field", "kind", "value", "expected"),
    [
        ("prompt", "json", {"role": "user", "content": "Hi"}, [{"role": "user", "content": "Hi"}]),
        ("prompt", "json", [{"role": "user", "n": 2**60}], [{"role": "user", "n": str(2**60)}]),
        ("prompt", "json", {"text": "Hi"}, '{"text":"Hi"}'),
        ("prompt", "json", "Hi", "Hi"),
        ("prompt", "text", '{"role": "user"}', '{"role": "user"}'),
        ("user_id", "integer", 7, "7"),
        ("input_tokens", "number", "12", 12),
        ("cost_usd", "number", "0.0123", 0.0123),
        ("tags", "array", ["a", "b", "a"], ["a", "b"]),
        ("status", "text", "SUCCESS", "completed"),
        ("error", "json", {"code": 1}, '{"code":1}'),
    ],
)
def test_values_are_as_the_field_has_them(field: str, kind: Kind, value: Any, expected: Any) -> None:
    assert converter(field, kind, UTC, "interactions")(value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t", ("public", "t")),
        ("a.b", ("a", "b")),
        ('"A b"."c.d"', ("A b", "c.d")),
        ("app.Chat Log", ("app", "Chat Log")),
    ],
)
def test_tables_are_named_as_in_sql(text: str, expected: tuple[str, str]) -> None:
    assert TableName.parse(text) == expected
