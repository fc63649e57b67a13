"""With TLS, no other host can set or read the sign-in cookie."""

import contextlib
import datetime as dt
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.sync_api import Browser

from tests.databases import TestServer
from tests.pages import tabs
from tests.pages.conftest import OPERATOR
from tests.pages.tabs import Tab
from tests.service import launch

_START_S = 60


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key and a certificate of localhost that it signed itself."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]),
    )
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture(scope="module")
def url(postgres_server: TestServer, certificate: Path) -> Iterator[str]:
    """Yield the address of a service that speaks TLS itself."""
    with postgres_server.database() as name:
        environment = {
            "DATABASE_URL": postgres_server.conninfo(name),
            "TURNLOG_API_KEY": OPERATOR,
            "GUNICORN_CMD_ARGS": f"--certfile={certificate} --keyfile={certificate}",
        }
        with launch(environment, workers=1) as service:
            url = f"https://localhost:{urlsplit(service.url).port}"
            trust = ssl.create_default_context(cafile=certificate)
            give_up = time.monotonic() + _START_S
            with httpx.Client(verify=trust) as client:
                while not _answers(client, url):
                    assert time.monotonic() < give_up
                    time.sleep(0.05)
            yield url


@pytest.fixture
def tls_tab(chromium: Browser, url: str) -> Iterator[Tab]:
    with tabs.opened(chromium, url, ignore_https_errors=True) as tab:
        yield tab


def _answers(client: httpx.Client, url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get(f"{url}/readyz").status_code == httpx.codes.OK
    return False


def test_the_cookie_is_of_this_host_alone(tls_tab: Tab) -> None:
    tls_tab.open("/sign-in?next=/sessions")
    tls_tab.sign_in(OPERATOR)
    assert tls_tab.path == "/sessions"
    (cookie,) = tls_tab.context.cookies()
    assert cookie["name"] == "__Host-turnlog"
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, True, "Lax", "/")
    assert cookie["domain"] == "localhost"  # no dot before it: no host below it is given the cookie
    tls_tab.send("Sign out")
    assert tls_tab.context.cookies() == []


def test_a_cookie_that_was_set_without_tls_signs_nobody_in(tls_tab: Tab) -> None:
    tls_tab.open("/sign-in?next=/sessions")
    tls_tab.sign_in(OPERATOR)
    (cookie,) = tls_tab.context.cookies()
    tls_tab.context.clear_cookies()
    tls_tab.context.add_cookies(
        [
            {
                "name": f"turnlog-{urlsplit(tls_tab.url).port}",
                "value": cookie["value"],
                "url": tls_tab.url,
                "secure": True,
                "httpOnly": True,
            }
        ]
    )
    tls_tab.open("/sessions")
    assert tls_tab.path == "/sign-in?next=/sessions"
