"""Bringing many schemas up to date: by the replay of a recording where that is safe, else the normal way."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import NamedTuple

from django.db import connections
from psycopg.errors import DeadlockDetected, LockNotAvailable

from tenants.recording import record
from tenants.replay import is_atomic, is_replayable, replay, set_lock_timeout
from tenants.schemas import Entries, migrate_schema

# Schemas that are tried for the two equal recordings that make a replay
CANARIES = 4
# Seconds between two rounds, in which those who queue up behind us for a lock can go on
PAUSE = 0.2


class Outcome(NamedTuple):
    """What became of one schema. `error` is "" if it was migrated; `locked` says that a lock was the reason."""

    schema: str
    error: str = ""
    locked: bool = False
    replayed: bool = False


def upgrade(missing: Mapping[str, Entries], *, patience: float, jobs: int) -> Iterator[Outcome]:
    """Migrate schemas that lack entries, and yield what became of each, as it happens. None stops the others.

    A schema whose tables are locked is tried again, after the others, for `patience` seconds. Migrations that can't be
    replayed run in `jobs` processes.
    """
    atomic: list[str] = []
    others: list[str] = []
    for entries, schemas in _group_by_entries(missing).items():
        left = atomic if is_atomic(entries) else others

        script, recorded = _record(schemas, entries)
        for schema in recorded:
            yield Outcome(schema)
        rest = [schema for schema in schemas if schema not in recorded]

        if script is None:
            left.extend(rest)
            continue
        for outcome in _replay_all(script, rest, patience=patience):
            if outcome.error and not outcome.locked:
                # The replay left nothing half done, so the normal way is still open.
                left.append(outcome.schema)
            else:
                yield outcome

    with _processes(jobs) as pool:
        yield from in_rounds(partial(attempt, migrate_impatiently), atomic, patience=patience, each=pool.map)
    # One at a time, and without a lock timeout. An index that is built concurrently waits for all transactions that
    # were there before, those of other builds included. Giving up would leave it behind, invalid.
    with _processes(1) as pool:
        yield from pool.map(partial(attempt, migrate_schema), others)


def _group_by_entries(missing: Mapping[str, Entries]) -> dict[Entries, list[str]]:
    groups = defaultdict(list)
    for schema, entries in missing.items():
        groups[entries].append(schema)
    return groups


def _record(schemas: list[str], entries: Entries) -> tuple[str | None, list[str]]:
    """Migrate schemas for real until two of them gave a script.

    Returns that script, or None if the two differ or there can be none; and the schemas that were migrated.
    """
    if len(schemas) <= 2 or not is_replayable(entries):
        return None, []
    recorded: list[str] = []
    scripts: list[str | None] = []
    for schema in schemas[:CANARIES]:
        try:
            script = record(schema, entries)
        except Exception:
            # The schema comes again, the normal way, which reports what is wrong with it.
            continue
        recorded.append(schema)
        scripts.append(script)
        if script is None or len(scripts) == 2:
            break
    agreed = len(scripts) == 2 and scripts[0] == scripts[1]
    return (scripts[0] if agreed else None), recorded


def _replay_all(script: str, schemas: list[str], *, patience: float) -> Iterator[Outcome]:
    def replay_in(schema: str) -> None:
        replay(script, schema)

    for outcome in in_rounds(partial(attempt, replay_in), schemas, patience=patience):
        yield outcome._replace(replayed=not outcome.error)


def _processes(number: int) -> ProcessPoolExecutor:
    connections.close_all()  # a child must not share its parent's connections
    return ProcessPoolExecutor(number, mp_context=get_context("fork"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this process of a pool when its parent is killed. It would wait for work for ever."""
    parent = parent_process()
    assert parent

    def await_end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=await_end, daemon=True).start()


def migrate_impatiently(schema: str) -> None:
    """Migrate a schema, and give up on a lock after LOCK_TIMEOUT."""
    set_lock_timeout()
    migrate_schema(schema)


def in_rounds(
    run: Callable[[str], Outcome],
    schemas: Iterable[str],
    *,
    patience: float,
    each: Callable[..., Iterable[Outcome]] = map,
) -> Iterator[Outcome]:
    """Yield the outcome of each schema. Locked ones are tried again after the others, round by round.

    `patience` is in seconds, and counts from the end of the first round. `each` runs a round, as `map` does.
    """
    waiting = list(schemas)
    deadline = None
    while waiting:
        locked = []
        for outcome in each(run, waiting):
            is_last_try = deadline is not None and time.monotonic() >= deadline
            if outcome.locked and not is_last_try:
                locked.append(outcome.schema)
            else:
                yield outcome
        waiting = locked
        if deadline is None:
            deadline = time.monotonic() + patience
        if waiting:
            time.sleep(PAUSE)


def attempt(migrate: Callable[[str], None], schema: str) -> Outcome:
    """Migrate a schema. Raises nothing, so that what is wrong with one schema does not keep the others waiting."""
    try:
        migrate(schema)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Outcome(
            schema,
            error=" ".join(text.split()),
            locked=isinstance(error.__cause__, LockNotAvailable | DeadlockDetected),
        )
    return Outcome(schema)
