"""Creates finders by their names in the settings.

A module of its own, so that the numbering plans of phonenumbers are only loaded where something is redacted.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from logging_store.redaction.finders import Custom, Finder, Mail
from logging_store.redaction.gitleaks import Gitleaks
from logging_store.redaction.numbers import Card, Ip
from logging_store.redaction.phone import Phone
from logging_store.redaction.secrets import Secrets


def create_finders(
    names: Sequence[str], custom: Mapping[str, str], *, phone_regions: Sequence[str], gitleaks: Path | None = None
) -> Iterator[Finder]:
    """Yield finders, the most specific ones first. `custom`: name -> regular expression in RE2's syntax.

    Raises `ValueError` for an invalid expression or file.
    """
    for name, expression in custom.items():
        yield Custom(name, expression)
    if "secrets" in names:
        yield Secrets()
        if gitleaks:
            yield Gitleaks(gitleaks)
    if "mail" in names:
        yield Mail()
    if "card" in names:
        yield Card()
    if "ip" in names:
        yield Ip()
    if "phone" in names:
        yield Phone(phone_regions)
