"""Checks the settings of the server, its roles and databases that could lose or damage acknowledged records."""

from collections.abc import Iterator
from typing import Any

from conversation.doctor.findings import Check, Finding
from conversation.doctor.remedies import name, text

_LOST = "Acknowledged records can be lost when the machine crashes."

#: setting -> (its bad values, what they mean)
_WATCHED: dict[str, tuple[frozenset[str], str]] = {
    "fsync": (frozenset({"off"}), _LOST),
    "synchronous_commit": (frozenset({"off"}), _LOST),
    "full_page_writes": (frozenset({"off"}), _LOST),
    "zero_damaged_pages": (frozenset({"on"}), "Damaged rows disappear without an error."),
    "ignore_checksum_failure": (frozenset({"on"}), "Damaged rows are read as if they were intact."),
    "session_replication_role": (
        frozenset({"replica", "local"}),
        "Foreign keys aren't checked, so orphans can appear.",
    ),
    "default_transaction_read_only": (frozenset({"on"}), "Nothing can be stored."),
    "default_transaction_isolation": (
        frozenset({"serializable", "repeatable read"}),
        "Turnlog's functions need to see rows that were committed before each statement.",
    ),
}

NAMES = list(_WATCHED)


def check(answer: dict[str, Any], *, in_recovery: bool) -> Check:
    """Return the check of the result of `turnlog.settings`."""
    summary = ", ".join(
        f"{setting} {answer['settings'][setting]['value']}"
        for setting in ("fsync", "synchronous_commit", "full_page_writes")
    )
    return Check("durability", summary, [*_findings(answer), *_standby(in_recovery=in_recovery)])


def _findings(answer: dict[str, Any]) -> Iterator[Finding]:
    explained = set()
    for override in answer["overrides"]:
        setting, value = override["setting"], override["value"]
        bad, means = _WATCHED[setting]
        if value.lower() not in bad:
            continue
        explained.add((setting, value.lower()))
        role, database = override["role"], override["database"]
        whose = f"role {name(role)}" if role else f"database {name(database)}"
        within = f" in database {name(database)}" if role and database else ""
        yield Finding(
            f"{setting} is {value} for the {whose}{within}",
            means,
            [f"alter {whose}{within} reset {setting};", _reconnect(answer)],
        )
    for setting, there in answer["settings"].items():
        bad, means = _WATCHED[setting]
        if there["value"] in bad and (setting, there["value"]) not in explained:
            yield Finding(
                f"{setting} is {there['value']} ({there['source']})", means, _fix(setting, there["source"], answer)
            )


def _reconnect(answer: dict[str, Any]) -> str:
    """Return SQL that closes the service's connections, which keep the settings from when they were opened."""
    login, database = text(answer["login"]), text(answer["database"])
    return (
        "select pg_terminate_backend(pid) from pg_stat_activity "
        f"where usename = {login} and datname = {database} and pid <> pg_backend_pid();"
    )


def _fix(setting: str, source: str, answer: dict[str, Any]) -> list[str]:
    if source in {"database", "user", "database user"}:
        return [_reconnect(answer)]
    if source in {"client", "session"}:
        return [f"unset PGOPTIONS  # and remove {setting} from the options of DATABASE_URL"]
    if source == "command line":
        return [f"pg_ctl restart  # without -c {setting}=… or -o '-c {setting}=…'"]
    good = {"default_transaction_isolation": "'read committed'", "session_replication_role": "origin"}
    off = {"zero_damaged_pages", "ignore_checksum_failure", "default_transaction_read_only"}
    value = good.get(setting, "off" if setting in off else "on")
    return [f"alter system set {setting} = {value};", "select pg_reload_conf();"]


def _standby(*, in_recovery: bool) -> Iterator[Finding]:
    if in_recovery:
        yield Finding("the server is a standby", "Nothing can be stored.", ["select pg_promote();"])
