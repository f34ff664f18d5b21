"""The whole stack: PostgreSQL, Valkey, the mail sink and the card sink, as one context manager."""

import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from devstack import external, folders
from devstack.ports import answers, free_port
from devstack.postgres import Postgres
from devstack.processes import Process
from devstack.valkey import Valkey


class Sink(Process):
    """A stand-in for a service of the outside world that logs each call as a line of JSON."""

    def __init__(self, name: str, folder: Path) -> None:
        self.port = free_port()
        self.calls = folder / f"{name}.jsonl"
        command = [sys.executable, "-m", f"devstack.{name}", "--port", str(self.port), "--log", str(self.calls)]
        super().__init__(f"{name} sink", command, log=folder / f"{name}.log", ready=lambda: answers(self.port))


class Stack:
    """The servers on one folder, for a `with` block; inside it each can be stopped, killed and started alone.

    `given` may hold DATABASE_URL and REDIS_URL of servers to use instead of the embedded ones; `postgres` or
    `valkey` is None then. An embedded PostgreSQL that is not `durable` is faster, and loses data in a power cut.
    `env` is the product's. `superuser_url` is for whoever makes databases and faults; it is None on a given server,
    unless DATABASE_SUPERUSER_URL is given too.
    """

    def __init__(self, folder: Path, *, given: Mapping[str, str] | None = None, durable: bool = True) -> None:
        self.folder = folder
        given = given or {}
        password = _password(folder)
        self.postgres: Postgres | None = None
        self.valkey: Valkey | None = None
        if not (database_url := given.get("DATABASE_URL")):
            self.postgres = Postgres(folder / "postgres", password=password, durable=durable)
            database_url = self.postgres.url()
        self.superuser_url = self.postgres.superuser_url() if self.postgres else given.get("DATABASE_SUPERUSER_URL")
        if not (redis_url := given.get("REDIS_URL")):
            self.valkey = Valkey(folder / "valkey", password=password)
            redis_url = self.valkey.url
        self.cards = Sink("cards", folder)
        self.mail = Sink("mail", folder)
        self.env = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            # Empty, these mean REDIS_URL: nobody's own ones reach who is given this stack alone.
            "BROKER_URL": given.get("BROKER_URL", ""),
            "CACHE_URL": given.get("CACHE_URL", ""),
            "EMAIL_URL": f"smtp://127.0.0.1:{self.mail.port}",
            "CARD_GATEWAY_URL": f"http://127.0.0.1:{self.cards.port}",
            "TENANTRY_CARD_LOG": str(self.cards.calls),
            "TENANTRY_MAIL_LOG": str(self.mail.calls),
        }
        self._exits = ExitStack()

    @property
    def servers(self) -> list[Postgres | Process]:
        return [server for server in (self.postgres, self.valkey, self.cards, self.mail) if server]

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            if not self.postgres:
                external.check_database(self.env["DATABASE_URL"])
            if not self.valkey:
                external.check_redis(self.env["REDIS_URL"])
            for server in self.servers:
                exits.callback(server.stop)
                server.start()
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()


@contextmanager
def temporary_stack(given: Mapping[str, str] | None = None, *, durable: bool = True) -> Iterator[Stack]:
    """A stack whose data goes when it ends."""
    with folders.temporary() as folder, Stack(folder, given=given, durable=durable) as stack:
        yield stack


def _password(folder: Path) -> str:
    """The servers' password, made once."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "password"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(18))
    return file.read_text()
