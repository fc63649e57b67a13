"""Finders find the forms that people write, and not what only looks like them."""

import pytest

from logging_store.redaction.finders import Custom, Finder, Mail
from logging_store.redaction.linear_regex import Pattern
from logging_store.redaction.numbers import Card, Ip, passes_luhn
from logging_store.redaction.phone import Phone
from logging_store.redaction.secrets import Secrets

PEM = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEow+/=\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
KEY = "0123456789abcdefABCD0123456789abcdefABCD"


def found(finder: Finder, text: str) -> list[str]:
    """Return what a finder finds; its hint has to be there, too."""
    encoded = text.encode()
    spans = [encoded[start:end].decode() for start, end in finder.find(encoded) if end > start]
    assert Pattern(finder.hint).matches(encoded) or not spans, "what has no hint would never be looked for"
    return spans


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Write to ada@example.com.", "ada@example.com"),
        ("<ada.lovelace+bills@mail.example.co.uk>", "ada.lovelace+bills@mail.example.co.uk"),
        ("mailto:ada@example.com?subject=x", "ada@example.com"),
        ("'ada@example.com'", "ada@example.com"),
        ('{"to":"ada@example.com","cc":1}', "ada@example.com"),
        ("https://x.org/a?to=ada@example.com&b=1", "ada@example.com"),
        ("ADA@EXAMPLE.COM,", "ADA@EXAMPLE.COM"),
        ("o'hara_1@sub-domain.example.museum", "o'hara_1@sub-domain.example.museum"),
        ("Schreib an jürgen@müller.example!", "jürgen@müller.example"),
        ("用户@例子.中国", "用户@例子.中国"),
        ("x@example.xn--p1ai", "x@example.xn--p1ai"),
        ("…ada@example.com…", "ada@example.com"),
    ],
)
def test_mail_addresses_are_found_whole(text: str, address: str) -> None:
    assert found(Mail(), text) == [address]


@pytest.mark.parametrize(
    "text",
    [
        "@ada wrote",
        "ada@localhost",
        "3 @ 5.00",
        "a @ b.com",
        "@app.route",
        "user@",
        "x@.com",
        "ada@example.1",
        "foo@1.2.3",
    ],
)
def test_an_at_sign_alone_makes_no_mail_address(text: str) -> None:
    assert found(Mail(), text) == []


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111\u00a01111\u20111111\u202f1111",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "411111 1111111111",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "3782 822463 10005",
        "30569309025904",
        "6011111111111117",
        "3530111333300000",
        "6200000000000005",
        "6759649826438453",
        "4000000000000000006",
    ],
)
@pytest.mark.parametrize("around", ["{}", "My card is {}, valid to 12/27.", '{{"card":{}}}', "({})", "№{} 123"])
def test_cards_are_found_whole(number: str, around: str) -> None:
    assert found(Card(), around.format(number)) == [number]


@pytest.mark.parametrize(
    "text", ["4111 1111 1111 1111 12 27 123", "12 4111111111111111", "1 4111-1111-1111-1111 08/29"]
)
def test_a_card_is_found_between_other_numbers(text: str) -> None:
    (number,) = found(Card(), text)
    assert "".join(filter(str.isdigit, number)) == "4111111111111111"


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # a wrong check digit
        "41111111111111",  # too short for its issuer
        "41111111111111111111",
        "1234567812345670",  # right, but nobody issues it
        "1732212345678",  # milliseconds
        "20261121183612345678",
        "978-3-16-148410-0",
        "4006381333931",  # the number of an article
        "ORD4111111111111111",
        "4111111111111111abc",
        "4111.1111.1111.1111",
        "12 34 5 678 90 12 3 45 67 8 9 10 11 12 13",
        "550e8400-e29b-41d4-a716-446655440000",
        "DE89 3704 0044 0532 0130 00",
        "0.4111111111111111e3" + "7" * 20,
    ],
)
def test_other_long_numbers_are_not_cards(text: str) -> None:
    assert found(Card(), text) == []


def test_the_check_digit_detects_every_wrong_digit() -> None:
    number = "378282246310005"
    assert passes_luhn(number)
    for place, right in enumerate(number):
        wrong = [f"{number[:place]}{digit}{number[place + 1 :]}" for digit in "0123456789" if digit != right]
        assert not any(map(passes_luhn, wrong))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("from 203.0.113.7.", "203.0.113.7"),
        ("http://203.0.113.7:8080/x", "203.0.113.7"),
        ("203.0.113.0/24", "203.0.113.0"),
        ("[10.0.0.1]", "10.0.0.1"),
        ("ip=255.255.255.255;", "255.255.255.255"),
        ("addr 2001:db8::8a2e:370:7334,", "2001:db8::8a2e:370:7334"),
        ("http://[2001:DB8::1]:443/", "2001:DB8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1 refused", "::1"),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.7"),
        ("it is 2001:db8:0:0:0:0:0:1: unreachable", "2001:db8:0:0:0:0:0:1"),
        ("2001:db8::/32", "2001:db8::"),
    ],
)
def test_ip_addresses_are_found_whole(text: str, address: str) -> None:
    assert found(Ip(), text) == [address]


@pytest.mark.parametrize(
    "text",
    [
        "v1.2.3.4",
        "version 1.2.3.4",
        "Version: 10.0.19041.1",
        "release 2.4.0.1",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.1234",
        "01.02.03.04",
        "at 12:30:45",
        "12:30",
        "00:1a:2b:3c:4d:5e",
        "std::vector",
        "a::b",
        "x :: Int",
        "Foo::Bar::baz",
        "::",
        "1:2:3:4:5:6:7:8:9",
        "21.11.2026",
        "key: value: other",
    ],
)
def test_versions_times_and_names_are_not_ip_addresses(text: str) -> None:
    assert found(Ip(), text) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Their phone number is 408-247-8880.", "408-247-8880"),
        ("(408) 247-8880", "(408) 247-8880"),
        ("408.247.8880", "408.247.8880"),
        ("408 247 8880", "408 247 8880"),
        ("1-408-247-8880", "1-408-247-8880"),
        ("+1 408 247 8880", "+1 408 247 8880"),
        ("+14082478880", "+14082478880"),
        ("tel:+14082478880;ext=1", "+14082478880"),
        ("call 4082478880 now", "4082478880"),
        ("My cell: 4082478880", "4082478880"),
        ("+49 30 901820", "+49 30 901820"),
        ("+49 (0)30 901820", "+49 (0)30 901820"),
        ("+44 20 7946 0958", "+44 20 7946 0958"),
        ("+33 1 42 68 53 00", "+33 1 42 68 53 00"),
        ("+81-3-3224-9999", "+81-3-3224-9999"),
        ("+91 98765 43210", "+91 98765 43210"),
        ("on 2026-11-21 call 408-247-8880 at 12:30", "408-247-8880"),
    ],
)
def test_telephone_numbers_are_found_whole(text: str, number: str) -> None:
    assert found(Phone(["US"]), text) == [number]


@pytest.mark.parametrize(
    ("region", "number"),
    [
        ("DE", "030 901820"),
        ("DE", "0171 2345678"),
        ("DE", "01712345678"),
        ("GB", "020 7946 0958"),
        ("FR", "01 42 68 53 00"),
    ],
)
def test_national_numbers_are_found_in_the_given_regions(region: str, number: str) -> None:
    assert found(Phone([region]), f"Tel. {number}!") == [number]
    assert found(Phone(["US", region]), f"so {number}!") == [number]


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21",
        "21.11.2026",
        "11/21/2026",
        "2026-11-21 18:36:10",
        "2026-11-21T18:36:10.123456Z",
        "20261121",
        "1732212345",
        "1732212345678",
        "order 4082478880",
        "Order #408247888",
        "ORD-2024-000123",
        "order 114-3941689-8772232",
        "invoice 2024/000123/7",
        "$4,082,478,880.00",
        "1,234,567.89 EUR",
        "EUR 12.345.678,90",
        "12345678",
        "550e8400-e29b-41d4-a716-446655440000",
        "12345678-1234-1234-1234-123456789012",
        "version 10.15.7.4082",
        "192.168.100.200",
        "3.14159265358979",
        "0.4082478880",
        "978-3-16-148410-0",
        "a4082478880b",
        "1 2 3 4 5 6 7 8 9 10",
        "2019 2020 2021 2022",
        "from 10:30 to 11:45, 2 people, 94105-1234",
    ],
)
def test_dates_orders_prices_and_versions_are_not_telephone_numbers(text: str) -> None:
    assert found(Phone(["US"]), text) == []


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"use turnlog_sk_{KEY}.", f"turnlog_sk_{KEY}"),
        (f"turnlog_pk_{KEY}", f"turnlog_pk_{KEY}"),
        ("turnlog_st_eyJzIjoi.aBc-1_2.x-Y_z9 it is", "turnlog_st_eyJzIjoi.aBc-1_2.x-Y_z9"),
        (f"ghp_{KEY[:36]}", f"ghp_{KEY[:36]}"),
        (f"github_pat_{KEY}", f"github_pat_{KEY}"),
        ("glpat-ABCdef0123456789_-xy", "glpat-ABCdef0123456789_-xy"),
        ("AKIAIOSFODNN7EXAMPLE,", "AKIAIOSFODNN7EXAMPLE"),
        ("AIzaSyA-0123456789abcdefghijklmnopqrstu", "AIzaSyA-0123456789abcdefghijklmnopqrstu"),
        ("xox" + "b-123456789012-ABCdef", "xox" + "b-123456789012-ABCdef"),
        ("https://hooks.slack.com/services/T000/B000/XXXX", "https://hooks.slack.com/services/T000/B000/XXXX"),
        ("sk_" + f"live_{KEY[:24]}", "sk_" + f"live_{KEY[:24]}"),
        (f"sb_secret_{KEY[:24]}", f"sb_secret_{KEY[:24]}"),
        (f"sk-proj-{KEY}", f"sk-proj-{KEY}"),
        (f"sk-ant-api03-{KEY}", f"sk-ant-api03-{KEY}"),
        (f"hf_{KEY[:34]}", f"hf_{KEY[:34]}"),
        (f"npm_{KEY[:36]}", f"npm_{KEY[:36]}"),
        (f"Token {JWT}.", f"{JWT}."),
        (f"here: {PEM} ok", PEM),
        ("-----BEGIN PRIVATE KEY-----\\nMIIEow cut off", "-----BEGIN PRIVATE KEY-----\\nMIIEow cut off"),
        ("postgres://ada:hunter2@db.example/log", "ada:hunter2"),
        ("redis://:hunter2@cache:6379/0", ":hunter2"),
        ("Authorization: Bearer abcdef0123456789abcdef", "abcdef0123456789abcdef"),
        ("Authorization: Basic YWRhOmh1bnRlcjItaHVudGVyMg==", "YWRhOmh1bnRlcjItaHVudGVyMg=="),
        ("password: hunter2-hunter2", "hunter2-hunter2"),
        ('{"api_key": "0123456789abcdef"}', "0123456789abcdef"),
        ('{\\"api_key\\": \\"0123456789abcdef\\"}', "0123456789abcdef"),
        ("export DB_PASSWORD=correct9horse", "correct9horse"),
        ("client_secret => 'a1b2c3d4e5'", "a1b2c3d4e5"),
    ],
)
def test_secrets_are_found_whole(text: str, secret: str) -> None:
    encoded = text.encode()
    spans = [span for span in Secrets().find(encoded) if span.end > span.start]
    joined = encoded[min(span.start for span in spans) : max(span.end for span in spans)].decode()
    assert joined == secret.removesuffix(".")
    assert Pattern(Secrets.hint).matches(encoded)


@pytest.mark.parametrize(
    "text",
    [
        "550e8400-e29b-41d4-a716-446655440000",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "sk-folding-bicycle-with-large-wheels",
        "the token: something long enough",
        "Password: ********",
        "password = getpass()",
        "What is a basic internationalization?",
        "bearer of good news",
        "https://user@example.com/path",
        "https://example.com:8080/a@b",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "task_risk-assessment-2024-of-the-second-quarter",
        "turnlog_sk_",
        "secretary: Miss 12345678",
    ],
)
def test_words_and_public_ids_are_not_secrets(text: str) -> None:
    assert found(Secrets(), text) == []


def test_a_custom_expression_matches_in_any_script() -> None:
    assert found(Custom("badge", r"(?i)\bmitarbeiter:in \pL\d{3}"), "MITARBEITER:IN Ü123, x") == ["MITARBEITER:IN Ü123"]


def test_an_invalid_expression_is_reported_in_one_sentence() -> None:
    for expression, reason in (
        (r"(?=x)", "invalid perl operator"),
        ("(", "missing \\)"),
        ("a{1001}", "repetition size"),
    ):
        with pytest.raises(ValueError, match=reason):
            Pattern(expression)
