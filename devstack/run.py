"""`make run`: servers, release, the Procfile's processes, the main job, and then service until it is stopped."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from devstack import DevstackError, application, demo, folders, kept
from devstack.ports import is_free
from devstack.processes import Process
from devstack.servers import Stack
from devstack.watchdog import watchdog

DEFAULT_PORT = 8000
TYPES = ["web", "worker", "relay", "beat"]
FOLLOW_SECONDS = 0.2


def run(environ: Mapping[str, str]) -> None:
    """Returns only by an exception."""
    with folders.kept():
        port = _port(environ)
        with running_stack(environ) as stack:
            _serve(environ, stack, port)


@contextmanager
def running_stack(environ: Mapping[str, str]) -> Iterator[Stack]:
    """The stack on KEPT, for who holds that."""
    application.forget()
    _say("starting the servers")
    with Stack(folders.KEPT, given=environ) as stack:
        yield stack


def _serve(environ: Mapping[str, str], stack: Stack, port: int) -> None:
    people = kept.load()
    env = application.environment(environ, stack, people, port)
    application.remember(env, environ)
    _say("release: migrating the database")
    application.release(env)
    with ThreadPoolExecutor(1) as thread:
        staff = thread.submit(application.create_staff, env, people["staff"])
        with _processes(env, port) as processes:
            staff.result()
            tokens = demo.play(port, people["organisations"], mail_log=stack.mail.calls)
            _print_welcome(port, people, tokens, mails=stack.mail.calls)
            print(f"Ctrl-C stops everything; the data stays. The log of {', '.join(TYPES)} goes on here:\n", flush=True)
            _follow(processes, stack)


def _port(environ: Mapping[str, str]) -> int:
    try:
        port = int(environ.get("PORT") or DEFAULT_PORT)
    except ValueError:
        raise DevstackError(f"PORT is {environ['PORT']!r}, not a number") from None
    if not is_free(port):
        raise DevstackError(f"port {port} is taken. Choose another: PORT={port + 1} make run")
    return port


@contextmanager
def _processes(env: Mapping[str, str], port: int) -> Iterator[Process]:
    """The Procfile's processes; their output goes to a file, so that the transcript can be read."""
    _say(f"starting {', '.join(TYPES)}")
    command = [sys.executable, "-m", "devstack.procfile", str(watchdog().pipe), *TYPES]
    log = folders.KEPT / "processes.log"
    log.unlink(missing_ok=True)
    processes = Process("honcho", command, log=log, env=env, ready=lambda: _is_live(processes, port), ready_seconds=60)
    with processes:
        try:
            yield processes
        except DevstackError as error:
            raise DevstackError(f"{error}\nThe processes' log is {log}") from None


def _is_live(processes: Process, port: int) -> bool:
    """Our own web, not somebody's who has taken the port meanwhile."""
    if f"Listening at: http://127.0.0.1:{port}" not in processes.output:
        return False
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez", headers={"Host": "localhost"}, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _print_welcome(port: int, people: kept.Kept, tokens: Mapping[str, str], *, mails: Path) -> None:
    rows = [("API", f"http://localhost:{port}/api/v1/docs/", "", "")]
    staff = people["staff"]
    rows += [("Admin", f"http://localhost:{port}/admin/", staff["email"], staff["password"])]
    for organisation in people["organisations"]:
        for person in (organisation["owner"], organisation["member"]):
            url = f"http://{organisation['slug']}.localhost:{port}/"
            rows += [(organisation["name"], url, person["email"], person["password"])]
    print("\nTenantry is up.\n")
    for name, url, email, password in rows:
        print(f"  {name:8}{url:40}{email:26}{password}".rstrip())
    print(f"\nEach mail is a line of {mails}")
    slug, token = next(iter(tokens.items()))
    print(f"\nTry:\n\n  curl -H 'Authorization: Bearer {token}' http://{slug}.localhost:{port}/api/v1/invoices/\n")


def _follow(processes: Process, stack: Stack) -> None:
    """Shows what the processes log from now on, until one of ours ends."""
    with processes.log.open(errors="replace") as log:
        log.seek(0, os.SEEK_END)
        while True:
            print(log.read(), end="", flush=True)
            for server in (processes, *stack.servers):
                if not server.running:
                    raise DevstackError(f"{server.name} ended; its log is {server.log}")
            time.sleep(FOLLOW_SECONDS)


def _say(text: str) -> None:
    print(f"· {text}", flush=True)
