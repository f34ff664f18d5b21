"""The servers, and on them whoever is measured. Made once for all figures."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bench import tenants
from bench.database import Database
from bench.driver import Driver
from bench.postgresql_peers import PostgresqlPeer, PostgresqlSystem
from bench.system import System
from bench.tenants import PATTERN, TABLES_OF_JOBS, add_tenants, add_work
from devstack import CHECKOUT, DevstackError, application
from devstack.ports import free_port
from devstack.processes import tool_path
from devstack.procfile import commands
from devstack.servers import Stack, temporary_stack
from tests.peers.peer import PLAIN_CELERY, TENANT_SCHEMAS, Peer

TENANTS = 20
SECRET_KEY = secrets.token_urlsafe(48)
CHILDREN = 2
# So many tenants are made once, and copied.
A_CROWD = 500
WORK = "bench.work"
CALLS = "bench.tenantry.calls"
# Valkey's databases.
NUMBERS = 16


class World:
    def __init__(self, stack: Stack) -> None:
        assert stack.postgres
        assert stack.valkey
        self.postgres, self.valkey, self.sinks = stack.postgres, stack.valkey, stack.env
        self.folder = stack.folder
        self._numbers = cycle(range(NUMBERS))
        # The databases that were made once, to be copied; whose tenants they hold
        self._crowds: dict[str, list[str]] = {}

    # Tenantry

    @contextmanager
    def tenantry(
        self,
        kinds: Sequence[str] = ("worker", "relay"),
        *,
        count: int = TENANTS,
        tables: Sequence[str] = TABLES_OF_JOBS,
        name: str = "tenantry",
        valkey_port: int | None = None,
        hosts: int = 1,
    ) -> Iterator[System]:
        """The product with these of the Procfile's processes, the worker's children on so many hosts."""
        lines = {kind: commands()[kind] for kind in kinds}
        if "worker" in kinds:
            worker = f"{lines.pop('worker')} -c {CHILDREN // hosts}"
            lines |= {name: f"{worker} -n {name}@%h" for name in _workers(hosts)}
        with self._with_tenants(name, count, tables) as (database, homes):
            env = self.tenantry_environment(database, valkey_port)
            # A copy of a database does not have them.
            application.write_role_defaults({**os.environ, **env})
            with System(name, database, env, lines, homes=homes, folder=self.folder, calls=CALLS) as system:
                yield system

    @contextmanager
    def untenanted(self) -> Iterator[System]:
        """Its web process with the very same views and tables, but without tenancy: see bench/untenanted."""
        with self.tenantry_database("untenanted") as (database, schema):
            database.sql(f'ALTER DATABASE untenanted SET search_path = "{schema}"')
            database.disconnect()
            env = {**self.tenantry_environment(database), "DJANGO_SETTINGS_MODULE": "bench.untenanted.settings"}
            lines = {"web": "gunicorn -c config/gunicorn.py 'django.core.wsgi:get_wsgi_application()'"}
            with System("untenanted", database, env, lines, homes=[schema], folder=self.folder, calls=CALLS) as system:
                yield system

    @contextmanager
    def _with_tenants(self, name: str, count: int, tables: Sequence[str]) -> Iterator[tuple[Database, list[str]]]:
        if count < A_CROWD:
            with self.tenantry_database(name) as (database, pattern):
                yield database, add_tenants(database, count, pattern=pattern, tables=tables)
            return
        template = f"crowd{count}"
        if template not in self._crowds:
            with self.tenantry_database(template) as (database, pattern):
                self._crowds[template] = add_tenants(database, count, pattern=pattern, tables=tables)
        with Database.create(self.postgres, name, template=template) as database:
            yield database, self._crowds[template]

    @contextmanager
    def tenantry_database(self, name: str) -> Iterator[tuple[Database, str]]:
        """A migrated one, and the schema of its one tenant, which is the pattern of others."""
        pattern = self._pattern
        with Database.create(self.postgres, name, template="pattern") as database:
            yield database, pattern

    def tenantry_environment(self, database: Database, valkey_port: int | None = None) -> dict[str, str]:
        """As shipped, but for the rates: all requests come from one client here."""
        return {
            **self._servers(database, valkey_port),
            "PATH": tool_path(),
            "PYTHONPATH": str(CHECKOUT),
            "DJANGO_SETTINGS_MODULE": "bench.tenantry.settings",
            "SECRET_KEY": SECRET_KEY,
            **dict.fromkeys(("THROTTLE_ADDRESS", "THROTTLE_USER", "THROTTLE_TENANT"), "1000000/min"),
            **dict.fromkeys(("THROTTLE_IDEMPOTENCY_KEY", "THROTTLE_MAIL"), "100000000/day"),
        }

    @cached_property
    def _pattern(self) -> str:
        with Database.create(self.postgres, "pattern") as database:
            env = self.tenantry_environment(database)
            self.manage("migrate_schemas --shared --noinput", env)
            with Driver(CALLS, env=env, log=self.folder / "pattern.log") as driver:
                return str(driver.call("add_tenant", slug=PATTERN))

    # Its peers

    @contextmanager
    def plain_celery(self, name: str = PLAIN_CELERY.name, **settings: Any) -> Iterator[System]:
        """As Celery's guide for Django sets it up, but for these settings; one schema."""
        PLAIN_CELERY.set_up()
        with Database.create(self.postgres, name) as database:
            env = self._peer_environment(PLAIN_CELERY, database, settings)
            PLAIN_CELERY.run("-m django migrate", env)
            add_work(database, "public")
            with self._peer(PLAIN_CELERY, database, env, ["public"]) as system:
                yield system

    @contextmanager
    def tenant_schemas(self, **settings: Any) -> Iterator[System]:
        """As the README of tenant-schemas-celery sets it up."""
        TENANT_SCHEMAS.set_up()
        with Database.create(self.postgres, TENANT_SCHEMAS.name) as database:
            env = self._peer_environment(TENANT_SCHEMAS, database, settings)
            TENANT_SCHEMAS.run("-m django migrate_schemas --shared --noinput", env)
            TENANT_SCHEMAS.run(f"-m {TENANT_SCHEMAS.package}.found {PATTERN}", env)
            homes = add_tenants(database, TENANTS, pattern=PATTERN, rows=tenants.TENANT_SCHEMAS)
            with self._peer(TENANT_SCHEMAS, database, env, homes) as system:
                yield system

    @contextmanager
    def on_postgresql(self, like: PostgresqlPeer, *, hosts: int = 1, polling: str = "eager") -> Iterator[System]:
        """As its guide sets it up; as many jobs at a time as Tenantry's worker, on so many hosts."""
        peer, at_a_time = like.peer, CHILDREN // hosts
        peer.set_up()
        with Database.create(self.postgres, peer.name) as database:
            env = self._peer_environment(peer, database, {})
            for command in like.set_up:
                peer.run(command.format(at_a_time=at_a_time, polling=polling), env)
            add_work(database, "public")
            lines = dict.fromkeys(_workers(hosts if like.pool else CHILDREN), like.worker)
            calls = f"{peer.package}.calls"
            with PostgresqlSystem(
                like, peer.name, database, env, lines, homes=["public"], folder=self.folder, calls=calls
            ) as system:
                yield system

    def _peer_environment(self, peer: Peer, database: Database, settings: Mapping[str, Any]) -> dict[str, str]:
        return {**peer.environment(self._servers(database), **settings), "PEER_APPS": WORK}

    def _peer(self, peer: Peer, database: Database, env: Mapping[str, str], homes: Sequence[str]) -> System:
        worker = f"celery -A {peer.package} worker -l INFO -c {CHILDREN}"
        return System(database.name, database, env, {"worker": worker}, homes=homes, folder=self.folder)

    # The servers

    def _servers(self, database: Database, valkey_port: int | None = None) -> dict[str, str]:
        """The database, one of Valkey's (through a proxy's port, perhaps), and a port to listen on."""
        port = free_port()
        parts = urlsplit(self.valkey.url)
        netloc = f"{parts.netloc.rpartition(':')[0]}:{valkey_port or self.valkey.port}"
        return {
            **self.sinks,
            "DATABASE_URL": database.url,
            "REDIS_URL": urlunsplit(parts._replace(netloc=netloc, path=f"/{next(self._numbers)}")),
            "PORT": str(port),
            "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{port} --workers=2",
        }

    def manage(self, command: str, env: Mapping[str, str]) -> None:
        """A command of `manage.py`, to its end; raises DevstackError with what it printed if that is a bad one."""
        argv = [sys.executable, "manage.py", *command.split()]
        done = subprocess.run(argv, env={**os.environ, **env}, cwd=CHECKOUT, capture_output=True, text=True)
        if done.returncode:
            raise DevstackError(f"{command} failed:\n{done.stdout}{done.stderr}")


def _workers(count: int) -> list[str]:
    return ["worker", *(f"worker-{number}" for number in range(2, count + 1))]


@contextmanager
def new_world() -> Iterator[World]:
    """On embedded servers, whatever DATABASE_URL and REDIS_URL say."""
    with temporary_stack() as stack:
        yield World(stack)
