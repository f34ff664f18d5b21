"""A TCP proxy that misbehaves on command: in front of PostgreSQL and Valkey, in a thread of the driver."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from devstack.ports import free_port

CHUNK = 65536
SLOW_SECONDS = 0.05
# How long a statement that outlives its client's connection is on its way.
LATE_SECONDS = 0.3


class Mode(Enum):
    PASS = "pass"
    CUT = "connections refused"
    HOLE = "everything accepted and swallowed"
    SLOW = "each piece delayed"


@dataclass
class Trap:
    """Strikes at so many statements that hold `pattern`, on connections on which `after` came before.

    They reach the server, and their reply nobody. `late`: the client's connection breaks first, and the server gets the
    statement after that. `silent`: the connection stays, and nothing comes by it any more.
    """

    pattern: bytes
    after: bytes = b""
    late: bool = False
    silent: bool = False
    times: int = 1


class Link:
    """One client's connection, and that to the server on its behalf."""

    def __init__(self, proxy: "Proxy", client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.proxy = proxy
        self.client_reader, self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.mute = False
        self.armed_by: Trap | None = None

    async def run(self) -> None:
        try:
            reader, self.server = await asyncio.open_connection("127.0.0.1", self.proxy.target)
            down = asyncio.create_task(self._pump(reader, self.client))
            try:
                await self._pump_up(self.server)
            finally:
                down.cancel()
        except OSError:
            pass

    def break_off(self) -> None:
        """A reset, not a farewell."""
        for writer in (self.client, self.server):
            if writer is not None:
                writer.transport.abort()

    async def _pump_up(self, server: asyncio.StreamWriter) -> None:
        while chunk := await self.client_reader.read(CHUNK):
            trap = self.proxy.trap
            if trap and self._springs(trap, chunk):
                trap.times -= 1
                await self._strike(trap, chunk, server)
                return
            await self._pass_on(chunk, server)

    def _springs(self, trap: Trap, chunk: bytes) -> bool:
        if self.armed_by is not trap and trap.after in chunk:
            self.armed_by = trap
        return bool(trap.times) and self.armed_by is trap and trap.pattern in chunk

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                await self._pass_on(chunk, writer)
        # After a reset by the server, too, which a killed one sends where it had not read all.
        writer.close()

    async def _pass_on(self, chunk: bytes, writer: asyncio.StreamWriter) -> None:
        # A connection that has lost something stays silent for good, as behind a firewall that forgot it.
        self.mute = self.mute or self.proxy.mode is Mode.HOLE
        if self.mute:
            return
        if self.proxy.mode is Mode.SLOW:
            await asyncio.sleep(SLOW_SECONDS)
        writer.write(chunk)
        await writer.drain()

    async def _strike(self, trap: Trap, chunk: bytes, server: asyncio.StreamWriter) -> None:
        self.mute = True
        if trap.late:
            self.client.transport.abort()
            await asyncio.sleep(LATE_SECONDS)
        server.write(chunk)
        await server.drain()
        await asyncio.sleep(LATE_SECONDS)
        if trap.silent:
            while await self.client_reader.read(CHUNK):
                pass


class Proxy:
    """Passes everything on between `port` and the target's port, until told otherwise. For a `with` block."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.target = target
        self.mode = Mode.PASS
        self.trap: Trap | None = None
        self._links: dict[asyncio.Task[None], Link] = {}
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._deafen())
        self.reset()
        self._do(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def turn(self, mode: Mode) -> None:
        """What is connected goes on in the new mode, but a cut breaks it."""
        self.mode = mode
        if mode is Mode.CUT:
            self._do(self._deafen())
            self.reset()
        else:
            self._do(self._listen())

    def reset(self) -> None:
        """Break every connection; new ones may come."""
        self._do(self._break_all())

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _deafen(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _break_all(self) -> None:
        for link in self._links.values():
            link.break_off()

    async def _end_tasks(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for what they have aborted

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No coroutine: one that is cancelled before it begins would leave its connection open.
        link = Link(self, (reader, writer))
        task = asyncio.ensure_future(link.run())
        self._links[task] = link
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._links.pop(task).break_off()

    def _do(self, deed: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(deed, self._loop).result(10)
