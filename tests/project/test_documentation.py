"""The README and the pages of docs/: their examples run as they stand there, and they leave out nothing."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from docs import reference
from logging_store.records.models import Interaction
from tests.service import Service, inherited, launch

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
ADDRESS = "http://127.0.0.1:8000"
TEMPORARY = "/tmp/"  # noqa: S108 - in examples; replaced by a folder of the test
_NOT_THERE = {"bench/results/", "conversation/demo/week.py"}  # made by `make bench`; in the history
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)


def steps(page: Path) -> list[tuple[str, str]]:
    """Return each command of a page's console blocks with the output shown; … stands for anything."""
    found: list[tuple[str, str]] = []
    for block in blocks(page, "console"):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.splitlines()
            # a command goes on over lines that are indented
            end = next((n for n, line in enumerate(lines) if n and not line.startswith("    ")), len(lines))
            found.append(("\n".join(lines[:end]), "\n".join(lines[end:])))
    return found


WITH_EXAMPLES = [page for page in PAGES if steps(page)]


class Reader:
    """Somebody who types a page's examples into a shell, with a key for a project of the page's own."""

    def __init__(self, service: Service, folder: Path, project: str, key: str) -> None:
        self._service = service
        self._scratch = folder.with_name(f"{folder.name}-{project}")
        self._scratch.mkdir(exist_ok=True)
        self._environment = inherited() | {
            "TMPDIR": str(self._scratch),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "TURNLOG_KEY": key,
            "DATA_DIR": str(folder),
            "TURNLOG_PROJECT": project,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "clients/python/src"), str(ROOT)]),
            "TURNLOG_URL": service.url,
            "TURNLOG_SPOOL": str(self._scratch / "spool"),
        }

    def run(self, *command: str) -> str:
        here = [part.replace(ADDRESS, self._service.url) for part in command]
        done = subprocess.run(here, env=self._environment, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, f"{command}\nends with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def follow(self, page: Path, *, once_more: bool = False) -> None:
        for command, shown in steps(page):
            answer = self.run("bash", "-c", command.replace(TEMPORARY, f"{self._scratch}/"))
            pattern = ".*".join(re.escape(part) for part in (repeated(shown) if once_more else shown).split("…"))
            assert re.fullmatch(pattern, answer, re.DOTALL), f"{page.name}\n$ {command}\n{answer}\nis not\n{shown}"

    def check_program(self, program: str) -> None:
        """Run a program; it prints what its comments say."""
        shown = re.findall(r"^print\(.*  # (.*)$", program, re.MULTILINE)
        assert self.run(sys.executable, "-c", program).splitlines() == shown


def repeated(shown: str) -> str:
    """Return what a command shows that is typed a second time: whatever was stored is a duplicate now."""
    stored = re.sub(r'"receipt":"(created|filled)","fields":\[[^]]*\]', '"receipt":"duplicate","fields":[]', shown)
    return re.sub(r'"receipt":"created"', '"receipt":"duplicate"', stored)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    folder = tmp_path_factory.mktemp("documentation")
    with launch({"DATA_DIR": str(folder), "TURNLOG_KEYLESS": "false"}) as running:
        running.wait_until_ready()
        yield running, folder


@pytest.fixture(scope="module")
def first_key(service: tuple[Service, Path]) -> str:
    printed = re.search(r"export TURNLOG_KEY=(\S+)", service[0].whole_log())
    assert printed, "the first start prints a key"
    return printed[1]


def test_the_readmes_examples_answer_as_shown_and_again(service: tuple[Service, Path], first_key: str) -> None:
    reader = Reader(*service, "default", first_key)
    reader.follow(README)
    for program in blocks(README, "python"):
        reader.check_program(program)
    reader.follow(README, once_more=True)
    assert first_key[:15] in reader.run("turnlog", "keys", "list")  # in the same shell, as a reader would


@pytest.mark.parametrize("page", WITH_EXAMPLES[1:], ids=lambda page: page.stem)
def test_every_example_of_a_page_answers_as_shown(service: tuple[Service, Path], page: Path) -> None:
    operator = Reader(*service, page.stem, "")
    created = re.search(r"turnlog_sk_\w+", operator.run("turnlog", "keys", "create", "--scope", "admin"))
    assert created, "a key is created for the page's project"
    Reader(*service, page.stem, created[0]).follow(page)


def test_the_programs_of_the_page_about_python_print_what_they_say(service: tuple[Service, Path]) -> None:
    page = ROOT / "docs" / "python.md"
    created = re.search(r"turnlog_sk_\w+", Reader(*service, "python", "").run("turnlog", "keys", "create"))
    assert created
    Reader(*service, "python", created[0]).check_program(
        "\n".join(block for block in blocks(page, "python") if "import openai" not in block)
    )


def test_the_readme_is_short() -> None:
    assert len(text_of(README).splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = _FENCED.sub("", text_of(page))
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_code_knows_is_in_its_page(page: Path) -> None:
    # `make docs` writes it
    assert reference.refresh(text_of(page)) == text_of(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    for name in re.findall(
        r"`((?:bench|clients|conversation|deploy|docs|logging_store|supabase|tests)/[\w./-]*)`", text_of(page)
    ):
        assert name in _NOT_THERE or (ROOT / name).exists(), name


def test_the_site_has_every_page() -> None:
    nav = text_of(ROOT / "mkdocs.yml").partition("\nnav:")[2]
    assert sorted(re.findall(r"([\w-]+\.md)$", nav, re.MULTILINE)) == sorted(page.name for page in PAGES[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_examples_are_python(page: Path) -> None:
    for program in blocks(page, "python"):
        ast.parse(program)


def test_the_site_builds_without_a_warning_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    mkdocs = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(mkdocs, cwd=ROOT, env=inherited() | {"NO_MKDOCS_2_WARNING": "1"}, check=True)
    pages = [BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser") for page in tmp_path.rglob("*.html")]
    fetched = [
        element.get("src") or element.get("href")
        for page in pages
        for element in page.select("script[src], img[src], iframe[src], link[href]:not([rel=canonical])")
    ]
    assert len(fetched) > len(PAGES)
    assert [address for address in fetched if re.match(r"(?:\w+:)?//", str(address))] == []


def test_each_field_of_an_interaction_has_its_meaning() -> None:
    table = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8").partition("## Fields of an interaction")[2]
    table = table.partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(documented) == sorted(Interaction.model_fields)
