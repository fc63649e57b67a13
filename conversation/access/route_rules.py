"""What each route says about its callers; one that says nothing lets nobody in."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from conversation.access.callers import Scope

_View = TypeVar("_View", bound=Callable[..., Any])

_RULE = "access_rule"


class Rule(NamedTuple):
    """Who may call a route. `scope` is None where everybody may.

    `restricted`: also who only reaches sessions of their own. `of_service`: it tells of all projects, so only who has a
    key of the service's own one, TURNLOG_PROJECT. `page`: it is one of the web pages, for who signed in.
    """

    scope: Scope | None
    restricted: bool = False
    of_service: bool = False
    page: bool = False


def requires(scope: Scope, *, restricted: bool = False, of_service: bool = False) -> Callable[[_View], _View]:
    """Let a view be called by who has a scope: see `Rule`."""
    return _ruled(Rule(scope, restricted, of_service))


def page(scope: Scope, *, restricted: bool = False, of_service: bool = False) -> Callable[[_View], _View]:
    """Let a page be seen by who signed in with a scope: see `Rule`."""
    return _ruled(Rule(scope, restricted, of_service, page=True))


def open_page(view: _View) -> _View:
    """Let a page be seen by everybody: it tells nothing of the log."""
    return _ruled(Rule(None, page=True))(view)


def open_to_all(view: _View) -> _View:
    """Let a view be called by everybody: it tells nothing of the log."""
    return _ruled(Rule(None))(view)


def _ruled(rule: Rule) -> Callable[[_View], _View]:
    def attach_rule(view: _View) -> _View:
        view.__dict__[_RULE] = rule
        return view

    return attach_rule


def rule_of(view: Callable[..., Any]) -> Rule | None:
    return getattr(view, _RULE, None)
