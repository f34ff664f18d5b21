"""The peers as the driver sees them: their environments, made on demand, and the commands that run there."""

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack import CHECKOUT, DevstackError

PEERS = Path(__file__).parent
ENVIRONMENTS = CHECKOUT / ".peers"
WEB = "gunicorn {package}.wsgi"
WORKER = "celery -A {package} worker -l INFO"
# Of Tenantry's settings, those that mean something to others.
TUNED = (
    "CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP",
    "CELERY_BROKER_TRANSPORT_OPTIONS",
    "CELERY_DB_REUSE_MAX",
    "CELERY_RESULT_EXTENDED",
    "CELERY_TASK_PUBLISH_RETRY",
    "CELERY_TASK_SOFT_TIME_LIMIT",
    "CELERY_TASK_TIME_LIMIT",
    "CELERY_TASK_TRACK_STARTED",
    "CELERY_WORKER_PREFETCH_MULTIPLIER",
)


@dataclass(frozen=True)
class Peer:
    """`name` is its folder's, `release` the command that migrates. `lines` are what its Procfile would hold."""

    name: str
    title: str
    distribution: str
    release: str
    tenants: bool

    @property
    def package(self) -> str:
        return f"tests.peers.{self.name}"

    @property
    def lines(self) -> dict[str, str]:
        return {kind: line.format(package=self.package) for kind, line in (("web", WEB), ("worker", WORKER))}

    @property
    def venv(self) -> Path:
        return ENVIRONMENTS / self.name

    def set_up(self) -> None:
        """Make its environment, unless there is one of the same lock."""
        lock = PEERS / self.name / "requirements.txt"
        stamp, made_of = self.venv / "stamp", f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {self.venv}\n"
        ENVIRONMENTS.mkdir(exist_ok=True)
        with (ENVIRONMENTS / f"{self.name}.lock").open("w") as only_one:
            fcntl.flock(only_one, fcntl.LOCK_EX)
            if not stamp.exists() or stamp.read_text() != made_of:
                _run([sys.executable, "-m", "venv", "--clear", str(self.venv)])
                install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input", "--no-deps"]
                _run([str(self.venv / "bin" / "python"), *install, "--require-hashes", "-r", str(lock)])
                stamp.write_text(made_of)

    def environment(self, servers: Mapping[str, str], **settings: Any) -> dict[str, str]:
        """For its processes: `servers` as `Stack.env` has them, and Django settings that differ from its guide's."""
        path = os.pathsep.join([str(self.venv / "bin"), os.environ.get("PATH", os.defpath)])
        return {
            **servers,
            "PATH": path,
            "PYTHONPATH": str(CHECKOUT),
            "DJANGO_SETTINGS_MODULE": f"{self.package}.settings",
            "PEER_SETTINGS": json.dumps(settings),
        }

    def run(self, command: str, env: Mapping[str, str]) -> str:
        """`python <command>` in its environment, to its end; the standard output."""
        return _run(["python", *command.split()], {**os.environ, **env})

    def version(self) -> str:
        """Of what it is, by its lock."""
        lock = (PEERS / self.name / "requirements.txt").read_text()
        found = re.search(rf"^{self.distribution}==(\S+)", lock, flags=re.MULTILINE)
        assert found, f"{self.distribution} is not in the lock of {self.name}"
        return found[1]

    def schema(self, slug: str) -> str:
        """That of the tenant."""
        return slug.replace("-", "_") if self.tenants else "public"

    def found(self, env: Mapping[str, str], slugs: list[str]) -> dict[str, str]:
        """Migrate, and make a tenant (or what comes closest) for each slug, with a user: the users' tokens."""
        self.run(f"-m django {self.release}", env)
        # Migrations of tenants are told before.
        *_, last = self.run(f"-m {self.package}.found {' '.join(slugs)}", env).splitlines()
        tokens: dict[str, str] = json.loads(last)
        return tokens


PLAIN_CELERY = Peer("plain_celery", "plain Celery", "celery", release="migrate", tenants=False)
TENANT_SCHEMAS = Peer(
    "tenant_schemas",
    "tenant-schemas-celery",
    "tenant-schemas-celery",
    release="migrate_schemas --noinput",
    tenants=True,
)
# They keep their jobs in PostgreSQL, and have no shop: the bench alone measures them.
PROCRASTINATE = Peer("procrastinate", "procrastinate", "procrastinate", release="migrate", tenants=False)
DJANGO_TASKS_DB = Peer("django_tasks_db", "django-tasks-db", "django-tasks-db", release="migrate", tenants=False)
CHANCY = Peer("chancy", "Chancy", "chancy", release="migrate", tenants=False)


def tuned() -> dict[str, Any]:
    """For `Peer.environment`: what Tenantry gains by its settings, the peers gain too."""
    from config import settings

    # django-tenants' own way to save round trips, which the product saves by other means.
    return {**{name: getattr(settings, name) for name in TUNED}, "TENANT_LIMIT_SET_CALLS": True}


def _run(command: list[str], env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, env=env, cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        raise DevstackError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
