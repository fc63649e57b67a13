"""Images in messages: a page shows their kind and size, and loads one from the log itself when somebody opens it."""

import base64
from typing import Any

import pytest
from flask.testing import FlaskClient

from conversation.pages.embedded_files import EmbeddedFile, FileFinder
from tests.http_calls import log
from tests.pages.html import page_of, texts

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
MB = 1_000_000


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def png(size: int) -> str:
    return f"data:image/png;base64,{base64_of(PNG + bytes(size - len(PNG)))}"


def image_message(uri: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri}}]}]


def test_a_page_of_photos_is_small_and_says_what_they_are(client: FlaskClient) -> None:
    for n, size in enumerate((1 * MB, 2_500_000, 3_200_000)):
        log(client, session_id="s", interaction_id=f"i{n}", prompt=image_message(png(size)), response="ho")
    answer = client.get("/sessions/s")
    assert len(answer.data) < 40_000
    page = page_of(answer)
    shown = [text for text in texts(page, ".bubble summary") if text.startswith("image/png")]
    assert shown == ["image/png, 1.0 MB", "image/png, 2.5 MB", "image/png, 3.2 MB"]
    assert [each["loading"] for each in page.select("img.embedded")] == ["lazy"] * 3
    image = client.get(page.select("img.embedded")[2]["src"])
    assert (image.status_code, image.content_type, len(image.data)) == (200, "image/png", 3_200_000)
    assert image.data.startswith(PNG)


def test_a_photo_of_5_mb_is_kept(client: FlaskClient) -> None:
    prompt = image_message("data:image/png;base64," + "A" * 5 * MB)
    assert log(client, session_id="s", interaction_id="i", prompt=prompt, response="ho").status_code == 201
    read = client.get("/v1/sessions/s/interactions").get_json()["interactions"]
    assert read[0]["prompt"] == prompt
    answer = client.get("/sessions/s")
    assert b"[image/png, 3.8 MB]" in answer.data
    assert len(answer.data) < 40_000
    # its bytes are no PNG
    assert page_of(answer).select("img.embedded") == []
    assert status_of(client, "/sessions/s/interactions/i/images/0") == 404


def status_of(client: FlaskClient, path: str) -> int:
    return client.get(path).status_code


def test_an_image_comes_with_a_policy_that_runs_nothing(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="i", prompt=image_message(png(1000)))
    headers = client.get("/sessions/s/interactions/i/images/0").headers
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Disposition"] == 'inline; filename="image-0.png"'
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/svg+xml;base64," + base64_of(b"<svg onload='alert(1)'>" + b" " * 500),
        "data:text/html;base64," + base64_of(b"<script>alert(1)</script>" + b" " * 500),
        "data:image/png;base64," + base64_of(b"<script>alert(1)</script>" + b" " * 500),
        "data:application/pdf;base64," + base64_of(b"%PDF-1.7" + b" " * 500),
    ],
)
def test_what_is_no_image_is_named_and_not_served(client: FlaskClient, uri: str) -> None:
    log(client, session_id="s", interaction_id="i", prompt=image_message(uri))
    page = client.get("/sessions/s")
    assert uri[-300:] not in page.text
    assert page_of(page).select("img.embedded") == []
    assert status_of(client, "/sessions/s/interactions/i/images/0") == 404


def test_the_type_is_the_one_of_the_bytes(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="i", prompt=image_message(png(1000).replace("image/png", "text/html")))
    assert client.get("/sessions/s/interactions/i/images/0").content_type == "image/png"


def test_nothing_is_fetched_from_elsewhere(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="i", prompt=image_message("https://example.com/x.png"))
    page = client.get("/sessions/s")
    assert page_of(page).select("img.embedded") == []
    assert status_of(client, "/sessions/s/interactions/i/images/0") == 404


@pytest.mark.parametrize(
    "path",
    [
        "/sessions/s/interactions/i/images/1",
        "/sessions/s/interactions/j/images/0",
        "/sessions/t/interactions/i/images/0",
    ],
)
def test_an_image_that_is_not_there_is_not_found(client: FlaskClient, path: str) -> None:
    log(client, session_id="s", interaction_id="i", prompt=image_message(png(1000)))
    assert status_of(client, path) == 404


@pytest.mark.parametrize(
    ("content", "kinds"),
    [
        ("before " + png(1000) + " between " + png(2000) + " after", ["image/png, 1.0 kB", "image/png, 2.0 kB"]),
        ([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": base64_of(PNG * 9)}}],
         ["image/png, 630 bytes"]),
        ([{"inline_data": {"mime_type": "image/jpeg", "data": base64_of(b"\xff\xd8\xff" + bytes(999))}}],
         ["image/jpeg, 1.0 kB"]),
        ([{"inlineData": {"mimeType": "audio/wav", "data": base64_of(bytes(3000))}}], ["audio/wav, 3.0 kB"]),
        ([{"type": "input_audio", "input_audio": {"format": "wav", "data": base64_of(bytes(3000))}}],
         ["application/octet-stream, 3.0 kB"]),
        ([{"type": "input_image", "image_url": png(1000)}], ["image/png, 1.0 kB"]),
        ([{"type": "file", "mediaType": "image/gif", "data": base64_of(b"GIF89a" + bytes(594))}],
         ["image/gif, 600 bytes"]),
        ([{"type": "text", "text": "x" * 5000}], []),
        ("x" * 5000, []),
        ([{"type": "json", "data": "x y" * 500}], []),
        ("data:;base64," + base64_of(PNG * 9), ["image/png, 630 bytes"]),
        ("data:text/plain;charset=utf-8;base64," + base64_of(bytes(300)), ["text/plain, 300 bytes"]),
        ("data:image/png;base64,short", []),
    ],
)  # fmt: skip
def test_files_are_found_as_providers_send_them(content: Any, kinds: list[str]) -> None:
    finder = FileFinder()
    plain = finder.without_files([{"role": "user", "content": content}])
    assert [each.description for each in finder.files] == kinds
    assert len(str(plain)) < 400 or not kinds
    for each in kinds:
        assert f"[{each}]" in str(plain)


def test_base64_without_padding_and_of_the_other_alphabet_is_read() -> None:
    data = base64.urlsafe_b64encode(b"GIF89a" + b"\xff\xfe" * 500).decode().rstrip("=")
    found = EmbeddedFile(0, "image/gif", data)
    assert (found.image_type, found.content()) == ("image/gif", b"GIF89a" + b"\xff\xfe" * 500)


def test_the_markdown_of_a_session_carries_no_files(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="i", prompt=image_message(png(100_000)), response="ho")
    text = client.get("/sessions/s/conversation.md").text
    assert "[image/png, 100.0 kB]" in text
    assert len(text) < 1000


def test_the_live_list_names_a_file_in_a_text(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="i", prompt="Look: " + png(5000), response="ho")
    assert texts(page_of(client.get("/live")), ".excerpt") == ["Look: [image/png]", "ho"]
