"""`make run` from its first line to its last, in a copy of the checkout whose path has a space."""

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from devstack import CHECKOUT
from devstack.ports import answers, free_port
from devstack.processes import is_running, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes in /proc")


class Run:
    """A `make run` in the midst of it; whatever descends from it carries a mark in its environment."""

    def __init__(self, checkout: Path, port: int) -> None:
        self._mark = secrets.token_hex(16)
        self._log = checkout / f"run-{self._mark}.log"
        env = {**os.environ, "DATABASE_URL": "", "REDIS_URL": "", "PORT": str(port), "TENANTRY_TEST_MARK": self._mark}
        argv = [sys.executable, "-m", "devstack", "run"]
        with self._log.open("wb") as log:
            self.popen = subprocess.Popen(
                argv, cwd=checkout, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.output or self.popen.poll() is not None, seconds=120, what=text)
        assert text in self.output, self.output

    @property
    def last_words(self) -> str:
        assert self.popen.wait(60) == 1
        return self.output

    def end(self, number: signal.Signals) -> None:
        os.killpg(self.popen.pid, number)
        self.popen.wait(60)

    def pids(self) -> set[int]:
        """PostgreSQL's backends have overwritten their environment; their parent tells them."""
        marked = {int(file.parent.name) for file in Path("/proc").glob("[0-9]*/environ") if self._is_marked(file)}
        children = {pid for pid, parent in _parents().items() if parent in marked}
        return {pid for pid in marked | children if is_running(pid)}

    def _is_marked(self, environ: Path) -> bool:
        try:
            return self._mark.encode() in environ.read_bytes()
        except OSError:
            return False


def _parents() -> dict[int, int]:
    """The parent of each process there is."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            _, _, rest = file.read_text().rpartition(")")
            parents[int(file.parent.name)] = int(rest.split()[1])
    return parents


@pytest.fixture
def start(checkout: Path) -> Iterator[Callable[[int], Run]]:
    """Starts a `make run` on a port; whatever the test leaves of it is ended."""
    runs: list[Run] = []

    def start(port: int) -> Run:
        runs.append(Run(checkout, port))
        return runs[-1]

    yield start
    for run in runs:
        if run.popen.poll() is None:
            run.end(signal.SIGTERM)


def paid_invoices(run: Run) -> int:
    """By the curl that it says to try."""
    curl = re.search(r"curl -H 'Authorization: (.*)' http://acme\.localhost:(\d+)(/\S+)", run.output)
    assert curl
    token, port, path = curl.groups()
    headers = {"Host": f"acme.localhost:{port}", "Authorization": token}
    invoices = httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, trust_env=False).json()["results"]
    assert {invoice["status"] for invoice in invoices} == {"paid"}
    return len(invoices)


def assert_joined_by_shell(checkout: Path) -> None:
    """`make shell` in a second terminal works on what the first one shows."""
    count = "from tenants.models import Tenant; print(Tenant.objects.filter(slug__in=['acme', 'globex']).count())"
    argv = [sys.executable, "-m", "devstack", "exec", "--", "python", "manage.py", "shell", "-v0", "-c", count]
    assert subprocess.run(argv, cwd=checkout, capture_output=True, text=True).stdout == "2\n"


def assert_joined_by_manage_py(checkout: Path) -> None:
    """The README's command lists a job that waits in what the first terminal shows."""
    dispatch = (
        "from billing.tasks import remind_unpaid_invoices; from tenants.models import Tenant\n"
        "with Tenant.objects.get(slug='acme'): remind_unpaid_invoices.apply_async_on_commit(countdown=3600)"
    )
    argv = [sys.executable, "-m", "devstack", "exec", "--", "python", "manage.py", "shell", "-v0", "-c", dispatch]
    subprocess.run(argv, cwd=checkout, check=True)
    (checkout / ".venv").symlink_to(sys.prefix)
    [command] = re.findall(r"^.venv/bin/python -m devstack exec .*", (CHECKOUT / "README.md").read_text(), re.MULTILINE)
    done = subprocess.run(["sh", "-c", command], cwd=checkout, capture_output=True, text=True)
    assert (done.returncode, "acme" in done.stdout) == (0, True), done.stderr
    assert "billing.tasks.remind_unpaid_invoices" in done.stdout
    page = (CHECKOUT / "docs/how-to/back-up-and-restore.md").read_text()
    [shell] = re.findall(r"^.venv/bin/python -m devstack exec .*", page, re.MULTILINE)
    subprocess.run(["sh", "-c", f"""{shell} -c 'pg_dump --file=/dev/null "$DATABASE_URL"'"""], cwd=checkout, check=True)


def assert_answers_in_a_browser(run: Run) -> None:
    """Each URL that it prints."""
    welcome = run.output.partition("Tenantry is up.")[2]
    urls = set(re.findall(r"^  \w+ +(http://\S+)", welcome, flags=re.MULTILINE))
    assert len(urls) == 4
    for url in urls:
        host = httpx.URL(url).netloc.decode()
        with httpx.Client(headers={"Host": host}, trust_env=False, follow_redirects=True) as browser:
            page = browser.get(httpx.URL(url).copy_with(host="127.0.0.1"))
        assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8"), url


def test_run_plays_the_main_job_serves_and_leaves_nothing_behind(checkout: Path, start: Callable[[int], Run]) -> None:
    port = free_port()
    first = start(port)
    first.wait_for("Ctrl-C stops everything")
    assert "globex lists 1 of its own orders and none of acme" in first.output
    assert "globex takes no token of acme" in first.output
    assert "mail to ada@acme.example: " in first.output
    for person in ("ada@acme", "alan@acme", "gus@globex", "gina@globex"):
        assert f"{person}.example is confirmed" in first.output
    assert re.search(r"mail to ada@acme.example: http://acme.localhost:\d+/link/\?link=[0-9a-f]{96}\n", first.output)
    assert paid_invoices(first) == 1
    assert_joined_by_shell(checkout)
    assert_joined_by_manage_py(checkout)
    assert "is up already" in start(free_port()).last_words

    pids = first.pids()
    assert len(pids) > 10
    first.end(signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, pids)) and not first.pids(), seconds=20, what="everything gone")

    second = start(port)
    second.wait_for("Ctrl-C stops everything")
    assert "globex lists 2 of its own orders and none of acme" in second.output
    assert paid_invoices(second) == 2
    assert_answers_in_a_browser(second)
    second.wait_for("GET")
    assert "\x1b" not in second.output

    second.end(signal.SIGTERM)
    assert not second.pids()
    assert not answers(port)
