"""The line of docs/how-to/deploy.md that runs everything in one dyno, as a platform runs it."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from django_tenants.utils import tenant_context
from knox.models import AuthToken

from billing.models import Order
from devstack import CHECKOUT
from devstack.api import Api
from devstack.ports import answers, free_port
from devstack.processes import Process, is_running, wait_until
from devstack.procfile import commands
from jobs.models import Heartbeat, Job
from tenants.models import Tenant
from tests.acceptance.conftest import environment
from tests.people import add_user

PAGE = (CHECKOUT / "docs/how-to/deploy.md").read_text()
LINES = re.findall(r"^web: (.*)", PAGE, flags=re.MULTILINE)
# honcho, which is a supervisor of developers, kills after 5 s
LONGER_THAN_OTHERS_WAIT = 6
ORDER = {
    "currency": "EUR",
    "payment_token": "tok_ok",
    "lines": [{"description": "Tea", "quantity": 1, "unit_amount": 1250}],
}

pytestmark = [
    pytest.mark.needs("bash"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds its processes in /proc"),
]


class Dyno(Process):
    """The line, in a process group of its own; `port` is that of web."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.port = free_port()
        [line] = LINES
        env = {**environment(self.port), "WEB_CONCURRENCY": "1", **environ}
        command = ["bash", "-c", f"exec {line}"]
        super().__init__("dyno", command, log=folder / "dyno.log", env=env, ready=self._is_ready, ready_seconds=60)

    def _is_ready(self) -> bool:
        """Web answers, and says that it misses no other process."""
        try:
            report = httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).json()
        except httpx.HTTPError:
            return False
        return bool(report["warnings"] == [])

    def pids(self) -> set[int]:
        """Of all that runs in its group."""
        return {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._has(pid)}

    def _has(self, pid: int) -> bool:
        try:
            return os.getpgid(pid) == self.pid and is_running(pid)
        except ProcessLookupError:
            return False

    def await_end(self) -> int | None:
        wait_until(lambda: not self.running, seconds=30, what="the dyno ends")
        return self.returncode


class SlowGateway(ThreadingHTTPServer):
    """Takes each charge at once, and answers when it is let."""

    def __init__(self) -> None:
        self.asked, self.may_answer = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), Charge)


class Charge(BaseHTTPRequestHandler):
    server: SlowGateway

    def do_POST(self) -> None:
        self.server.asked.set()
        self.server.may_answer.wait(60)
        content = b'{"id": "ch_1", "status": "succeeded"}'
        self.send_response(201)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """The test is not interested."""


@pytest.fixture
def gateway() -> Iterator[SlowGateway]:
    with SlowGateway() as gateway:
        thread = threading.Thread(target=gateway.serve_forever)
        thread.start()
        yield gateway
        gateway.may_answer.set()
        gateway.shutdown()
        thread.join()


@contextmanager
def owner_of(tenant: Tenant, dyno: Dyno) -> Iterator[Api]:
    user = add_user(tenant, "ada", "owner")
    with tenant_context(tenant):
        _, token = AuthToken.objects.create(user=user)
    with closing(Api(f"{tenant.slug}.localhost", dyno.port, say=print)) as api:
        api.use(token)
        yield api


def status_of_order(tenant: Tenant) -> str:
    with tenant_context(tenant):
        return Order.objects.get().status


def test_it_starts_each_process_once_serves_and_runs_jobs(committed_db: None, acme: Tenant, tmp_path: Path) -> None:
    with Dyno(tmp_path) as dyno, owner_of(acme, dyno) as api:
        api.post("orders/", ORDER)
        wait_until(lambda: status_of_order(acme) == "paid", seconds=30, what="paid")

        assert sorted(Heartbeat.objects.values_list("kind", flat=True)) == ["beat", "relay", "worker"]
        assert dyno.output.count("Listening at: ") == 1
        pids = dyno.pids()
        assert len(pids) > 5

        dyno.signal(signal.SIGTERM)
        assert dyno.await_end() == 0
        assert not any(map(is_running, pids | dyno.pids()))
        assert not answers(dyno.port)


@pytest.mark.parametrize("everywhere", [False, True], ids=["to the script", "to each process"])
def test_at_sigterm_a_job_has_the_time_that_it_needs(
    committed_db: None, acme: Tenant, tmp_path: Path, gateway: SlowGateway, everywhere: bool
) -> None:
    url = f"http://127.0.0.1:{gateway.server_port}"
    with Dyno(tmp_path, CARD_GATEWAY_URL=url, CARD_GATEWAY_TIMEOUT="20") as dyno:
        with owner_of(acme, dyno) as api:
            api.post("orders/", ORDER)
        assert gateway.asked.wait(30)

        if everywhere:
            os.killpg(dyno.pid, signal.SIGTERM)
        else:
            dyno.signal(signal.SIGTERM)
        dyno.wait_for("Waiting for running tasks")
        threading.Event().wait(LONGER_THAN_OTHERS_WAIT)
        gateway.may_answer.set()

        assert dyno.await_end() == 0
        assert not dyno.pids()
    assert status_of_order(acme) == "paid"
    # The receipt waits for the next dyno; no worker took it up in its last moments.
    assert set(Job.objects.values_list("task", "attempt")) <= {("notifications.tasks.deliver_message", 0)}


@pytest.mark.parametrize("name", ["manage.py relay", "celery -A config worker", "celery -A config beat"])
def test_when_one_process_dies_all_end_and_the_supervisor_hears_of_it(
    committed_db: None, tmp_path: Path, name: str
) -> None:
    with Dyno(tmp_path) as dyno:
        os.kill(min(pid for pid in dyno.pids() if name in command_of(pid)), signal.SIGKILL)
        assert dyno.await_end() == 1
        assert not dyno.pids()


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_it_runs_what_the_procfile_runs() -> None:
    script = (CHECKOUT / "onedyno.sh").read_text()
    for name in ("web", "worker", "relay", "beat"):
        assert f"\n{commands()[name]} " in script
