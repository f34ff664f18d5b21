"""Clients that are slow on purpose, or by a bad line."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, Self

from devstack.processes import wait_until

# Whose body is read whoever sends it
LOG_IN = b"POST /api/v1/tokens/ HTTP/1.1\r\nHost: acme.localhost\r\nContent-Type: application/json\r\n"
# Seconds; nobody waits longer for the end of a connection.
PATIENCE = 120


class Slow(NamedTuple):
    """What a client sends at once, and of what it sends a byte a second from then on."""

    begins: bytes
    drips: bytes = b""


HALF_A_HEADER = Slow(b"GET /livez HTTP/1.1\r\nHost: acme.local")
HALF_A_BODY = Slow(LOG_IN + b'Content-Length: 100\r\n\r\n{"email"')
A_BYTE_A_SECOND = Slow(b"GET /livez HTTP/1.1\r\nX-Long: ", drips=b"x" * 1000)
OTHERS = [
    Slow(b""),
    Slow(LOG_IN + b"Content-Length: 1000\r\n\r\n", drips=b" " * 1000),
    Slow(LOG_IN + b'Transfer-Encoding: chunked\r\n\r\nff\r\n{"email"'),
    Slow(LOG_IN + b"Transfer-Encoding: chunked\r\n\r\n", drips=b"1\r\n \r\n" * 200),
    # What is refused unread
    Slow(LOG_IN + b"Content-Length: 50000000\r\n\r\n{"),
    Slow(LOG_IN + b"Content-Length: 50000000\r\n\r\n", drips=b" " * 1000),
    Slow(LOG_IN + b"Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n\x1f"),
    # The second request on a connection
    Slow(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTT"),
]


class Crowd:
    """Slow clients, each with a connection, in a thread of their own. Inside of `with` they are all connected."""

    def __init__(self, port: int, clients: Sequence[Slow]) -> None:
        self._port = port
        self._clients = clients
        self._connected = 0
        self._thread = ThreadPoolExecutor(1)
        self._lives: Future[list[float]]

    def __enter__(self) -> Self:
        self._lives = self._thread.submit(lambda: asyncio.run(self._live()))
        wait_until(self._are_all_there, seconds=60, what="the connections of slow clients")
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    @property
    def is_over(self) -> bool:
        """Whether no client has a connection any more."""
        return self._lives.done()

    def lives(self) -> list[float]:
        """For how many seconds each had one. Raises TimeoutError if one had it for longer than PATIENCE."""
        return self._lives.result()

    def _are_all_there(self) -> bool:
        return self._connected == len(self._clients) or self._lives.done()

    async def _live(self) -> list[float]:
        return await asyncio.gather(*(asyncio.wait_for(self._connect(client), PATIENCE) for client in self._clients))

    async def _connect(self, client: Slow) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        with closing(writer):
            began = time.monotonic()
            self._connected += 1
            end = asyncio.ensure_future(_read(reader))
            writer.write(client.begins)
            for byte in client.drips:
                await asyncio.wait([end], timeout=1)
                if end.done():
                    break
                writer.write(bytes([byte]))
            await end
            return time.monotonic() - began


async def _read(reader: asyncio.StreamReader) -> None:
    """To the end, or a reset."""
    try:
        await reader.read()
    except OSError:
        return
