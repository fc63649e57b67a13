"""The access rule of each route, declared by a decorator of its view; without one the route is closed."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from flask import Request

from conversation.keys.callers import Scope

_View = TypeVar("_View", bound=Callable[..., Any])

_RULE = "access_rule"

Heavy = bool | Callable[[Request], bool]


class Rule(NamedTuple):
    """Who may call a route. `scope`: the scope that a caller needs; None for no authentication.

    `restricted`: also callers who reach only sessions of their own. `service_wide`: the route shows all projects, so it
    needs a key of the service's own project, TURNLOG_PROJECT. `page`: a web page, for signed-in browsers. `heavy`: the
    route may read much, always or for some requests, so that few are served at once: see `heavy_reads`.
    """

    scope: Scope | None
    restricted: bool = False
    service_wide: bool = False
    page: bool = False
    heavy: Heavy = False

    def is_heavy(self, request: Request) -> bool:
        return self.heavy if isinstance(self.heavy, bool) else self.heavy(request)


def requires(
    scope: Scope, *, restricted: bool = False, service_wide: bool = False, heavy: Heavy = False
) -> Callable[[_View], _View]:
    """Open an API view to callers with a scope; see `Rule`."""
    return _with_rule(Rule(scope, restricted, service_wide, heavy=heavy))


def page(
    scope: Scope, *, restricted: bool = False, service_wide: bool = False, heavy: Heavy = False
) -> Callable[[_View], _View]:
    """Open a page to signed-in browsers with a scope; see `Rule`."""
    return _with_rule(Rule(scope, restricted, service_wide, page=True, heavy=heavy))


def filtered(request: Request) -> bool:
    """Return whether a list of sessions is asked for more than an index answers."""
    return any(name not in _INDEXED and value for name, value in request.args.items())


#: Parameters of a list of sessions with which it reads little more than what it returns.
_INDEXED = frozenset({"limit", "cursor", "sort", "user_id", "folder", "from", "to"})


def open_page(view: _View) -> _View:
    """Open a page to everybody; it must show nothing of the log."""
    return _with_rule(Rule(None, page=True))(view)


def open_to_all(view: _View) -> _View:
    """Open an API view to everybody; it must show nothing of the log."""
    return _with_rule(Rule(None))(view)


def _with_rule(rule: Rule) -> Callable[[_View], _View]:
    def attach_rule(view: _View) -> _View:
        view.__dict__[_RULE] = rule
        return view

    return attach_rule


def rule_of(view: Callable[..., Any]) -> Rule | None:
    return getattr(view, _RULE, None)
