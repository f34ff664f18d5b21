"""A RabbitMQ of a test's own: `@pytest.mark.needs("rabbitmq-server")`."""

import shutil
from pathlib import Path
from urllib.parse import quote

from kombu.connection import Connection

from devstack.ports import answers, free_port
from devstack.processes import Process, wait_until
from tests.tools import find_tool

USER = "tenantry"
#: What has to be percent-encoded in a URL.
PASSWORD = "p@ss/w:rd%?"
CONFIGURATION = """\
listeners.tcp.default = 127.0.0.1:{port}
default_user = {user}
default_pass = {password}
loopback_users = none
disk_free_limit.absolute = 1MB
log.console = true
log.console.level = warning
"""
# The port mapper would outlive the server if that started it. In the group of the server, it ends with it.
COMMAND = "epmd -address 127.0.0.1 & exec {program}"


class RabbitMQ(Process):
    """A server on a folder of its own; stays on its port from one start to the next. `more` is configuration."""

    def __init__(self, folder: Path, *, more: str = "") -> None:
        self.port = free_port()
        self.url = f"amqp://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}//"
        self._data = folder / "data"
        program = find_tool("rabbitmq-server")
        assert program
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = CONFIGURATION.format(port=self.port, user=USER, password=PASSWORD)
        (folder / "rabbitmq.conf").write_text(text + more)
        (folder / "plugins").write_text("[].")
        super().__init__(
            "RabbitMQ",
            ["sh", "-c", COMMAND.format(program=program)],
            log=folder / "rabbitmq.log",
            env=self._environ(folder),
            ready=lambda: answers(self.port),
            ready_seconds=60,
        )

    def _environ(self, folder: Path) -> dict[str, str]:
        return {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tenantry-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self._data),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            # One scheduler is enough, and leaves the cores to the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
        }

    def kill(self) -> None:
        """SIGKILL to its whole group; returns when the port is free."""
        super().kill()
        wait_until(lambda: not answers(self.port), seconds=30, what="the port of RabbitMQ is free")

    def forget(self) -> None:
        """Lose all its queues, while it is not running."""
        shutil.rmtree(self._data, ignore_errors=True)

    def length(self, queue: str) -> int:
        """How many messages wait in a queue; 0 if there is none."""
        with Connection(self.url) as connection:
            try:
                return int(connection.channel().queue_declare(queue, passive=True).message_count)
            except connection.channel_errors:
                return 0

    def purge(self, *queues: str) -> None:
        with Connection(self.url) as connection:
            for queue in queues:
                connection.channel().queue_purge(queue)

    def delete(self, *queues: str) -> None:
        with Connection(self.url) as connection:
            for queue in queues:
                connection.channel().queue_delete(queue)
