"""Bringing many schemas up to date: by replaying a recording where that is safe, else the normal way, side by side."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import NamedTuple

from django.db import connections
from psycopg.errors import DeadlockDetected, LockNotAvailable

from tenants.replay import is_atomic, is_replayable, record, replay, set_lock_timeout
from tenants.schemas import migrate_schema

# Two recordings that are the same make a replay; so many schemas are tried for them.
CANARIES = 4
# Seconds in which those who have waited behind us for a lock can go on.
PAUSE = 0.2

Lack = frozenset[str]


class Outcome(NamedTuple):
    schema: str
    error: str = ""
    locked: bool = False
    replayed: bool = False


def upgrade(lacking: Mapping[str, Lack], *, patience: float, jobs: int) -> Iterator[Outcome]:
    """Migrate schemas that lack something; what became of each, as it happens. None stops the others.

    One whose tables are locked is tried again, after the others, for `patience` seconds.
    """
    atomic: list[str] = []
    others: list[str] = []
    for lack, schemas in _by_lack(lacking).items():
        normally = atomic if is_atomic(lack) else others
        script, recorded = _recording(lack, schemas)
        yield from map(Outcome, recorded)
        rest = [schema for schema in schemas if schema not in recorded]
        if script is None:
            normally += rest
            continue
        for outcome in in_rounds(partial(attempt, partial(replay, script)), rest, patience=patience):
            # Whatever it was, a replay leaves nothing half done: there is the normal way still.
            if outcome.error and not outcome.locked:
                normally.append(outcome.schema)
            else:
                yield outcome._replace(replayed=not outcome.error)
    with _processes(jobs) as pool:
        yield from in_rounds(partial(attempt, migrate_impatiently), atomic, patience=patience, each=pool.map)
    # An index that is built concurrently waits for whoever was there before it, other such builds too. It must not give
    # up: that would leave it behind, invalid.
    with _processes(1) as pool:
        yield from pool.map(partial(attempt, migrate_schema), others)


def _by_lack(lacking: Mapping[str, Lack]) -> dict[Lack, list[str]]:
    groups = defaultdict(list)
    for schema, lack in lacking.items():
        groups[lack].append(schema)
    return groups


def _recording(lack: Lack, schemas: list[str]) -> tuple[str | None, list[str]]:
    """The SQL that two schemas agreed on, if they did; and the schemas that were migrated to see."""
    scripts: dict[str, str | None] = {}
    if len(schemas) > 2 and is_replayable(lack):
        for schema in schemas[:CANARIES]:
            with suppress(Exception):  # it comes again, the normal way, which tells what is wrong with it
                scripts[schema] = record(schema, lack)
            if len(scripts) == 2 or None in scripts.values():
                break
    agreed = len(scripts) == 2 and len(set(scripts.values())) == 1
    return next(iter(scripts.values())) if agreed else None, list(scripts)


def _processes(number: int) -> ProcessPoolExecutor:
    connections.close_all()  # children must not share them
    return ProcessPoolExecutor(number, mp_context=get_context("fork"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """A pool's process would wait for work for ever if its parent was killed."""
    parent = parent_process()
    assert parent

    def end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end, daemon=True).start()


def migrate_impatiently(schema: str) -> None:
    set_lock_timeout()
    migrate_schema(schema)


def in_rounds(
    run: Callable[[str], Outcome],
    schemas: Iterable[str],
    *,
    patience: float,
    each: Callable[..., Iterable[Outcome]] = map,
) -> Iterator[Outcome]:
    """The outcome of each; those that are locked are tried again after the others, round by round."""
    waiting, deadline = list(schemas), None
    while waiting:
        locked = []
        for outcome in each(run, waiting):
            if outcome.locked and (deadline is None or time.monotonic() < deadline):
                locked.append(outcome.schema)
            else:
                yield outcome
        waiting, deadline = locked, deadline or time.monotonic() + patience
        if waiting:
            time.sleep(PAUSE)


def attempt(migrate: Callable[[str], None], schema: str) -> Outcome:
    try:
        migrate(schema)
    except Exception as error:  # what is wrong with one must not keep the others waiting
        locked = isinstance(error.__cause__, LockNotAvailable | DeadlockDetected)
        return Outcome(schema, " ".join(f"{type(error).__name__}: {error}".split()), locked)
    return Outcome(schema)
