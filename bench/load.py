"""Sends HTTP requests over so many connections at a time, in a process of its own: JSON on standard input and output.

Bare sockets, since a client library would take more of the machine than what is measured.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from bench.statistics import percentile
from devstack import CHECKOUT, DevstackError

CONNECTIONS = 16
PATIENCE = 600
CREATED = b"HTTP/1.1 201 "


@dataclass(frozen=True)
class Answers:
    """How long each took, in seconds, and all together."""

    seconds: Sequence[float]
    elapsed: float

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.elapsed

    @property
    def p99(self) -> float:
        return percentile(self.seconds, 99)


def request(path: str, *, host: str, token: str = "", body: object = None) -> str:
    """A POST, as it goes over the wire."""
    content = json.dumps(body)
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Content-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n{content}"
    )


def send(port: int, requests: Sequence[str], *, times: int) -> Answers:
    """So many, in turn. Raises DevstackError if one is answered by anything but 201."""
    job = {"port": port, "requests": requests, "times": times}
    command = [sys.executable, "-m", "bench.load"]
    done = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, cwd=CHECKOUT, timeout=PATIENCE
    )
    if done.returncode:
        raise DevstackError(f"the load failed:\n{done.stderr}")
    return Answers(**json.loads(done.stdout))


async def _send_all(port: int, requests: Sequence[str], times: int) -> dict[str, object]:
    pending = cycle([request.encode() for request in requests])
    taken: list[float] = []
    left = times
    began = time.perf_counter()

    async def one_connection() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            taken.append(await _send(port, next(pending)))

    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))
    return {"seconds": taken, "elapsed": time.perf_counter() - began}


async def _send(port: int, request: bytes) -> float:
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    if not answer.startswith(CREATED):
        raise RuntimeError(f"{request.decode()}\nwas answered by\n{answer.decode(errors='replace')}")
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_send_all(**json.load(sys.stdin)))))
