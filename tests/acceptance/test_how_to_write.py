"""docs/how-to/write-a-job.md as it stands: its files and commands, in order, in a copy of the checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import CHECKOUT, bootstrap
from devstack.external import fresh_database
from devstack.processes import Process, wait_until
from devstack.procfile import commands

PAGE = (CHECKOUT / "docs/how-to/write-a-job.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
NOT_COPIED = shutil.ignore_patterns(".venv*", ".git", ".devstack", "__pycache__", ".*_cache", ".env", "chaos", "peers")
MAKE_TENANTS = """
from django.db import transaction
from tenants.services import activate_tenant, create_schema, register_tenant

for slug in ("acme", "globex"):
    with transaction.atomic():
        tenant = register_tenant(name=slug.title(), slug=slug)
    create_schema(tenant)
    activate_tenant(tenant)
"""
RUN_SCHEDULE = """
from django_celery_beat.models import PeriodicTask
from jobs import schedules

[periodic] = PeriodicTask.objects.filter(task__startswith="parcels.")
assert schedules.dispatch(schedules.run_of(periodic))
"""

pytestmark = [
    pytest.mark.needs("bash", "make"),
    pytest.mark.skipif(not os.environ.get("DATABASE_SUPERUSER_URL"), reason="needs DATABASE_SUPERUSER_URL"),
]


class Carrier(ThreadingHTTPServer):
    """Away at the first call; `calls` has the idempotency key and the body of each."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Label)


class Label(BaseHTTPRequestHandler):
    server: Carrier

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls.append((self.headers["Idempotency-Key"], body))
        content = b'{"label": "L-1"}'
        self.send_response(503 if len(self.server.calls) == 1 else 201)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """The test has `calls`."""


@pytest.fixture
def carrier() -> Iterator[Carrier]:
    with Carrier() as carrier:
        thread = threading.Thread(target=carrier.serve_forever)
        thread.start()
        yield carrier
        carrier.shutdown()
        thread.join()


class Project:
    """A reader's checkout, which is set up, with a database of its own."""

    def __init__(self, folder: Path, url: str, **environ: str) -> None:
        self.folder = folder
        self.url = url
        shutil.copytree(CHECKOUT, folder, ignore=NOT_COPIED)
        self._set_up()
        # Of the `make` that runs this test
        of_make = ("MAKE", "MFLAGS", "ARGS")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(of_make)}
        prefix = f"{os.environ['REDIS_KEY_PREFIX']}reader:"
        self.env = {**inherited, "DATABASE_URL": url, "REDIS_KEY_PREFIX": prefix, "SPARE_SCHEMAS": "0", **environ}

    def _set_up(self) -> None:
        """As `make setup` does, with the packages that are here."""
        venv = self.folder / ".venv"
        venv.mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            (venv / name).symlink_to(Path(sys.prefix) / name)
        stamp = subprocess.run(
            [sys.executable, "-c", "from devstack import bootstrap; print(bootstrap.expected_stamp('dev'), end='')"],
            cwd=self.folder,
            capture_output=True,
            check=True,
        )
        (self.folder / bootstrap.STAMPS["dev"]).write_bytes(stamp.stdout)

    def add_app(self, name: str) -> None:
        file = self.folder / "config/settings.py"
        text = file.read_text()
        assert text.count('    "billing",\n]') == 1
        file.write_text(text.replace('    "billing",\n]', f'    "billing",\n    "{name}",\n]'))

    def write(self, path: str, code: str, *, mode: str = "w") -> None:
        file = self.folder / path
        file.parent.mkdir(exist_ok=True)
        with file.open(mode) as opened:
            opened.write(code if mode == "w" else f"\n\n{code}")

    def run(self, commands: str) -> str:
        argv = ["bash", "-euo", "pipefail", "-c", commands]
        done = subprocess.run(argv, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def shell(self, code: str) -> None:
        argv = [sys.executable, "manage.py", "shell", "--no-imports", "-c", code]
        done = subprocess.run(argv, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

    def follow(self, language: str, block: str) -> None:
        """Do what a block of the page asks for: its first line says what it is."""
        if language == "sh":
            self.run(block)
            return
        assert language == "python"
        place, _, code = block.partition("\n")
        if place.startswith("# make shell"):
            self.shell(code)
        elif place.endswith(", at its end"):
            self.write(place.removeprefix("# ").removesuffix(", at its end"), code, mode="a")
        else:
            self.write(place.removeprefix("# "), block)

    def start(self, name: str, arguments: str, *, ready: str) -> Process:
        """A process of the Procfile."""
        command = ["sh", "-c", f"exec env {commands()[name]} {arguments}"]
        log = self.folder / f"{name}.log"
        process = Process(name, command, log=log, env=self.env, cwd=self.folder, ready=lambda: ready in process.output)
        return process

    def rows(self, query: str, slug: str = "acme") -> list[tuple[Any, ...]]:
        """Of a query whose {} is a tenant's schema."""
        with psycopg.connect(self.url) as session:
            find = "SELECT quote_ident(schema_name) FROM public.tenants_tenant WHERE slug = %s"
            [(schema,)] = session.execute(find, [slug]).fetchall()
            return session.execute(query.format(schema)).fetchall()


@pytest.fixture
def project(tmp_path: Path, carrier: Carrier) -> Iterator[Project]:
    url = os.environ["DATABASE_URL"]
    with fresh_database(url, superuser_url=os.environ["DATABASE_SUPERUSER_URL"]) as database:
        project = Project(tmp_path / "checkout", database, CARRIER_URL=f"http://127.0.0.1:{carrier.server_port}")
        project.run("python manage.py migrate_tenants")
        project.shell(MAKE_TENANTS)
        yield project


def test_the_page(project: Project, carrier: Carrier) -> None:
    project.add_app("parcels")
    for language, block in BLOCKS:
        project.follow(language, block)
    project.shell(RUN_SCHEDULE)

    with ExitStack() as processes:
        processes.enter_context(project.start("relay", "", ready=""))
        processes.enter_context(project.start("worker", "-c 2", ready=" ready."))
        wait_until(
            lambda: not project.rows("SELECT FROM public.jobs_job"), seconds=60, what="all jobs of the page have ended"
        )

    [(parcel, grams, label)] = project.rows("SELECT id, grams, label FROM {}.parcels_parcel")
    assert (grams, label) == (113, "L-1")
    assert len(carrier.calls) >= 2
    assert {key for key, _ in carrier.calls} == {str(parcel)}
    assert carrier.calls[0][1] == {"address": "1 Main Street", "grams": 113}

    ended = "SELECT DISTINCT task_name, status FROM {}.django_celery_results_taskresult ORDER BY 1"
    assert project.rows(ended) == [
        ("parcels.tasks.label_parcel", "SUCCESS"),
        ("parcels.tasks.label_the_rest", "SUCCESS"),
        ("parcels.tasks.pack_parcel", "SUCCESS"),
    ]
    assert project.rows(ended, "globex") == [("parcels.tasks.label_the_rest", "SUCCESS")]
    assert project.rows("SELECT FROM {}.parcels_parcel", "globex") == []
