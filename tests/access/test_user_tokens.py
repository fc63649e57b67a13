"""A user's token is accepted only if the configured issuer signed it for this service's users."""

import contextlib
import gzip
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation.access.jwks import FETCH_S, FRESH_S, RETRY_S, STALE_S, UNKNOWN_S, KeySet, signing_key
from conversation.access.user_tokens import InvalidToken, SharedSecret, TokenUnverifiable, UserTokens, WrongTokenKind
from conversation.settings import Settings
from tests.issuers import ISSUER, USER, Publisher, SigningPair, claims, publishing, relabelled, signed_with_text

SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"  # noqa: S105
ELLIPTIC, RSA = SigningPair.es256("e1"), SigningPair.rs256("r1")
STRANGER = SigningPair.es256("e1")  # another key under the same id
NOW = int(time.time())


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing(ELLIPTIC, RSA) as publisher:
        yield publisher


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(publisher: Publisher, clock: Clock) -> UserTokens:
    return UserTokens(KeySet(publisher.url, clock), issuer=ISSUER)


@pytest.fixture
def shared() -> UserTokens:
    return UserTokens(SharedSecret(SECRET), issuer=ISSUER)


def with_secret(secret: str = SECRET, **changed: Any) -> str:
    return jwt.encode(claims(**changed), secret, "HS256")


def refusal(tokens: UserTokens, token: str) -> str:
    """Return why a token is refused; nothing of the token is in it, nor in what caused it."""
    with pytest.raises(InvalidToken) as caught:
        tokens.verify(token)
    error: BaseException | None = caught.value
    while error is not None:
        assert not token or token not in str(error)
        assert USER not in str(error)
        error = error.__cause__
    return caught.value.reason


@pytest.mark.parametrize("pair", [ELLIPTIC, RSA], ids=["ES256", "RS256"])
def test_a_token_signed_with_a_published_key_names_its_user(tokens: UserTokens, pair: SigningPair) -> None:
    assert tokens.verify(pair.sign()).user_id == USER
    assert tokens.verify(pair.sign(sub="another")).user_id == "another"


def test_a_token_signed_with_the_shared_secret_names_its_user(shared: UserTokens) -> None:
    assert shared.verify(with_secret()).user_id == USER


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"exp": 1_700_000_000}, "expired"),
        ({"exp": None}, "doesn't state exp"),
        ({"exp": "soon"}, "not a token"),
        ({"nbf": 4_000_000_000}, "not valid yet"),
        ({"iat": 4_000_000_000}, "not valid yet"),
        ({"iss": "https://other.supabase.co/auth/v1"}, "another issuer"),
        ({"iss": f"{ISSUER}/"}, "another issuer"),
        ({"iss": None}, "doesn't state iss"),
        ({"aud": "anon"}, "another audience"),
        ({"aud": ["x", "y"]}, "another audience"),
        ({"aud": None}, "doesn't state aud"),
        ({"role": "anon"}, "not one of a signed-in user"),
        ({"role": "service_role"}, "not one of a signed-in user"),
        ({"role": ["authenticated"]}, "not one of a signed-in user"),
        ({"role": None}, "not one of a signed-in user"),
        ({"sub": None}, "doesn't state sub"),
        ({"sub": ""}, "names no user"),
        ({"sub": "  "}, "names no user"),
        ({"sub": "a\nb"}, "names no user"),
        ({"sub": "\ud800"}, "names no user"),
        ({"sub": "x" * 201}, "names no user"),
        ({"is_anonymous": True}, "anonymous sign-in"),
        ({"is_anonymous": "true"}, "anonymous sign-in"),
    ],
    ids=str,
)
def test_the_claims_of_a_token_are_checked_for_every_key(
    tokens: UserTokens, shared: UserTokens, changed: dict[str, Any], said: str
) -> None:
    for reason in (refusal(tokens, ELLIPTIC.sign(**changed)), refusal(shared, with_secret(**changed))):
        assert said in reason
    if "exp" not in changed or isinstance(changed["exp"], int):
        with pytest.raises(WrongTokenKind):  # who sent it has guessed nothing
            tokens.verify(ELLIPTIC.sign(**changed))
    with pytest.raises(InvalidToken) as forged:
        tokens.verify(STRANGER.sign(**changed))
    assert not isinstance(forged.value, WrongTokenKind), "a claim is looked at only when the signature is good"


def test_clocks_may_differ_by_half_a_minute(tokens: UserTokens) -> None:
    now = int(time.time())
    assert tokens.verify(ELLIPTIC.sign(exp=now - 15, iat=now + 15, nbf=now + 15)).user_id == USER


def test_a_user_without_a_name_is_one_if_the_service_says_so(publisher: Publisher) -> None:
    tokens = UserTokens(KeySet(publisher.url), issuer=ISSUER, anonymous=True)
    assert tokens.verify(ELLIPTIC.sign(is_anonymous=True)).user_id == USER


def test_older_keys_of_a_project_are_no_users(shared: UserTokens) -> None:
    """Refuse Supabase's older `anon` and `service_role` keys: tokens that are signed with the same secret."""
    for role in ("anon", "service_role"):
        key = with_secret(iss="supabase", aud=None, sub=None, role=role)
        assert refusal(shared, key)


def test_the_algorithm_is_never_the_headers_choice(tokens: UserTokens, shared: UserTokens) -> None:
    header = {"typ": "JWT", "kid": ELLIPTIC.kid}
    unsigned = jwt.encode(claims(), "", "none", headers={"kid": ELLIPTIC.kid})
    forged = [
        unsigned,
        unsigned + "AA",
        signed_with_text(ELLIPTIC.public_pem(), header | {"alg": "HS256"}, claims()),
        signed_with_text(RSA.public_pem(), {"alg": "HS256", "kid": RSA.kid}, claims()),
        signed_with_text(b"", header | {"alg": "HS256"}, claims()),
        signed_with_text(SECRET.encode(), header | {"alg": "HS256"}, claims()),
        ELLIPTIC.sign(header={"kid": RSA.kid}),  # the one's signature under the other's id
        RSA.sign(header={"kid": ELLIPTIC.kid}),
        relabelled(ELLIPTIC.sign(), alg="RS256"),
        relabelled(ELLIPTIC.sign(), alg="none"),
        relabelled(ELLIPTIC.sign(), alg=None),
        jwt.encode(claims(), RSA.private, "RS512", headers={"kid": RSA.kid}),
        jwt.encode(claims(), RSA.private, "PS256", headers={"kid": RSA.kid}),
        STRANGER.sign(),
        STRANGER.sign(header={"jwk": STRANGER.published(), "jku": "http://127.0.0.1:1/keys"}),
        relabelled(ELLIPTIC.sign(), crit=["b64"], b64=False),
    ]
    for token in forged:
        assert refusal(tokens, token)
    for token in [
        unsigned,
        ELLIPTIC.sign(),
        RSA.sign(),
        with_secret("x" * 40),
        jwt.encode(claims(), SECRET * 2, "HS512"),
    ]:
        assert refusal(shared, token)


@pytest.mark.parametrize("kid", [None, "unknown", "", 1, ["e1"], {"e1": 1}, "e1\n"], ids=repr)
def test_a_token_must_name_a_key_that_is_published(tokens: UserTokens, kid: object) -> None:
    assert refusal(tokens, relabelled(ELLIPTIC.sign(), kid=kid))


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b", "a.b.c", "a.b.c.d", "..", "é.é.é", "a" * 9000, f"{'a' * 4000}.{'b' * 4000}.{'c' * 4000}",
     "e30.e30.e30", "bnVsbA.e30.e30", "W10.e30.e30", "turnlog_sk_0123456789", "\x00.\x00.\x00"],
    ids=lambda token: token[:12],
)  # fmt: skip
def test_a_malformed_token_is_refused(tokens: UserTokens, shared: UserTokens, token: str) -> None:
    assert refusal(tokens, token)
    assert refusal(shared, token)


@given(st.data())
def test_a_token_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    held = {ELLIPTIC.kid: ELLIPTIC, RSA.kid: RSA}
    with_keys = UserTokens(_Held(held), issuer=ISSUER)
    token = data.draw(st.sampled_from([_GOOD[ELLIPTIC.kid], _GOOD[RSA.kid]]))
    assert with_keys.verify(token).user_id == USER
    at = data.draw(st.integers(0, len(token) - 1), label="at")
    piece = data.draw(st.text("ABCXYZabcxyz019-_=.+/ \n", max_size=3), label="piece")
    changed = token[:at] + piece + token[at + data.draw(st.integers(0, 3), label="cut") :]
    if changed != token:
        assert refusal(with_keys, changed)
    assert refusal(with_keys, token + "=" * data.draw(st.integers(1, 3)))


class _Held:
    """Keys that need no server."""

    def __init__(self, pairs: dict[str, SigningPair]) -> None:
        self._keys = {kid: signing_key(pair.published()) for kid, pair in pairs.items()}

    def key(self, kid: object) -> Any:
        return self._keys.get(str(kid))


_GOOD = {pair.kid: pair.sign() for pair in (ELLIPTIC, RSA)}


def test_nothing_is_fetched_before_it_is_needed_and_then_once(
    publisher: Publisher, tokens: UserTokens, clock: Clock
) -> None:
    assert publisher.asked == 0
    for _ in range(5):
        tokens.verify(ELLIPTIC.sign())
    assert publisher.asked == 1
    clock.now += FRESH_S + 1
    tokens.verify(RSA.sign())
    assert publisher.asked == 2


def test_a_new_key_is_found_and_a_withdrawn_one_is_forgotten(
    publisher: Publisher, tokens: UserTokens, clock: Clock
) -> None:
    assert tokens.verify(ELLIPTIC.sign()).user_id == USER
    new = SigningPair.es256("e2")
    publisher.keys = [new.published()]
    assert tokens.verify(new.sign()).user_id == USER
    assert "doesn't have" in refusal(tokens, ELLIPTIC.sign())


def test_a_withdrawn_key_is_accepted_only_while_the_set_is_fresh(
    publisher: Publisher, tokens: UserTokens, clock: Clock
) -> None:
    assert tokens.verify(ELLIPTIC.sign()).user_id == USER
    publisher.keys = [RSA.published()]
    clock.now += FRESH_S + 1
    assert "doesn't have" in refusal(tokens, ELLIPTIC.sign())


def test_made_up_key_ids_don_t_make_us_ask_again_and_again(
    publisher: Publisher, tokens: UserTokens, clock: Clock
) -> None:
    for number in range(50):
        assert refusal(tokens, ELLIPTIC.sign(header={"kid": f"made-up-{number}"}))
    assert publisher.asked == 2, "the set, and once more for an id that it doesn't hold"
    clock.now += UNKNOWN_S
    for number in range(50):
        assert refusal(tokens, ELLIPTIC.sign(header={"kid": f"made-up-{number}"}))
    assert publisher.asked == 3
    assert tokens.verify(ELLIPTIC.sign()).user_id == USER


def test_while_the_issuer_is_away_its_keys_serve_for_ten_minutes(
    publisher: Publisher, tokens: UserTokens, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert tokens.verify(ELLIPTIC.sign()).user_id == USER
    publisher.status = 503
    clock.now += FRESH_S + 1
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            assert tokens.verify(ELLIPTIC.sign()).user_id == USER
    assert publisher.asked == 2, "it is not asked for each call"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert publisher.url in caplog.text
    with pytest.raises(TokenUnverifiable):
        tokens.verify(SigningPair.es256("new").sign())  # it may be a new key
    clock.now += STALE_S - 2
    assert tokens.verify(ELLIPTIC.sign()).user_id == USER
    clock.now += 2
    with pytest.raises(TokenUnverifiable):
        tokens.verify(ELLIPTIC.sign())
    publisher.status = 200
    clock.now += RETRY_S
    assert tokens.verify(ELLIPTIC.sign()).user_id == USER


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, None), (404, None), (302, None), (200, b"<html>"), (200, b"[]"), (200, b'{"keys": {}}'),
     (200, b'{"keys": []}'),
     (200, b'{"keys": [{"kty": "oct", "kid": "e1", "k": "c2VjcmV0"}]}'), (200, b'{"keys": [null, 1, {}]}'), (200, b""),
     (200, b'{"keys": [' + b" " * 300_000 + b"]}"), (200, b"\xff")],
    ids=lambda value: repr(value)[:24],
)  # fmt: skip
def test_a_set_that_is_none_proves_nothing(
    publisher: Publisher, tokens: UserTokens, clock: Clock, status: int, body: bytes | None
) -> None:
    publisher.status, publisher.body = status, body
    for _ in range(5):
        with pytest.raises(TokenUnverifiable):
            tokens.verify(ELLIPTIC.sign())
    assert publisher.asked == 1, "a failure isn't repeated for each call"
    publisher.status, publisher.body = 200, None
    clock.now += RETRY_S
    assert tokens.verify(ELLIPTIC.sign()).user_id == USER


@pytest.mark.parametrize(
    "member",
    [
        {"use": "enc"},
        {"alg": "ES384"},
        {"alg": "HS256"},
        {"key_ops": ["sign"]},
        {"key_ops": None},
        {"key_ops": 5},
        {"crv": "P-384"},
        {"kid": None},
        {"kid": 7},
        {"x": "AAAA"},
        {"x": 5},
        {"kty": "RSA"},
    ],
    ids=str,
)
def test_a_key_that_is_for_something_else_signs_nothing(publisher: Publisher, member: dict[str, Any]) -> None:
    publisher.keys = [ELLIPTIC.published(**member), RSA.published()]
    tokens = UserTokens(KeySet(publisher.url), issuer=ISSUER)
    assert refusal(tokens, ELLIPTIC.sign())
    assert tokens.verify(RSA.sign()).user_id == USER


def test_a_short_key_signs_nothing(publisher: Publisher) -> None:
    short = SigningPair.rs256("short", bits=1024)
    publisher.keys = [short.published(), ELLIPTIC.published()]
    tokens = UserTokens(KeySet(publisher.url), issuer=ISSUER)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = short.sign()
    assert "doesn't have" in refusal(tokens, token)


def test_a_keys_use_and_algorithm_are_optional(publisher: Publisher) -> None:
    publisher.keys = [
        {name: value for name, value in pair.published().items() if name not in {"alg", "use", "key_ops"}}
        for pair in (ELLIPTIC, RSA)
    ]
    tokens = UserTokens(KeySet(publisher.url), issuer=ISSUER)
    assert [tokens.verify(pair.sign()).user_id for pair in (ELLIPTIC, RSA)] == [USER, USER]


def test_an_issuer_that_drips_holds_nobody_up(publisher: Publisher) -> None:
    publisher.drip_s = 0.1
    tokens = UserTokens(KeySet(publisher.url), issuer=ISSUER)
    begun = time.monotonic()
    with pytest.raises(TokenUnverifiable):
        tokens.verify(ELLIPTIC.sign())
    assert time.monotonic() - begun < FETCH_S + 8  # each byte in time would take a minute


def test_nobody_there_proves_nothing(tokens: UserTokens) -> None:
    nobody = UserTokens(KeySet("http://127.0.0.1:1/keys"), issuer=ISSUER)
    with pytest.raises(TokenUnverifiable) as caught:
        nobody.verify(ELLIPTIC.sign())
    assert caught.value.retry_after > 0


def test_many_at_once_fetch_once(publisher: Publisher, tokens: UserTokens) -> None:
    users: list[str] = []
    begin = threading.Barrier(16)

    def call() -> None:
        token = ELLIPTIC.sign()
        begin.wait()
        users.append(tokens.verify(token).user_id)

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert users == [USER] * 16
    assert publisher.asked == 1


def test_during_a_fetch_other_callers_get_the_cached_set(
    publisher: Publisher, tokens: UserTokens, clock: Clock
) -> None:
    assert tokens.verify(ELLIPTIC.sign()).user_id == USER
    clock.now += FRESH_S + 1
    publisher.drip_s = 60
    slow = threading.Thread(target=tokens.verify, args=(ELLIPTIC.sign(),))
    slow.start()
    give_up = time.monotonic() + 30
    while publisher.asked < 2:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert tokens.verify(RSA.sign()).user_id == USER
    assert slow.is_alive(), "the other one still fetches"
    slow.join()


def test_while_the_issuer_fails_only_one_caller_waits_for_it(
    publisher: Publisher, tokens: UserTokens, clock: Clock
) -> None:
    publisher.status = 500
    with pytest.raises(TokenUnverifiable):
        tokens.verify(ELLIPTIC.sign())
    clock.now += RETRY_S
    publisher.status, publisher.drip_s = 200, 60
    refused = []

    def call() -> None:
        with pytest.raises(TokenUnverifiable) as caught:
            tokens.verify(ELLIPTIC.sign())
        refused.append(caught.value)

    slow = threading.Thread(target=call)
    slow.start()
    give_up = time.monotonic() + 30
    while publisher.asked < 2:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    for _ in range(20):
        with pytest.raises(TokenUnverifiable):
            tokens.verify(RSA.sign())
    assert refused == [], "the others waited for the slow fetch"
    slow.join()
    assert len(refused) == 1


@pytest.mark.parametrize("answer", ["endless body", "endless heads", "gzip", "redirect"])
def test_a_hostile_issuer_is_read_no_further_than_it_is_worth(answer: str) -> None:
    """Answer by hand: what is sent is counted, and nothing is asked elsewhere."""
    keys = json.dumps({"keys": [ELLIPTIC.published()]}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = {
            "endless body": head + b"\r\n" + b" " * 2**16,
            "endless heads": head + b"X: " + b"y" * 2**16,
            "gzip": head + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(keys),
            "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/inner\r\nContent-Length: 0\r\n\r\n"
            % port,
        }[answer]
        asked, sent = [], []

        def serve() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return  # the test is over
                with caller, contextlib.suppress(OSError):
                    asked.append(caller.recv(65536))
                    caller.sendall(said)
                    sent.append(len(said))
                    while answer.startswith("endless"):
                        caller.sendall(b" " * 2**16)
                        sent.append(2**16)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with pytest.raises(TokenUnverifiable):
                UserTokens(KeySet(f"http://127.0.0.1:{port}/keys"), issuer=ISSUER).verify(ELLIPTIC.sign())
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert len(asked) == 1
    assert b"accept-encoding: identity" in asked[0].lower()
    assert sum(sent) < 2**24, "what the sockets' buffers hold, and a little"


def test_a_set_with_as_many_keys_as_fit_is_read(publisher: Publisher) -> None:
    spare = {name: ELLIPTIC.published()[name] for name in ("kty", "crv", "x", "y")}
    publisher.keys = [spare | {"kid": f"k{n}"} for n in range(1_500)] + [ELLIPTIC.published()]
    assert len(publisher.answer()) < 256 * 1024
    assert UserTokens(KeySet(publisher.url), issuer=ISSUER).verify(ELLIPTIC.sign()).user_id == USER


def test_the_settings_choose_how_tokens_are_verified(publisher: Publisher) -> None:
    off = Settings.from_mapping({})
    assert UserTokens.of(off) is None
    keys = {"TURNLOG_USER_TOKENS": "jwks", "TURNLOG_JWKS_URL": publisher.url, "TURNLOG_JWT_ISSUER": ISSUER}
    by_keys = UserTokens.of(Settings.from_mapping(keys))
    secret = {"TURNLOG_USER_TOKENS": "hs256", "TURNLOG_JWT_SECRET": SECRET, "TURNLOG_JWT_ISSUER": ISSUER}
    by_secret = UserTokens.of(Settings.from_mapping(secret | {"TURNLOG_ANONYMOUS_USERS": "true"}))
    assert by_keys is not None
    assert by_secret is not None
    assert by_keys.verify(ELLIPTIC.sign()).user_id == USER
    assert by_secret.verify(with_secret(is_anonymous=True)).user_id == USER
    assert refusal(by_keys, with_secret())
    assert refusal(by_secret, ELLIPTIC.sign())


def test_a_supabase_project_is_its_own_issuer() -> None:
    project = {"SUPABASE_URL": "https://abcdefgh.supabase.co/", "SUPABASE_SECRET_KEY": "key"}
    settings = Settings.from_mapping(project | {"TURNLOG_USER_TOKENS": "jwks"})
    assert settings.jwks_url == "https://abcdefgh.supabase.co/auth/v1/.well-known/jwks.json"
    assert settings.jwt_issuer == ISSUER


def test_mangled_headers_never_verify(tokens: UserTokens) -> None:
    generator = random.Random(5)
    good = ELLIPTIC.sign()
    for _ in range(300):
        bits = bytearray(good.encode())
        bits[generator.randrange(len(bits))] ^= 1 << generator.randrange(7)
        assert refusal(tokens, bits.decode("latin-1"))
