"""The page of keys: the keys of the visitor's own project, created, shown once, and revoked."""

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.keys.callers import ALL_SCOPES
from conversation.keys.key_registry import KeyRegistry, NewKey
from conversation.settings import Settings
from logging_store.postgres.function_store import FunctionStore
from tests.access.conftest import Calls
from tests.pages.html import page_of, texts

ORIGIN = "https://chat.example.com"


@pytest.fixture
def registry(store: FunctionStore) -> KeyRegistry:
    return KeyRegistry(store)


@pytest.fixture
def own(registry: KeyRegistry) -> NewKey:
    return registry.create("default", "secret", ALL_SCOPES, name="mine")


@pytest.fixture
def client(store: FunctionStore, tmp_path: Path) -> FlaskClient:
    """Return a client of a service that asks for keys."""
    return create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), store).test_client()


@pytest.fixture
def browser(client: FlaskClient, own: NewKey) -> Calls:
    return Calls(client, own.text, {}).signed_in()


def opens(client: FlaskClient, key: str, path: str = "/v1/sessions") -> int:
    return client.get(path, headers={"Authorization": f"Bearer {key}"}).status_code


def filled(**fields: Any) -> dict[str, Any]:
    return {"kind": "secret", "scope": ["read"], "days": "30", "name": "", "origins": ""} | fields


def test_it_lists_the_projects_keys_and_never_the_keys_themselves(
    browser: Calls, registry: KeyRegistry, own: NewKey
) -> None:
    other = registry.create("shop", "secret", ALL_SCOPES, name="of the shop")
    publishable = registry.create("default", "publishable", {"log"}, origins={ORIGIN})
    page = page_of(browser("GET", "/keys"))
    rows = texts(page, "tbody tr")
    assert len(rows) == 2
    assert any(row.startswith(f"{own.key.hint}… you mine secret") for row in rows)
    assert any(ORIGIN in row and "publishable" in row for row in rows)
    assert not [text for text in (own.text, other.text, publishable.text, "of the shop") if text in page.get_text()]


def test_a_key_is_made_and_shown_once(browser: Calls, client: FlaskClient, registry: KeyRegistry) -> None:
    page = page_of(browser("POST", "/keys", filled(name=" Backend ", scope=["read", "log"])), 201)
    (text,) = texts(page, ".new-key")
    assert opens(client, text) == 200
    assert text not in browser("GET", "/keys").text
    (made,) = [key for key in registry.list("default") if key.name == "Backend"]
    assert (made.scopes, made.kind, made.hint) == (frozenset({"read", "log"}), "secret", text[: len(made.hint)])
    assert made.expires_at is not None
    assert (made.expires_at - made.created_at).days in {29, 30}


def test_a_key_may_last_until_it_is_revoked(browser: Calls, registry: KeyRegistry) -> None:
    assert browser("POST", "/keys", filled(name="forever", days="")).status_code == 201
    (made,) = [key for key in registry.list("default") if key.name == "forever"]
    assert made.expires_at is None


def test_a_publishable_key_may_only_log(browser: Calls, registry: KeyRegistry) -> None:
    form = filled(kind="publishable", scope=["read", "admin"], origins=f"{ORIGIN}\n http://localhost:3000 \n")
    (text,) = texts(page_of(browser("POST", "/keys", form), 201), ".new-key")
    (made,) = [key for key in registry.list("default") if key.kind == "publishable"]
    assert (made.scopes, made.origins) == (frozenset({"log"}), frozenset({ORIGIN, "http://localhost:3000"}))
    assert text.startswith("turnlog_pk_")


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (filled(kind="publishable"), "needs the origins"),
        (filled(origins=ORIGIN), "can't be used by web pages"),
        (filled(kind="publishable", origins=f"{ORIGIN}/a"), "exactly as browsers send it"),
        (filled(scope=[]), "can do nothing"),
        (filled(scope=["root"]), "from those that the form offers"),
        (filled(kind="golden"), "from those that the form offers"),
        (filled(days="99999"), "from those that the form offers"),
        (filled(name="x" * 201), "Name:"),
        (filled(name="a\0b"), "Name:"),
        ({}, "from those that the form offers"),
    ],
)
def test_a_form_that_makes_no_key_is_shown_again(
    browser: Calls, registry: KeyRegistry, form: dict[str, Any], told: str
) -> None:
    page = page_of(browser("POST", "/keys", form), 422)
    assert told in texts(page, "[role=alert]")[0]
    assert page.select_one("#name") is not None
    assert [key.name for key in registry.list()] == ["mine"]


def test_an_invalid_form_keeps_its_input(browser: Calls) -> None:
    page = page_of(browser("POST", "/keys", filled(name="<b>x", scope=["edit"], origins=ORIGIN, days="7")), 422)
    assert page.select_one("#name")["value"] == "<b>x"  # type: ignore[index]
    assert [each["value"] for each in page.select("input[name=scope][checked]")] == ["edit"]
    assert [each["value"] for each in page.select("option[selected]")] == ["7"]
    assert texts(page, "#origins") == [ORIGIN]


def test_a_key_is_revoked(browser: Calls, client: FlaskClient, registry: KeyRegistry) -> None:
    made = registry.create("default", "secret", {"read"}, name="old")
    page = page_of(browser("GET", "/keys"))
    (form,) = [each for each in page.select("form[action*=revoke]") if made.key.hint in each.get_text()]
    answer = browser("POST", str(form["action"]))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/keys?message=key-revoked")
    after = page_of(browser("GET", answer.headers["Location"]))
    assert "stops working within 30 seconds" in texts(after, "[role=status]")[0]
    assert any("old" in row and "revoked" in row for row in texts(after, "tbody tr"))
    assert not [each for each in after.select("form[action*=revoke]") if made.key.hint in each.get_text()]
    assert opens(client, made.text) == 401


def test_revoking_the_own_key_warns_first(browser: Calls, own: NewKey) -> None:
    assert "You signed in with this key" in texts(page_of(browser("GET", "/keys")), "tbody form")[0]
    assert own.key.hint in texts(page_of(browser("GET", "/keys")), "tbody form")[0]


def test_a_key_of_another_project_is_as_if_it_were_not_there(browser: Calls, registry: KeyRegistry) -> None:
    other = registry.create("shop", "secret", ALL_SCOPES)
    assert browser("POST", f"/keys/{other.key.id}/revoke").status_code == 404
    assert registry.list("shop")[0].revoked_at is None
    browser("POST", "/keys", filled(name="x"))
    assert [key.name for key in registry.list("shop")] == [None]


@pytest.mark.parametrize("path", ["/keys", "/keys/00000000-0000-4000-8000-000000000001/revoke"])
def test_only_an_admin_on_a_page_of_ours_makes_or_revokes(
    client: FlaskClient, own: NewKey, registry: KeyRegistry, path: str
) -> None:
    reader = registry.create("default", "secret", ALL_SCOPES - {"admin"})
    assert Calls(client, reader.text, {}).signed_in()("POST", path, filled()).status_code == 403
    elsewhere = Calls(client, own.text, {"Origin": "https://evil.example"}).signed_in()
    assert elsewhere("POST", path, filled()).status_code == 403
    assert len(registry.list()) == 2
