"""The driver's side of the saboteur: files that command faults, and the log of what the processes did."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devstack.processes import is_running, wait_until

Event = dict[str, Any]


class Commands:
    """See `tests.chaos.saboteur.points`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def clear(self) -> None:
        for file in self.folder.iterdir():
            file.unlink()

    def kill_at(self, point: str, *, times: int = 1) -> None:
        """The next processes that come to the point kill themselves."""
        for number in range(times):
            (self.folder / f"kill.{point}.{number}").touch()

    def pending(self) -> list[str]:
        """Kills that nobody has come by for."""
        return [file.name for file in self.folder.glob("kill.*")]

    @contextmanager
    def always(self, name: str) -> Iterator[None]:
        (self.folder / name).touch()
        try:
            yield
        finally:
            (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def hold(self, point: str) -> Iterator["Hold"]:
        """Processes that come to the point wait there until the end of the block."""
        with self.always(f"hold.{point}"):
            yield Hold(self, point)

    def events(self, *names: str) -> list[Event]:
        log = self.folder / "events.jsonl"
        # The last line may be on its way.
        *lines, _ = log.read_text().split("\n") if log.exists() else [""]
        return [event for event in map(json.loads, lines) if not names or event["event"] in names]

    def at_work(self) -> bool:
        """Whether a process that lives is inside of a job."""
        inside: dict[int, bool] = {}
        for event in self.events("entered", "left"):
            inside[event["pid"]] = event["event"] == "entered"
        return any(is_running(pid) for pid, within in inside.items() if within)


class Hold:
    def __init__(self, commands: Commands, point: str) -> None:
        self._commands = commands
        self._point = point
        self._before = len(self._events())

    def wait(self, at_least: int = 1, *, seconds: float = 30) -> list[Event]:
        """Until so many are held: the events that say who."""
        wait_until(lambda: len(self._held()) >= at_least, seconds=seconds, what=f"{at_least} processes held")
        return self._held()

    def _held(self) -> list[Event]:
        return self._events()[self._before :]

    def _events(self) -> list[Event]:
        return [event for event in self._commands.events("held") if event["point"] == self._point]
