"""docs/security.md goes through OWASP's list, and the tests that it names exist."""

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "security.md").read_text(encoding="utf-8")
_ITEMS = re.split(r"^### ", _PAGE, flags=re.MULTILINE)[1:]
_NAMED = re.compile(r"^- `(tests/[\w/]+\.py)::(test_\w+)`$", re.MULTILINE)


def test_each_item_of_the_list_is_there_once() -> None:
    assert [item.split()[0] for item in _ITEMS] == [f"API{n}" for n in range(1, 11)]


@pytest.mark.parametrize("item", _ITEMS, ids=lambda item: item.partition("\n")[0])
def test_each_item_names_tests_that_exist(item: str) -> None:
    named = _NAMED.findall(item)
    assert len(named) == len(re.findall(r"^- ", item, re.MULTILINE)) > 0, "each line names one test"
    for file, test in named:
        functions = ast.parse((_ROOT / file).read_text(encoding="utf-8")).body
        assert test in [each.name for each in functions if isinstance(each, ast.FunctionDef)], f"{file}::{test}"


def test_the_page_on_reporting_is_where_people_look() -> None:
    assert "docs/security.md" in (_ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "SECURITY.md" in (_ROOT / "README.md").read_text(encoding="utf-8")
