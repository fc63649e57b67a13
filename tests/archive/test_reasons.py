"""Imports and exports explain wrong values in the same sentences as the API."""

import click
import pytest
from pydantic import ValidationError

from conversation.archive.dialogues import describe_errors
from conversation.cli import export
from logging_store.records.models import Session


def test_a_rejected_record_is_explained() -> None:
    with pytest.raises(ValidationError) as caught:
        Session.model_validate({"status": "opn", "titel": "x"})
    reasons = describe_errors(caught.value, Session)
    assert "$.status: Must be one of" in reasons
    assert "$.titel: Unknown field `titel`. Did you mean `title`?" in reasons
    assert "Input should" not in reasons


def test_a_wrong_filter_of_an_export_is_explained() -> None:
    with pytest.raises(click.UsageError, match=r"^--status: Must be one of .*Did you mean open\?$"):
        export._query({"status": "opn"})  # noqa: SLF001 - the command itself starts a store
