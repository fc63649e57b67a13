"""The documents of a file are read one by one, in every layout, and an invalid one doesn't affect the others."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation.archive import documents, sources
from conversation.archive.entries import Document, Location, RejectedEntry

TEXT = st.characters(codec="utf-8", exclude_characters="\0")  # NUL is altered
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(TEXT) | st.sampled_from(['"', "\\", '\\"', "}{][,", "\n"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(TEXT, max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
DOCUMENTS = st.lists(st.dictionaries(st.text(TEXT, max_size=8), JSON, max_size=5), max_size=8)


class Dripping(io.BytesIO):
    """Gives a few bytes at a time, as a slow pipe does; a head long enough to know what it is."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self._step = step

    def read(self, _: int | None = -1, /) -> bytes:
        return super().read(64 if self.tell() == 0 else self._step)


def read(data: bytes, step: int = 7) -> list[Any]:
    """Return each document's value, and of what is none the reason."""
    return [each.value if isinstance(each, Document) else each.reason for each in documents.read(Dripping(data, step))]


def opened(path: Path) -> list[Document | RejectedEntry]:
    with sources.open_source(path) as source:
        return list(documents.read(source.stream))


def laid_out(values: list[dict[str, Any]], layout: str) -> bytes:
    match layout:
        case "lines":
            return "".join(json.dumps(value) + "\n" for value in values).encode()
        case "raw lines":  # as most write them: characters as they are, and no line end at the end
            return "\n".join(json.dumps(value, ensure_ascii=False) for value in values).encode()
        case "array":
            return json.dumps(values).encode()
        case "pretty array":
            return b"\xef\xbb\xbf" + json.dumps(values, indent=2, ensure_ascii=False).encode()
        case _:
            # the first one has to be spread over lines to be known as such
            return "\n".join(json.dumps(value, indent=1) for value in [{"x": 1}, *values]).encode()


@given(DOCUMENTS, st.sampled_from(["lines", "raw lines", "array", "pretty array", "pretty"]), st.integers(1, 40))
def test_documents_come_out_as_they_are_whatever_the_layout(
    values: list[dict[str, Any]], layout: str, step: int
) -> None:
    expected = [{"x": 1}, *values] if layout == "pretty" else values
    assert read(laid_out(values, layout), step) == expected


@pytest.mark.parametrize("layout", ["lines", "array"])
def test_gzip_is_known_by_its_content(tmp_path: Path, layout: str) -> None:
    values = [{"n": n} for n in range(1000)]
    whole = laid_out(values, layout)
    # as `cat a.gz b.gz` makes it, under a name that says nothing
    file = tmp_path / "export.json"
    file.write_bytes(gzip.compress(whole[:500]) + gzip.compress(whole[500:]))
    assert [each.value for each in opened(file) if isinstance(each, Document)] == values


def test_a_truncated_gzip_yields_its_documents_and_an_error(tmp_path: Path) -> None:
    values = [{"n": n, "text": f"{n * 7919:x}" * 20} for n in range(5000)]
    file = tmp_path / "cut.jsonl.gz"
    file.write_bytes(gzip.compress(laid_out(values, "lines"))[:-2000])
    *whole, last = opened(file)
    assert 100 < len(whole) < 5000
    assert [each.value for each in whole if isinstance(each, Document)] == values[: len(whole)]
    assert isinstance(last, RejectedEntry)
    assert last.location == Location("line", len(whole) + 1)
    assert "cut short" in last.reason


def test_bad_lines_are_named_by_their_numbers() -> None:
    lines = [b'{"a": 1}', b"", b"{", b'{"a": 1, "a": 2}', b'{"a": "\\ud80"}', b'{"a": NaN}', b"\xff\xfe", b"[]",
             b"7", b'{"a": 2}\r', b"  ", b'{"last": true}']  # fmt: skip
    found = list(documents.read(io.BytesIO(b"\n".join(lines))))
    assert [each.location.number for each in found] == [1, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    assert [each.value for each in found if isinstance(each, Document)] == [{"a": 1}, {"a": 2}, {"last": True}]
    reasons = {each.location.number: each for each in found if isinstance(each, RejectedEntry)}
    assert "duplicate key" in reasons[4].reason
    assert reasons[8].reason == "Must be an object"
    assert reasons[3].text == "{"
    assert reasons[7].text == "\\xff\\xfe"


def test_bad_elements_are_named_by_their_index_and_the_others_are_read() -> None:
    found = list(documents.read(io.BytesIO(b'[{"a": 1}, , 5, {"a": ]}, "]}", {"b": NaN} ,{"a": 2} ]\n')))
    assert [each.location for each in found] == [Location("index", n) for n in range(7)]
    assert [type(each) for each in found] == [Document, *[RejectedEntry] * 5, Document]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b" \n ", []),
        (b"[]", []),
        (b" [ ] \n", []),
        (b'[{"a": 1}', [{"a": 1}, "The array has no end: the file is cut short"]),
        (b'[{"a": 1},', [{"a": 1}, "The array has no end: the file is cut short"]),
        (b'[{"a": 1}] {"b": 2}', [{"a": 1}, "Something follows the end of the array"]),
        (b'{\n"a": 1}\n{"b": {}}\n\n', [{"a": 1}, {"b": {}}]),
    ],
)
def test_ends(data: bytes, expected: list[Any]) -> None:
    assert read(data) == expected


@pytest.mark.parametrize("layout", ["lines", "array", "pretty"])
@pytest.mark.parametrize("step", [5, 64, 4096])
def test_one_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch, layout: str, step: int) -> None:
    monkeypatch.setattr(documents, "MAX_DOCUMENT", 200)
    values: list[dict[str, Any]] = [{"n": 1}, {"long": '"],}{[' * 100}, {"n": 2}, {"long": ["x" * 300]}, {"n": 3}]
    found = read(laid_out(values, layout), step)
    expected = [{"n": 1}, "Longer than 200 bytes", {"n": 2}, "Longer than 200 bytes", {"n": 3}]
    assert found == ([{"x": 1}, *expected] if layout == "pretty" else expected)


def test_a_pipe_that_gives_a_byte_at_a_time_is_read_as_well() -> None:
    class Pipe(io.RawIOBase):
        data = io.BytesIO(gzip.compress(b'{"a": 1}\n{"a": 2}'))

        def read(self, _: int = -1, /) -> bytes:
            return self.data.read(1)

    source = sources.Source(Pipe(), None)  # type: ignore[arg-type]
    assert [each.value for each in documents.read(source.stream) if isinstance(each, Document)] == [{"a": 1}, {"a": 2}]
    assert source.taken == len(Pipe.data.getvalue())


ALTERED = [
    (rb'{"a": ["b\u0000", {"c\ud83d": 1}]}', {"a": ["b\u2400", {"c\ufffd": 1}]}, ("$.a[0]", "$.a[1]")),
    (rb'{"a": "\ud83d\ude00"}', {"a": "\U0001f600"}, ()),
    (rb'{"a": "C:\\u0000"}', {"a": r"C:\u0000"}, ()),
]


@pytest.mark.parametrize(("line", "value", "paths"), ALTERED)
def test_texts_that_cannot_be_stored_are_altered_and_listed(line: bytes, value: Any, paths: tuple[str, ...]) -> None:
    assert list(documents.read(io.BytesIO(line))) == [Document(Location("line", 1), value, paths, len(line))]


def test_or_rejected_where_nothing_may_be_altered() -> None:
    lines = rb'{"a": "\ud83d"}' + b"\n" + rb'{"a": "\u0000"}'
    half, nul = documents.read(io.BytesIO(lines), replaces=False)
    assert isinstance(half, RejectedEntry)
    assert half.reason == "$.a: Text can't hold half of a surrogate pair"
    assert nul == Document(Location("line", 2), {"a": "\0"}, size=15)  # which the validation of a record rejects
