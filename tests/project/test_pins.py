"""The check of the dependencies finds what it is for."""

import pytest

from tests import pins

HASH = f"--hash=sha256:{'0' * 64}"
LOCK = f"""# made by make lock
flask==3.1.0 \\
    {HASH} \\
    {HASH}
    # via -r requirements.in
Type_Ing.extensions==4.0 ; python_version >= "3.11" \\
    {HASH}
type-ing-extensions==3.0 ; python_version < "3.11" \\
    {HASH}
psycopg[binary,pool]==3.2 \\
    {HASH}
"""
INSTALLED = {"flask": "3.1.0", "psycopg": "3.2"}
STATED = "# names\nflask\npsycopg[binary,pool]\n-r other.txt\n"


def test_this_checkout_is_pinned() -> None:
    assert pins.of_this_checkout() == []


def test_a_lock_as_it_should_be() -> None:
    assert pins.read(LOCK) == (
        {"flask": ("3.1.0", False), "type-ing-extensions": ("4.0", True), "psycopg": ("3.2", False)},
        [],
    )
    assert list(pins.wrong({"r": (STATED, LOCK)}, INSTALLED)) == []


@pytest.mark.parametrize(
    ("stated", "lock", "installed", "said"),
    [
        (STATED, LOCK + "rich==1.0\n", INSTALLED, "rich==1.0 is not pinned"),
        (STATED, LOCK + f"rich>=1.0 {HASH}\n", INSTALLED, "rich>=1.0 is not pinned"),
        (STATED, LOCK + f"rich==1.0 --hash=md5:{'0' * 32}\n", INSTALLED, "rich==1.0 is not pinned"),
        (STATED, LOCK + "--extra-index-url https://example.org\n", INSTALLED, "--extra-index-url is not pinned"),
        (STATED, LOCK + f"rich @ https://example.org/r.whl {HASH}\n", INSTALLED, "rich is not pinned"),
        (STATED + "rich\n", LOCK, INSTALLED, "rich is asked for and not pinned"),
        (STATED, LOCK, INSTALLED | {"flask": "3.0.0"}, "flask 3.0.0 is installed and 3.1.0 is pinned"),
        (STATED, LOCK, {"flask": "3.1.0"}, "psycopg is pinned and not installed"),
    ],
)
def test_what_is_wrong_is_named(stated: str, lock: str, installed: dict[str, str], said: str) -> None:
    (sentence,) = pins.wrong({"r": (stated, lock)}, installed)
    assert said in sentence


def test_two_locks_have_one_version() -> None:
    other = LOCK.replace("3.1.0", "3.1.1")
    sentences = list(pins.wrong({"r": (STATED, LOCK), "d": (STATED, other)}, {"psycopg": "3.2", "flask": "3.1.1"}))
    assert any("flask is 3.1.1 here and 3.1.0 elsewhere" in sentence for sentence in sentences)
