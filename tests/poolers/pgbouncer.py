"""A PgBouncer in front of this test's database, with the configuration that docs/how-to/deploy.md shows."""

import os
import re
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from devstack import CHECKOUT, folders
from devstack.ports import answers, free_port
from devstack.processes import Process
from tests.tools import find_tool

GUIDE = CHECKOUT / "docs/how-to/deploy.md"
EXAMPLE = re.compile(r"^```ini\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


class Pooler(NamedTuple):
    port: int
    #: Of this test's database, through the pooler
    url: str
    #: Of PgBouncer's own console
    console_url: str
    process: Process

    @property
    def log(self) -> str:
        return self.process.output


@contextmanager
def pgbouncer(mode: str, **options: str) -> Iterator[Pooler]:
    """PgBouncer in this mode, with other options if a test names some."""
    direct = urlsplit(os.environ["DATABASE_URL"])
    port = free_port()
    program = find_tool("pgbouncer")
    assert program
    with folders.temporary() as folder:
        users, file, log = folder / "users.txt", folder / "pgbouncer.ini", folder / "pgbouncer.log"
        configuration = example("transaction" if mode == "statement" else mode)
        console = configuration["pgbouncer"]["admin_users"]
        _write(users, f'"{direct.username}" "{direct.password}"\n"{console}" "{console}"\n')
        configuration["databases"] = {direct.path[1:]: f"host={direct.hostname} port={direct.port or 5432}"}
        own = {"listen_port": str(port), "auth_file": str(users), "pool_mode": mode}
        configuration["pgbouncer"].update({**own, **options})
        _write(file, "")
        with file.open("w") as text:
            configuration.write(text)
        url = urlunsplit(direct._replace(netloc=f"{direct.netloc.rpartition('@')[0]}@127.0.0.1:{port}"))
        command, account = [program, str(file)], folders.unprivileged()
        process = Process("PgBouncer", command, log=log, cwd=Path("/"), account=account, ready=lambda: answers(port))
        with process:
            yield Pooler(port, url, f"postgresql://{console}:{console}@127.0.0.1:{port}/pgbouncer", process)


def example(mode: str) -> ConfigParser:
    """The guide's configuration for this mode."""
    for text in EXAMPLE.findall(GUIDE.read_text()):
        configuration = ConfigParser(interpolation=None)
        configuration.read_string(text)
        if configuration["pgbouncer"]["pool_mode"] == mode:
            return configuration
    raise LookupError(f"{GUIDE} has no configuration for {mode} mode")


def _write(file: Path, text: str) -> None:
    """For this account's eyes only, or those of the one that PgBouncer runs as, which refuses to be root."""
    file.touch(mode=0o600)
    file.write_text(text)
    if account := folders.unprivileged():
        os.chown(file, *account)
