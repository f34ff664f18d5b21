"""Of database sessions: they remember, or somebody is bound to them who is not."""

from collections.abc import Callable
from typing import Any

from tenants import binding
from tenants.binding import Binding, Public, Unbound
from tenants.postgresql.messages import Connection
from tests.chaos.saboteur.mutations.ways import mutation
from tests.chaos.saboteur.points import wrap


@mutation
def no_cleaning() -> None:
    """A session is handed on as its owner left it."""
    wrap(Connection, "start_clean", lambda start_clean, connection: None)


@mutation
def path_remembered() -> None:
    """A path that was set in the transaction is not set again."""
    remembered: dict[int, bytes] = {}

    def prelude(
        original: Callable[..., list[bytes]], connection: Connection, *, needs_path: bool = True
    ) -> list[bytes]:
        commands: list[bytes] = original(connection, needs_path=needs_path)
        if connection.is_idle():
            remembered.pop(id(connection), None)
        if needs_path and commands:
            path = commands[-1]
            if remembered.get(id(connection)) == path:
                commands.pop()
            remembered[id(connection)] = path
        return commands

    wrap(Connection, "_prelude", prelude)


@mutation
def commit_unchecked() -> None:
    """Nobody looks what PostgreSQL answered to a COMMIT."""
    wrap(Connection, "check_commit", lambda check_commit, *reply: None)


@mutation
def unbound_means_public() -> None:
    def current(original: Callable[[], Any]) -> Any:
        try:
            return original()
        except Unbound:
            return Binding(Public())

    wrap(binding, "current", current)
