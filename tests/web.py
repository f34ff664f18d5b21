"""web as the Procfile starts it, and what it answers to bytes that are sent as they are."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
from django.db import connection

from devstack.ports import free_port
from devstack.processes import Process, wait_until
from devstack.procfile import commands


class Answer(NamedTuple):
    """A response, read to its end."""

    status: int
    head: str
    body: str

    @property
    def headers(self) -> dict[str, str]:
        lines = [line.partition(": ") for line in self.head.split("\r\n")[1:]]
        return {name: value for name, _, value in lines}


@contextmanager
def serve_web(folder: Path, **environ: str) -> Iterator[int]:
    """The port at which one process of web serves this worker's database, without DEBUG and with roomy limits."""
    port = free_port()
    line = f"exec {commands()['web']} --bind=127.0.0.1:{port} --workers=1"
    parts = connection.settings_dict
    url = f"postgres://{parts['USER']}:{parts['PASSWORD']}@127.0.0.1:{parts['PORT'] or 5432}/{parts['NAME']}"

    def is_ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    policies = ("ADDRESS", "USER", "TENANT", "SIGN_UP", "LOGIN", "PASSWORD", "USER_PASSWORD")
    rates = {f"THROTTLE_{policy}": "100000/s" for policy in policies}
    env = {"DATABASE_URL": url, "DEBUG": "0", "LOGIN_MAX_WAIT": "0", **rates, **environ}
    with Process("web", ["sh", "-c", line], log=folder / "web.log", env=env):
        wait_until(is_ready, seconds=60, what="web")
        yield port


def exchange(port: int, sent: bytes, *, ends: bool = True) -> bytes:
    """What comes back until the server closes the connection. The client's side stays open if not `ends`."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connected:
        connected.sendall(sent)
        if ends:
            connected.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connected.recv(65536), b""))


def answer_of(response: bytes) -> Answer:
    head, _, body = response.partition(b"\r\n\r\n")
    return Answer(int(head.split(b" ", 2)[1]), head.decode("latin-1"), body.decode(errors="replace"))
