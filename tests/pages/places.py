"""Every page there is: where the tests find it, by its route. A new page joins this list, or a test fails."""

from typing import NamedTuple


class Place(NamedTuple):
    """Where a page is, and by what a reader knows that they are there: its heading."""

    path: str
    heading: str


#: By endpoint. The sessions are those of tests/pages/content.py.
PLACES: dict[str, list[Place]] = {
    "pages_sessions.sessions": [Place("/sessions", "Sessions")],
    "pages_transcript.transcript": [
        Place("/sessions/table", "A table for two"),
        Place("/sessions/troubled", "Nothing works"),
        Place("/sessions/long", "A long evening"),
        Place("/sessions/empty", "Nobody said a word"),
        Place("/sessions/arabic", "حجز طاولة"),
    ],
}

#: Pages for who hasn't signed in.
OPEN_PLACES: dict[str, list[Place]] = {"pages_sign_in.sign_in": [Place("/sign-in", "Sign in")]}

EVERY_PLACE = [place for places in PLACES.values() for place in places]
EVERY_OPEN_PLACE = [place for places in OPEN_PLACES.values() for place in places]
