"""The finders by their names in the settings."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from logging_store.redaction.finders import Custom, Finder, Mail
from logging_store.redaction.gitleaks import Gitleaks
from logging_store.redaction.numbers import Card, Ip
from logging_store.redaction.phone import Phone
from logging_store.redaction.secrets import Secrets


def finders(
    names: Sequence[str], custom: Mapping[str, str], *, phone_regions: Sequence[str], gitleaks: Path | None = None
) -> Iterator[Finder]:
    """Yield finders, those first that say the most about what they find. `custom`: expressions by their names.

    Raises `ValueError` for an expression or a file that can't be used.
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
