"""The settings of the redaction, and the errors of invalid ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from conversation.settings import Settings
from conversation.stack import create_redaction
from logging_store.errors import Misconfigured

GITLEAKS = """[[rules]]\nid = "acme"\nregex = "acme-[0-9]{4}"\nkeywords = ["acme"]\n"""


def test_nothing_is_redacted_by_default() -> None:
    settings = Settings.from_mapping({})
    assert settings.redacted == ()
    assert create_redaction(settings) is None


def test_the_settings_name_finders_and_patterns() -> None:
    settings = Settings.from_mapping({"TURNLOG_REDACT": " mail, card,mail", "TURNLOG_REDACT_PATTERNS": '{"x": "x+"}'})
    redaction = create_redaction(settings)
    assert redaction is not None
    assert settings.redacted == redaction.names[1:] + redaction.names[:1] == ("mail", "card", "x")


def test_rules_of_gitleaks_are_added_to_the_secrets(tmp_path: Path) -> None:
    (tmp_path / "gitleaks.toml").write_text(GITLEAKS, encoding="utf-8")
    mapping = {"TURNLOG_REDACT": "secrets", "TURNLOG_REDACT_GITLEAKS": str(tmp_path / "gitleaks.toml")}
    redaction = create_redaction(Settings.from_mapping(mapping))
    assert redaction is not None
    row = {"prompt": "acme-1234 and turnlog_sk_0123456789abcdef"}
    assert redaction.redact_rows([row]).replaced == {"secrets": 2}
    assert row == {"prompt": "[secret] and [secret]"}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"TURNLOG_REDACT": "mail,iban"}, "TURNLOG_REDACT: iban can't be redacted by name; there are: "),
        ({"TURNLOG_REDACT_PATTERNS": "x+"}, "TURNLOG_REDACT_PATTERNS: must be a JSON object"),
        ({"TURNLOG_REDACT_PATTERNS": "[]"}, "TURNLOG_REDACT_PATTERNS: must be a JSON object"),
        ({"TURNLOG_REDACT_PATTERNS": '{"x": 1}'}, "TURNLOG_REDACT_PATTERNS: must be a JSON object"),
        ({"TURNLOG_REDACT_PATTERNS": '{"x": "("}'}, "TURNLOG_REDACT_PATTERNS: x can't be used: missing ):"),
        ({"TURNLOG_REDACT_PATTERNS": '{"x": "(?<=a)b"}'}, "TURNLOG_REDACT_PATTERNS: x can't be used: "),
        ({"TURNLOG_REDACT_PATTERNS": '{"x": "a*"}'}, "TURNLOG_REDACT_PATTERNS: x matches the empty text"),
        ({"TURNLOG_REDACT_PATTERNS": '{"A b": "a"}'}, "TURNLOG_REDACT_PATTERNS: 'A b' is not a valid name"),
        ({"TURNLOG_REDACT_PATTERNS": '{"mail": "a"}'}, "TURNLOG_REDACT_PATTERNS: mail is a kind of TURNLOG_REDACT"),
        ({"TURNLOG_REDACT_PATTERNS": '{"x": "a", "x": "b"}'}, "TURNLOG_REDACT_PATTERNS: names x twice"),
        ({"TURNLOG_REDACT_FAILURE": "maybe"}, "TURNLOG_REDACT_FAILURE: "),
        ({"TURNLOG_REDACT": "mail", "TURNLOG_REDACT_PHONE_REGIONS": "US"}, "TURNLOG_REDACT_PHONE_REGIONS is set, and"),
        ({"TURNLOG_REDACT": "phone", "TURNLOG_REDACT_PHONE_REGIONS": "UK"}, "TURNLOG_REDACT_PHONE_REGIONS: UK is no"),
        ({"TURNLOG_REDACT": "phone", "TURNLOG_REDACT_PHONE_REGIONS": ","}, "TURNLOG_REDACT_PHONE_REGIONS: names no"),
        ({"TURNLOG_REDACT": "mail", "TURNLOG_REDACT_GITLEAKS": __file__}, "TURNLOG_REDACT_GITLEAKS is set, and"),
        ({"TURNLOG_REDACT": "secrets", "TURNLOG_REDACT_GITLEAKS": "/nowhere"}, "TURNLOG_REDACT_GITLEAKS: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_setting_is_reported_in_one_sentence(mapping: dict[str, str], message: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Settings.from_mapping(mapping)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_file_without_rules_is_reported_in_one_sentence() -> None:
    settings = Settings.from_mapping({"TURNLOG_REDACT": "secrets", "TURNLOG_REDACT_GITLEAKS": __file__})
    with pytest.raises(Misconfigured, match=r"^TURNLOG_REDACT_GITLEAKS: .* isn't a gitleaks\.toml"):
        create_redaction(settings)


def test_without_redaction_no_finder_is_loaded() -> None:
    code = "import app, sys; app.create_app(app.Settings.from_mapping({})); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert {"re2", "phonenumbers"} & set(run.stdout.split()) == set()
