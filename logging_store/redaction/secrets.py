"""Finds keys, tokens and passwords by the formats that their issuers document."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from logging_store.redaction.linear_regex import Pattern, Span


class _Format(NamedTuple):
    """The format of one kind of secret: the first group is the secret, or else the whole match.

    `mixed`: only count matches with digits and letters; others are words.
    """

    expression: str
    mixed: bool = False


_SAFE = r"[A-Za-z0-9_-]"
_PRIVATE_KEY = r"[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?"

_FORMATS = (
    _Format(rf"\bturnlog_(?:sk|pk|st)_[A-Za-z0-9_.-]*{_SAFE}"),
    _Format(r"\bgh[opsur]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_[A-Za-z0-9_]{22,255}\b"),
    _Format(rf"\bgl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|oas)-{_SAFE}{{20,}}"),
    _Format(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    _Format(rf"\bAIza{_SAFE}{{35}}|\bya29\.{_SAFE}{{20,}}|\bGOCSPX-{_SAFE}{{28}}"),
    _Format(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-\d-[A-Za-z0-9-]{10,}"),
    _Format(r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_+-]+"),
    _Format(r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|\bwhsec_[A-Za-z0-9+/=]{24,}"),
    _Format(rf"\bsb_secret_{_SAFE}{{20,}}|\bsbp_[0-9a-f]{{40}}"),
    _Format(rf"\bsk-{_SAFE}{{20,}}", mixed=True),  # OpenAI, Anthropic, OpenRouter, DeepSeek …
    _Format(r"\bhf_[A-Za-z0-9]{30,}|\bgsk_[A-Za-z0-9]{40,}|\bxai-[A-Za-z0-9]{40,}|\bpplx-[A-Za-z0-9]{40,}"),
    _Format(rf"\bnpm_[A-Za-z0-9]{{36}}|\bpypi-AgE{_SAFE}{{50,}}|\brubygems_[0-9a-f]{{48}}"),
    _Format(rf"\bSG\.{_SAFE}{{16,}}\.{_SAFE}{{16,}}|\b(?:AC|SK)[0-9a-f]{{32}}\b"),  # SendGrid, Twilio
    _Format(r"\bdo[opr]_v1_[0-9a-f]{64}|\bdapi[0-9a-f]{32}\b|\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    _Format(rf"\bhv[sbr]\.{_SAFE}{{24,}}|\bglsa_[A-Za-z0-9]{{32}}_[0-9a-f]{{8}}|\blin_api_[A-Za-z0-9]{{40}}"),
    _Format(
        rf"\b\d{{8,10}}:AA{_SAFE}{{33}}|\b[MNO]{_SAFE}{{23,27}}\.{_SAFE}{{6}}\.{_SAFE}{{27,38}}"
    ),  # Telegram, Discord
    _Format(rf"\beyJ{_SAFE}{{10,}}\.eyJ{_SAFE}{{10,}}\.{_SAFE}*"),  # JSON web tokens
    _Format(r"AGE-SECRET-KEY-1[A-Z0-9]{58}"),
    # the whole key, even if its end is cut off
    _Format(rf"-----BEGIN {_PRIVATE_KEY}-----(?:[^-]|-[^-])*(?:-----END {_PRIVATE_KEY}-----)?"),
    _Format(r"[A-Za-z][A-Za-z0-9+.-]*://([^\s/:@\"'<>]*:[^\s/@\"'<>]+)@"),  # in a connection string
    _Format(r"(?i)\b(?:bearer|basic)[ \t]+([A-Za-z0-9._~+/=-]{16,})", mixed=True),
    _Format(
        r"(?i)(?:pass(?:word|wd|phrase)|pwd|secret|api[_-]?key|access[_-]?key|private[_-]?key|token)"
        r"""[\\"']{0,3}[ \t]*(?:=>|:=|[:=])[ \t]*[\\"']{0,3}([A-Za-z0-9_.~!@#$%^&*+/=?-]{8,})""",
        mixed=True,
    ),
)

_DIGIT, _LETTER = re.compile(rb"\d"), re.compile(rb"[A-Za-z]")


class Secrets:
    """Finds secrets of many issuers. The name of a password or a key stays, as does a URL around it."""

    name, marker = "secrets", "[secret]"
    hint = "|".join(f"(?:{form.expression})" for form in _FORMATS)

    def __init__(self) -> None:
        self._formats = [(Pattern(form.expression), form.mixed) for form in _FORMATS]
        self._any = Pattern(self.hint)

    def find(self, text: bytes) -> Iterator[Span]:
        if not self._any.matches(text):
            return
        for pattern, mixed in self._formats:
            for start, end in pattern.spans(text, min(pattern.groups, 1)):
                secret = text[start:end]
                if not mixed or (_DIGIT.search(secret) and _LETTER.search(secret)):
                    yield Span(start, end)
