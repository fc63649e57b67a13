"""Checks grants and roles: only the service may reach the tables and functions."""

from collections.abc import Iterator
from typing import Any

from conversation.doctor.findings import Check, Finding
from conversation.doctor.remedies import Remedies, name

_PUBLIC_ROLES = ("anon", "authenticated")


def check_grants(access: dict[str, Any], remedies: Remedies) -> Check:
    return Check("grants", "only the service reaches the tables and functions", list(_grants(access, remedies)))


def check_roles(access: dict[str, Any]) -> Check:
    caller = access["caller"]
    what = "who owns the tables" if caller["is_owner"] else "who bypasses row-level security"
    return Check("roles", f"the service connects as {caller['name']}, {what}", list(_roles(access)))


def _grants(access: dict[str, Any], remedies: Remedies) -> Iterator[Finding]:
    explained = set()
    for grant in access["granted"]:
        explained.add((grant["role"], grant["name"]))
        rights = ", ".join(grant["privileges"])
        column = f" ({name(grant['column'])})" if grant["column"] else ""
        columns = ", ".join(f"{right}{column}" for right in grant["privileges"])
        role = "public" if grant["role"] == "public" else name(grant["role"])
        yield Finding(
            f"{grant['role']} has {rights}{column} on {grant['name']}",
            "Roles other than the service's can access the records.",
            [f"revoke {columns} on {grant['kind']} {grant['name']} from {role};"],
        )
    roles = {role["name"]: role for role in access["roles"]}
    through: dict[str, list[str]] = {}
    for reach in access["reached"]:
        role = reach["role"]
        if not {(role, reach["name"]), ("public", reach["name"])} & explained and not roles[role]["is_superuser"]:
            through.setdefault(role, []).append(reach["name"])
    for role, objects in through.items():
        yield Finding(
            f"{role} reaches {', '.join(objects[:3])}{', …' if len(objects) > 3 else ''} as a member of other roles",  # noqa: PLR2004 - the first few
            "Roles other than the service's can access the records.",
            [f"revoke {name(group)} from {name(role)};" for group in roles[role]["member_of"]],
        )
    for lack in access["lacking"]:
        rights = ", ".join(lack["privileges"])
        yield Finding(
            f"{lack['role']} lacks {rights} on {lack['name']}",
            "The service's calls fail.",
            remedies.restore
            if lack["role"] == "service_role"
            else [f"grant {rights} on {lack['kind']} {lack['name']} to {name(lack['role'])};"],
        )


def _roles(access: dict[str, Any]) -> Iterator[Finding]:
    caller = access["caller"]
    roles = {role["name"]: role for role in access["roles"]}
    if not (caller["is_owner"] or caller["bypasses_rls"] or caller["is_superuser"]):
        yield Finding(
            f"the service connects as {caller['name']}, which isn't the tables' owner",
            "Row-level security hides all rows from it, so the log looks empty.",
            [f"alter role {name(caller['name'])} bypassrls;"],
        )
    for role in _PUBLIC_ROLES:
        for attribute, option in (("is_superuser", "nosuperuser"), ("bypasses_rls", "nobypassrls")):
            if role in roles and roles[role][attribute]:
                yield Finding(
                    f"{role} {'is a superuser' if attribute == 'is_superuser' else 'bypasses row-level security'}",
                    "Anyone with the project's public key gets these rights.",
                    [f"alter role {role} {option};"],
                )
    if service := roles.get("service_role"):
        if not service["bypasses_rls"] and caller["name"] != "service_role":
            yield Finding(
                "service_role doesn't bypass row-level security",
                "Through Supabase's API, the log looks empty.",
                ["alter role service_role bypassrls;"],
            )
        for schema in service["lacks_schemas"]:
            yield Finding(
                f"service_role may not use the schema {schema}",
                "Calls through Supabase's API fail.",
                [f"grant usage on schema {schema} to service_role;"],
            )
