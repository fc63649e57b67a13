"""All pages by endpoint, with a path and the heading of each. A test fails if a new page is missing here."""

from typing import NamedTuple


class Place(NamedTuple):
    """Where a page is, and by what a reader knows that they are there: its heading."""

    path: str
    heading: str


#: By endpoint. The sessions are those of tests/pages/sample_log.py.
PLACES: dict[str, list[Place]] = {
    "pages_overview.overview": [Place("/", "Overview"), Place("/?span=7d", "Overview")],
    "pages_sessions.sessions": [
        Place("/sessions", "Sessions"),
        Place("/sessions?user_id=ben&has_errors=true&sort=activity", "Sessions"),
        Place("/sessions?user_id=nobody", "Sessions"),
    ],
    "pages_live.live": [Place("/live", "Live")],
    "pages_search.search": [
        Place("/search", "Search"),
        Place("/search?q=table&model=gpt-4o-mini&order=match", "Search"),
        Place("/search?q=zebra", "Search"),
    ],
    "pages_session.session_page": [
        Place("/sessions/table", "A table for two"),
        Place("/sessions/troubled", "Nothing works"),
        Place("/sessions/long", "A long evening"),
        Place("/sessions/empty", "Nobody said a word"),
        Place("/sessions/arabic", "حجز طاولة"),
    ],
    "pages_folders.folders": [Place("/folders", "Folders")],
    "pages_folders.folder": [Place("/folders/course", "Speech lessons")],
    "pages_keys.keys": [Place("/keys", "API keys of project default")],
    "pages_dead_letters.dead_letters": [Place("/dead-letters", "Dead letters")],
    "pages_health.health": [Place("/health", "Health")],
}


class File(NamedTuple):
    """What a page gives to programs, or to keep."""

    path: str
    content_type: str
    is_kept: bool


FILES: dict[str, list[File]] = {
    "pages_session_files.raw": [
        File("/sessions/table/json", "application/json", is_kept=False),
        File("/sessions/table/json?turn=table-2", "application/json", is_kept=False),
    ],
    "pages_session_files.lines": [File("/sessions/table/turnlog.jsonl", "application/x-ndjson", is_kept=True)],
    "pages_session_files.text": [File("/sessions/table/conversation.md", "text/markdown; charset=utf-8", is_kept=True)],
}

#: Images that a message holds, with their type.
IMAGES: dict[str, dict[str, str]] = {
    "pages_session_files.image": {"/sessions/closed/interactions/closed-1/images/0": "image/png"}
}

#: Pages for who hasn't signed in.
OPEN_PLACES: dict[str, list[Place]] = {"pages_sign_in.sign_in": [Place("/sign-in", "Sign in")]}

EVERY_PLACE = [place for places in PLACES.values() for place in places]
EVERY_OPEN_PLACE = [place for places in OPEN_PLACES.values() for place in places]
EVERY_FILE = [file for files in FILES.values() for file in files]
