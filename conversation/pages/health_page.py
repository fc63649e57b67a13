"""The service's health, for administrators: the store, the spool, the outcomes of all records, the settings."""

import json
from typing import Any

from flask import Blueprint, Response, current_app
from pydantic import SecretStr

from conversation import access, pages
from conversation.api import caller
from conversation.api import health as readiness
from conversation.settings import Settings
from logging_store.metrics import ledger

blueprint = Blueprint("pages_health", __name__)

_NOT_SHOWN = "set; not shown"
_OUTCOMES = (*ledger.OUTCOMES, "in_flight")


@blueprint.get("/health")
@access.page("admin", service_wide=True)
def health() -> Response:
    log = caller.repository()
    settings: Settings = current_app.extensions["turnlog_settings"]
    checked = readiness.check_store(log.store)
    totals = log.ledger.totals()
    return pages.render(
        "health.html",
        state=checked.status,
        error=str(checked.error) if checked.error else None,
        kind=settings.store_kind,
        store=checked.settings,
        backlog=checked.backlog,
        received=totals["received"],
        outcomes=[(name.replace("_", " "), totals[name]) for name in _OUTCOMES],
        delivered=[(name, totals[f"delivered_{name}"]) for name in ledger.DELIVERED],
        open_breakers=int(totals["open_breakers"]),
        calls=[(name, totals[name]) for name in ledger.CALLS],
        redacted=[(name, totals[f"redacted_{name}"], totals[f"not_redacted_{name}"]) for name in log.ledger.redactions],
        settings=shown(settings),
    )


def shown(settings: Settings) -> list[tuple[str, str]]:
    """Return all settings as pairs of environment variable and text; a secret only as set or not."""
    fields = type(settings).model_fields
    return [(name.upper(), _shown(getattr(settings, name), field.default)) for name, field in fields.items()]


def _shown(value: Any, default: Any) -> str:
    match value:
        case None | ():
            return ""
        case SecretStr():
            return value.get_secret_value() if value == default else _NOT_SHOWN
        case bool():
            return "true" if value else "false"
        case dict():
            return json.dumps(value, ensure_ascii=False) if value else ""
        case tuple() | frozenset():
            return ", ".join(sorted(value))
        case _:
            return str(value)
