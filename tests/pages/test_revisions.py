"""A session's page folds what was said of a turn and isn't shown under it."""

from flask.testing import FlaskClient

from tests.http_calls import log
from tests.pages.html import page_of, texts

NAME = {"session_id": "s", "interaction_id": "t"}
PHOTO = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def test_earlier_versions_are_folded_under_their_turn(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="alone", prompt="Hi", response="Ho", started_at="2026-11-21T05:00:00Z")
    log(client, **NAME, prompt="Name a tree", response="*Oak.*", completed_at="2026-11-21T06:00:00Z", model="m")
    for prompt, minute in (("Name a bird", 10), ("Name a fish", 20)):
        fields = {"prompt": prompt, "response": f"{prompt}?", "completed_at": f"2026-11-21T06:{minute}:00Z"}
        log(client, **NAME, **fields, on_conflict="revise")
    log(client, **NAME, status="failed", error="time-out", started_at="2026-11-21T06:05:00Z")
    page = page_of(client.get("/sessions/s"))
    alone, turn = page.select(".turn")
    assert not alone.select(".earlier")
    assert texts(turn, ".earlier > summary") == ["2 earlier versions"]
    first, second = turn.select(".earlier > ol > li")
    assert texts(first, ".bubble .text") == ["Name a bird", "Name a bird?"]
    assert texts(second, ".bubble .text") == ["Name a tree", "Oak."]
    assert texts(second, ".bubble .who") == ["user", "m"]
    assert [each[:19] for each in texts(turn, ".earlier li > .facts")] == ["2026-11-21 06:10:00", "2026-11-21 06:00:00"]
    assert texts(page, ".alert-warning") == []
    # what isn't folded is what is shown
    for each in turn.select(".earlier"):
        each.decompose()
    assert texts(turn, ".bubble .text") == ["Name a fish", "Name a fish?"]


def test_attempts_are_earlier_versions(client: FlaskClient) -> None:
    for error in ("<b>rate limit", "time-out"):
        log(client, **NAME, prompt="Hi", error=error, model="big")
    (version,) = page_of(client.get("/sessions/s")).select(".earlier li")
    assert texts(version, ".error") == ["<b>rate limit"]
    assert "failed" in texts(version, ".facts")[0]


def test_an_image_of_an_earlier_version_is_only_described(client: FlaskClient) -> None:
    log(client, **NAME, prompt=[{"role": "user", "content": [{"type": "text", "text": "Look"}, PHOTO]}])
    log(client, **NAME, prompt="Look away", on_conflict="revise")
    page = page_of(client.get("/sessions/s"))
    (version,) = page.select(".earlier li")
    assert "Look" in texts(version, ".text")
    assert not page.select("img.embedded")


def test_more_than_a_page_shows_are_told(client: FlaskClient) -> None:
    for name in ("t", "u"):
        said = [{"session_id": "s", "interaction_id": name, "response": f"{n} times"} for n in range(60)]
        client.post("/v1/interactions/batch", json={"interactions": said, "on_conflict": "revise"})
    page = page_of(client.get("/sessions/s"))
    assert texts(page, ".alert-warning") == ["Not all earlier versions are shown here."]
    assert len(page.select(".earlier li")) == 100
