"""The rules of a gitleaks.toml work as in gitleaks, as far as they concern texts."""

from pathlib import Path

import pytest

from logging_store.redaction.gitleaks import Gitleaks
from logging_store.redaction.linear_regex import Pattern

RULES = r"""
title = "rules of our own, in gitleaks' form"

[allowlist]
description = "for all rules"
paths = ["vendor/"]
regexes = ["^acme-0000"]
stopwords = ["example"]

[[rules]]
id = "acme"
description = "a key as a whole"
regex = '''\bacme-[0-9a-z]{8,}\b'''
keywords = ["ACME-"]
entropy = 2.5

[[rules]]
id = "assigned"
description = "a key in a group"
regex = '''(?i)(corp)_key\s*=\s*"([a-z0-9]{6,})"'''
secretGroup = 2
keywords = ["corp_key"]
[[rules.allowlists]]
regexTarget = "line"
regexes = ["just a test"]
[[rules.allowlists]]
condition = "AND"
regexes = ["^aaa"]
stopwords = ["bbb"]
[[rules.allowlists]]
condition = "AND"
regexes = ["^zzz"]
paths = ["fixtures/"]

[[rules]]
id = "file"
description = "says nothing of a text"
path = "id_rsa$"
"""


@pytest.fixture
def finder(tmp_path: Path) -> Gitleaks:
    return Gitleaks(write(tmp_path, RULES))


def write(folder: Path, rules: str) -> Path:
    file = folder / "gitleaks.toml"
    file.write_text(rules, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("use acme-a1b2c3d4e5 for it", ["acme-a1b2c3d4e5"]),
        ("use acme-aaaaaaaa for it", []),  # not random enough
        ("acme-0000a1b2c3d4", []),  # allowed for all rules
        ("acme-a1b2c3example", []),  # has a stopword
        ('CORP_KEY = "a1b2c3"', ["a1b2c3"]),
        ('corp_key = "a1b2c3" # just a test', []),
        ('# just a test\ncorp_key = "a1b2c3"', ["a1b2c3"]),  # on another line
        ('corp_key = "aaac1d2"', ["aaac1d2"]),  # only one of two conditions
        ('corp_key = "aaabbb1"', []),
        ('corp_key = "zzz123"', ["zzz123"]),  # allowed in other files only
        ("nothing of it", []),
        ("\u00fc acme-a1b2c3d4e5 \u00fc", ["acme-a1b2c3d4e5"]),
    ],
)
def test_rules_match_as_in_gitleaks(finder: Gitleaks, text: str, secrets: list[str]) -> None:
    encoded = text.encode()
    assert [encoded[start:end].decode() for start, end in finder.find(encoded) if end > start] == secrets
    assert Pattern(finder.hint).matches(encoded) or not secrets


def test_a_rule_without_keywords_is_tried_in_every_text(tmp_path: Path) -> None:
    finder = Gitleaks(write(tmp_path, """[[rules]]\nid = "any"\nregex = "zz[0-9]{4}"\n"""))
    assert [span for span in finder.find(b"a zz1234") if span.end > span.start] == [(2, 8)]
    assert Pattern(finder.hint).matches(b"a")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("title = 1", "has no rules"),
        ("[[rules]\n", "can't be used|isn't a gitleaks.toml"),
        ('[[rules]]\nid = "x"\nregex = "(?=x)"\n', "isn't a gitleaks.toml .* perl operator"),
    ],
)
def test_an_invalid_file_is_reported(tmp_path: Path, rules: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gitleaks(write(tmp_path, rules))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can't be read"):
        Gitleaks(tmp_path / "missing.toml")
