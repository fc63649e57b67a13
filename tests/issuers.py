"""An issuer of users' tokens, as Supabase Auth is one: its keys, its tokens, and a server that publishes the keys."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER = "https://abcdefgh.supabase.co/auth/v1"
USER = "5f0c7a52-6a53-4c58-9d1f-7f7a60a3c9aa"


@dataclass(frozen=True)
class SigningPair:
    """A private key and what is published of it."""

    kid: str
    algorithm: str
    private: Any

    @classmethod
    def es256(cls, kid: str) -> "SigningPair":
        return cls(kid, "ES256", ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def rs256(cls, kid: str, bits: int = 2048) -> "SigningPair":
        return cls(kid, "RS256", rsa.generate_private_key(public_exponent=65537, key_size=bits))

    def published(self, **more: Any) -> dict[str, Any]:
        of = ECAlgorithm if self.algorithm == "ES256" else RSAAlgorithm
        member: dict[str, Any] = of.to_jwk(self.private.public_key(), as_dict=True)
        return member | {"kid": self.kid, "alg": self.algorithm, "use": "sig", "key_ops": ["verify"]} | more

    def public_pem(self) -> bytes:
        pem: bytes = self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem

    def sign(self, **changed: Any) -> str:
        """Return a user's token; `header` changes the header, a claim of None is left out."""
        header = {"kid": self.kid} | changed.pop("header", {})
        return jwt.encode(claims(**changed), self.private, self.algorithm, headers=header)


def claims(**changed: Any) -> dict[str, Any]:
    """Return what a user's token states."""
    now = int(time.time())
    stated = {
        "iss": ISSUER, "aud": "authenticated", "sub": USER, "role": "authenticated", "is_anonymous": False,
        "iat": now, "exp": now + 3600, "email": "ada@example.com", "session_id": "8c7cbb1e-1a6d-4a6c-8a3c-0c8f8c1b1d11",
    } | changed  # fmt: skip
    return {name: value for name, value in stated.items() if value is not None}


def signed_with_text(secret: bytes, header: Mapping[str, Any], stated: Mapping[str, Any]) -> str:
    """Return a token signed with HMAC by hand: PyJWT won't sign with a public key."""
    parts = [_base64(json.dumps(part).encode()) for part in (header, stated)]
    signature = hmac.new(secret, ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, _base64(signature)])


def relabelled(token: str, **header: object) -> str:
    """Return a token with other words in its header, and the signature that it had."""
    stated, _, rest = token.partition(".")
    changed = json.loads(base64.urlsafe_b64decode(stated + "==")) | header
    return f"{_base64(json.dumps(changed).encode())}.{rest}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass
class Publisher:
    """A JWKS server on loopback. What it answers can be changed while it runs."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None  # instead of the keys
    drip_s: float = 0  # between two bytes
    asked: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/auth/v1/.well-known/jwks.json"

    def answer(self) -> bytes:
        return json.dumps({"keys": self.keys}).encode() if self.body is None else self.body


@contextmanager
def publishing(*pairs: SigningPair) -> Iterator[Publisher]:
    publisher = Publisher([pair.published() for pair in pairs])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            publisher.asked += 1
            body = publisher.answer()
            self.send_response(publisher.status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            step = 1 if publisher.drip_s else len(body)
            try:
                for at in range(0, len(body), step or 1):
                    self.wfile.write(body[at : at + step])
                    time.sleep(publisher.drip_s)
            except OSError:
                return  # the client has had enough

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        publisher.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield publisher
        finally:
            server.shutdown()
            thread.join()
