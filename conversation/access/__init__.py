"""Who may call: authentication, authorisation and limits. Other rooms import what they need of it from here."""

from conversation.access.credential_errors import NotSignedIn
from conversation.access.gate import attach, auth_context, identification, is_page, treat_as_page
from conversation.access.route_rules import filtered, open_page, open_to_all, page, requires, rule_of
from conversation.keys.callers import Caller, Scope

__all__ = [
    "Caller",
    "NotSignedIn",
    "Scope",
    "attach",
    "auth_context",
    "filtered",
    "identification",
    "is_page",
    "open_page",
    "open_to_all",
    "page",
    "requires",
    "rule_of",
    "treat_as_page",
]
