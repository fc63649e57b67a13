"""Watches a browser for what no page of ours may do: run foreign scripts, call other hosts, log errors."""

from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request, WebError, WebSocket

#: What the hostile texts call, wherever they manage to run.
RAN = "ran"
_OWN_SCHEMES = frozenset({"data", "about"})  # made of what a page holds; nobody is asked
#: Says what a page refused to itself: its policy holds, but something of it should not have been there.
_REPORT_VIOLATIONS = """
document.addEventListener('securitypolicyviolation', (event) =>
    violated(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber} ${event.sample}`));
"""


class Watch:
    """What a browser context has done since it was last asked. `host`: of the service, the only one to be called."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.found: list[str] = []
        self._host = urlsplit(url).netloc
        context.expose_binding(RAN, lambda source, *said: self._note("a script of others ran", source, said))
        context.expose_binding("violated", lambda source, said: self._note("the policy was violated", source, said))
        context.add_init_script(_REPORT_VIOLATIONS)
        context.on("request", self._look_at_request)
        context.on("console", self._look_at_console)
        context.on("weberror", self._look_at_error)
        context.on("dialog", self._look_at_dialog)
        context.on("page", lambda page: page.on("websocket", self._look_at_socket))

    def take(self) -> list[str]:
        """Return what was found, and forget it."""
        found, self.found = self.found, []
        return found

    def _note(self, what: str, source: dict[str, Any], said: object) -> None:
        page: Page = source["page"]
        self.found.append(f"{what} on {page.url}: {said}")

    def _look_at_request(self, request: Request) -> None:
        asked = urlsplit(request.url)
        if asked.scheme not in _OWN_SCHEMES and asked.netloc != self._host:
            self.found.append(f"{request.method} {request.url} was asked for")

    def _look_at_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.found.append(f"the console says: {message.text} ({message.location})")

    def _look_at_error(self, error: WebError) -> None:
        self.found.append(f"a script of ours failed: {error.error}")

    def _look_at_dialog(self, dialog: Dialog) -> None:
        self.found.append(f"a dialog opened: {dialog.message}")
        dialog.dismiss()

    def _look_at_socket(self, socket: WebSocket) -> None:
        self.found.append(f"a socket was opened to {socket.url}")
