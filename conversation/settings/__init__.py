"""All settings, read from one mapping of strings; nothing else reads the environment.

An empty value counts as unset, so that a compose file may pass variables through. Secrets print as asterisks. Settings
that contradict each other and unknown `TURNLOG_…` variables end the start with one sentence.
"""

import hashlib
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from conversation.settings import redaction_types
from conversation.settings.redaction_types import RedactedKind
from conversation.settings.value_types import (
    KeySetUrl,
    LimitsStore,
    Origins,
    Rate,
    SharedSecretText,
    check_user_tokens,
    connection_string,
    is_loopback,
    time_zone,
)
from logging_store.errors import Misconfigured
from logging_store.postgres import conninfo
from logging_store.spool_folders import SpoolFolders

__all__ = ["Settings", "StoreKind", "is_loopback"]

StoreKind = Literal["embedded", "postgres", "supabase"]

_OURS = "TURNLOG_"
#: Valid names of projects.
PROJECT = r"^[\w.-]{1,100}$"
#: Variables of callers, who may share an environment with the service; not settings of it.
CALLERS = frozenset({"TURNLOG_KEY", "TURNLOG_URL", "TURNLOG_SPOOL"})
_SHORTEST_KEY = 16  # characters; shorter keys are easily guessed


def _validate_supabase_url(value: object) -> object:
    """Refuse a malformed URL without quoting it: it may hold a password."""
    url = urlsplit(str(value))
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must be the project's URL, as in https://abcdefgh.supabase.co")
    return value


def _validate_api_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if not (len(key) >= _SHORTEST_KEY and key.isascii() and key.isprintable() and key == key.strip()):
        raise ValueError(f"must be {_SHORTEST_KEY} or more visible ASCII characters, as in openssl rand -hex 24")
    return value


class Settings(BaseModel):
    """Each field is named by the environment variable that sets it, in lower case.

    The texts below the fields are the table of docs/configuration.md; `make docs` copies them there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    database_url: Annotated[SecretStr, BeforeValidator(connection_string)] | None = None
    """Connection string of your PostgreSQL. Without it and `SUPABASE_URL`, Turnlog runs an embedded one."""
    supabase_url: Annotated[str, BeforeValidator(_validate_supabase_url)] | None = None
    """Address of your Supabase project, as in `https://abcdefgh.supabase.co`."""
    supabase_secret_key: SecretStr | None = None
    """The project's secret key (`sb_secret_…`)."""
    supabase_service_role_key: SecretStr | None = None
    """The project's older `service_role` key, used if `SUPABASE_SECRET_KEY` is not set."""
    data_dir: Path = Path("data")
    """Where the embedded PostgreSQL keeps its files and, with every store, the spool (`spool/…`, a folder for each
    database). Keep it on a disk that stays."""
    port: int = Field(default=8000, ge=1, le=65535)
    """The TCP port to listen on."""

    turnlog_host: str = "127.0.0.1"
    """The address to listen on."""
    turnlog_keyless: bool = False
    """Calls from this machine need no key. Not allowed with a `TURNLOG_HOST` beyond loopback, or with
    `TURNLOG_PROXIES`. Not for use behind a reverse proxy: calls with `X-Forwarded-…` or `Forwarded` are refused, and
    with a proxy that adds neither, every caller looks local."""
    turnlog_api_key: Annotated[SecretStr, AfterValidator(_validate_api_key)] | None = None
    """A secret key with all scopes, of 16 characters or more, in addition to those of `turnlog keys`."""
    turnlog_project: str = Field(default="default", pattern=PROJECT)
    """The project of `TURNLOG_API_KEY`, of calls without a key, and of the commands. Other keys have a project of
    their own."""
    turnlog_workers: int = Field(default=2, ge=1, le=64)
    """Worker processes."""
    turnlog_threads: int = Field(default=16, ge=1, le=256)
    """Requests at once in each worker. Eight times as many clients may be slow."""
    turnlog_pool_size: int = Field(default=8, ge=1, le=100)
    """Connections to the store, for each worker."""
    turnlog_deadline_s: float = Field(default=10, ge=1, le=300)
    """Seconds until a call has its response, whatever the store does: half for the store, half for a write's turn and
    for a ping."""
    turnlog_spool_max_mb: int = Field(default=1024, ge=1)
    """Megabytes that the spool may hold. Its last quarter is reserved for calls with secret keys."""
    turnlog_spool_min_free_mb: int = Field(default=256, ge=0)
    """Megabytes that the spool leaves free on its disk."""
    turnlog_unstorable: Literal["replace", "reject"] = "replace"
    """Values that can't be stored as they are. `replace`: NUL becomes `␀`, half of a surrogate pair `�`,
    and a whole number past 2^53 in metadata or messages a text; the receipt lists them as `altered`. `reject`: the
    record is rejected, with the path."""
    turnlog_time_zone: Annotated[str, AfterValidator(time_zone)] | None = None
    """The zone of times without one in calls, as in `Europe/Berlin`. Without it, such a time is rejected."""
    turnlog_redact: Annotated[tuple[RedactedKind, ...], BeforeValidator(redaction_types.listed)] = ()
    """What is redacted before it is stored: a list of `secrets`, `mail`, `card`, `ip`, `phone`."""
    turnlog_redact_patterns: Annotated[dict[str, str], BeforeValidator(redaction_types.patterns)] = Field(
        default_factory=dict
    )
    """More that is redacted: a JSON object of names and regular expressions (RE2 syntax)."""
    turnlog_redact_failure: Literal["closed", "open"] = "closed"
    """`closed`: a record that can't be redacted is rejected. `open`: it is stored as it was sent."""
    turnlog_redact_gitleaks: FilePath | None = None
    """A `gitleaks.toml` whose rules find further secrets."""
    turnlog_redact_phone_regions: Annotated[tuple[str, ...], BeforeValidator(redaction_types.regions)] = ("US", "CA")
    """Regions whose telephone numbers are found without a `+`: ISO 3166 codes."""
    turnlog_prices: FilePath | None = None
    """A JSON file with prices of your own, which come before the public ones: see
    [Prices of your own](api.md#prices-of-your-own)."""
    turnlog_import_key: SecretStr | None = None
    """The secret key of the Supabase project that `turnlog import --from-database https://…` reads."""
    turnlog_keep_days: int | None = Field(default=None, ge=1, le=36500)
    """`turnlog expire` deletes sessions idle for this many days, unless their project has its own number."""
    turnlog_keep_text_days: int | None = Field(default=None, ge=1, le=36500)
    """`turnlog expire` removes the texts of sessions idle for this many days, unless their project has its own number.
    Counts, tokens, cost and times stay."""
    turnlog_audit_reads: bool = False
    """Record who reads whose conversations; `turnlog audit` lists it: see
    [Who read what](security.md#who-read-what)."""
    turnlog_audit_keep_days: int = Field(default=365, ge=1, le=36500)
    """`turnlog expire` deletes records of reads older than this many days."""
    turnlog_user_tokens: Literal["jwks", "hs256"] | None = None
    """`jwks` or `hs256`: users may call with the token of your sign-in, signed with published keys or with a shared
    secret."""
    turnlog_jwks_url: KeySetUrl | None = None
    """For `jwks`: where the keys are published. Default: `SUPABASE_URL/auth/v1/.well-known/jwks.json`."""
    turnlog_jwt_secret: SharedSecretText | None = None
    """For `hs256`: the project's JWT secret, of 32 characters or more."""
    turnlog_jwt_issuer: str | None = None
    """The required issuer of a token (`iss`). Default: `SUPABASE_URL/auth/v1`."""
    turnlog_jwt_audience: str = "authenticated"
    """The required audience of a token (`aud`)."""
    turnlog_anonymous_users: bool = False
    """Accept users of Supabase's anonymous sign-ins, too."""
    turnlog_user_origins: Origins = frozenset()
    """The origins of pages that users call from, as in `https://app.example.com,https://…`."""
    turnlog_refusals_per_address: Rate = "60/minute"
    """Failed authentications per address and window; then the address gets 429 until the window ends. `off`, or a
    number per `second`, `minute`, `hour` or `day`; so are the next five."""
    turnlog_rate_per_address: Rate = "600/minute"
    """Calls of browsers at one address, with publishable keys or users' tokens."""
    turnlog_rate_per_key: Rate = "off"
    """Calls of each secret key."""
    turnlog_heavy_reads_per_key: Rate = "600/minute"
    """Searches, overviews, usage, exports and filtered lists of each secret key, in addition. Each worker serves two at
    once."""
    turnlog_rate_per_publishable_key: Rate = "6000/minute"
    """Calls of each publishable key, from all browsers together."""
    turnlog_rate_per_user: Rate = "600/minute"
    """Calls of each user with a token of their own."""
    turnlog_publishable_sessions_per_day: int = Field(default=10_000, ge=1, le=10**9)
    """Sessions that each publishable key may create in a day."""
    turnlog_publishable_mb_per_day: int = Field(default=1024, ge=1, le=10**9)
    """Megabytes that each publishable key may send in a day, after decompression."""
    turnlog_limits_store: LimitsStore = SecretStr("memory")
    """Where calls are counted: `memory`, for all processes of this machine (`DATA_DIR/limits`), or `redis://…`
    (`rediss://…`), for all machines."""
    turnlog_proxies: int = Field(default=0, ge=0, le=10)
    """How many reverse proxies of yours a call passes. The caller's address is the one that the first of them saw."""

    @classmethod
    def from_environment(cls) -> Self:
        return cls.from_mapping(os.environ)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str]) -> Self:
        """Read the settings from strings. Raises `Misconfigured` with one sentence that names the variable."""
        known = {name.upper(): name for name in cls.model_fields}
        if unknown := sorted(name for name in mapping if name.startswith(_OURS) and name not in {*known, *CALLERS}):
            raise Misconfigured(_unknown(unknown[0], sorted(known)))
        values = {field: mapping[variable] for variable, field in known.items() if mapping.get(variable)}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise Misconfigured(_sentence(error.errors(include_url=False)[0])) from None

    @classmethod
    def without_ours(cls, mapping: Mapping[str, str]) -> dict[str, str]:
        """Return an environment without the variables of Turnlog, some of them secret: for programs of others."""
        ours = {name.upper() for name in cls.model_fields}
        return {name: value for name, value in mapping.items() if name not in ours and not name.startswith(_OURS)}

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.database_url and self.supabase_url:
            raise ValueError("DATABASE_URL and SUPABASE_URL are both set: keep the one that holds the log")
        if self.supabase_url and not self.supabase_key:
            raise ValueError("SUPABASE_URL is set without SUPABASE_SECRET_KEY: add the project's secret key")
        if self.supabase_key and not self.supabase_url:
            raise ValueError("SUPABASE_SECRET_KEY is set without SUPABASE_URL: add the project's URL")
        if self.turnlog_keyless and self.turnlog_api_key:
            raise ValueError("TURNLOG_KEYLESS and TURNLOG_API_KEY are both set: require a key, or none")
        if self.turnlog_keyless and self.turnlog_proxies:
            raise ValueError(
                "TURNLOG_KEYLESS and TURNLOG_PROXIES are both set: callers behind the proxy look like this "
                "machine, so require keys"
            )
        if self.turnlog_keyless and not is_loopback(self.turnlog_host):
            raise ValueError(
                f"TURNLOG_HOST is {self.turnlog_host}, where others can reach it, and TURNLOG_KEYLESS is set: "
                "require keys, or listen on 127.0.0.1"
            )
        for setting, kind in redaction_types.NEEDS.items():
            if setting in self.model_fields_set and kind not in self.turnlog_redact:
                raise ValueError(f"{setting.upper()} is set, and TURNLOG_REDACT doesn't name {kind}: add it there")
        check_user_tokens(self)
        return self

    @property
    def time_zone(self) -> ZoneInfo | None:
        """The zone of times that state none."""
        return ZoneInfo(self.turnlog_time_zone) if self.turnlog_time_zone else None

    @property
    def redacted(self) -> tuple[str, ...]:
        """The names of what is redacted in texts before they are stored."""
        return (*self.turnlog_redact, *self.turnlog_redact_patterns)

    @property
    def supabase_key(self) -> SecretStr | None:
        return self.supabase_secret_key or self.supabase_service_role_key

    @property
    def jwks_url(self) -> str:
        """The URL of the key set that verifies users' tokens."""
        return self.turnlog_jwks_url or f"{self.supabase_auth}/.well-known/jwks.json"

    @property
    def jwt_issuer(self) -> str:
        return self.turnlog_jwt_issuer or self.supabase_auth

    @property
    def supabase_auth(self) -> str:
        return f"{(self.supabase_url or '').rstrip('/')}/auth/v1"

    @property
    def address(self) -> str:
        """A name for the store's address, for files that belong to it; the same for every user and password."""
        if self.supabase_url:
            where = urlsplit(self.supabase_url).netloc
        elif self.database_url:
            parts = conninfo.parse(self.database_url.get_secret_value())
            where = " ".join(parts.get(name, "") for name in ("host", "hostaddr", "port", "dbname"))
        else:
            return self.store_kind
        return f"{self.store_kind}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"

    @property
    def spool_folders(self) -> SpoolFolders:
        """The folders of this machine's spool, as seen from the store's address."""
        return SpoolFolders(self.data_dir / "spool", self.address)

    @property
    def spool_dir(self) -> Path:
        """The folder of the spool of the database that answered last at the store's address."""
        return self.spool_folders.path

    @property
    def url(self) -> str:
        """The URL of the service for a browser on this machine."""
        host = self.turnlog_host if self.turnlog_host not in {"0.0.0.0", "::"} else "127.0.0.1"  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def store_kind(self) -> StoreKind:
        if self.supabase_url:
            return "supabase"
        return "postgres" if self.database_url else "embedded"


def _unknown(name: str, known: list[str]) -> str:
    bare = name.removeprefix(_OURS)  # some settings have names that other programs share, as PORT
    likely = [bare] if bare in known else get_close_matches(name, known, 1)
    more = f"Did you mean {likely[0]}?" if likely else f"There are: {', '.join(known)}"
    return f"{name} is not a setting of Turnlog. {more}"


def _sentence(error: ErrorDetails) -> str:
    from conversation.refusals import validation_messages  # noqa: PLC0415 - only a wrong setting needs it

    message = validation_messages.sentence(error)
    variable = ".".join(str(part) for part in error["loc"]).upper()
    if not variable:
        return message
    is_code = message[1:2].isupper()  # as in UK
    return f"{variable}: {message}" if is_code else f"{variable}: {message[:1].lower()}{message[1:]}"
