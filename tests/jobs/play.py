"""The state machine's ways: to move a party and have a look, to let time pass, and to judge the end."""

import json
from collections.abc import Callable, Set
from datetime import datetime
from typing import Any, TypeVar

from django.db import ProgrammingError
from django.db.transaction import Atomic
from django_tenants.utils import schema_context
from hypothesis.stateful import RuleBasedStateMachine

from jobs.relay.line import Due, View
from jobs.status import find_status
from tenants.models import Tenant
from tenants.session import start_owner
from tests.jobs.durables import PARKING, sql
from tests.jobs.parties import ENDING, IDLE, Order, Party, settle
from tests.jobs.promise import Job, Look, Movers, judge, look
from tests.jobs.stage import BEGUN, EFFECT, Stage

# Moves the times of a row up to the model's clock; one that someone has locked follows later.
SHIFT = f"""
    UPDATE public.jobs_job SET
        due_at = due_at - {{by}}, lease_until = lease_until - {{by}}, expires_at = expires_at - {{by}},
        deadline = deadline - {{by}}, unknown_since = unknown_since - {{by}},
        next_send_at = CASE WHEN next_send_at = {PARKING} THEN next_send_at ELSE next_send_at - {{by}} END
    WHERE id IN (SELECT id FROM public.jobs_job WHERE id = ANY(%s::uuid[]) FOR UPDATE SKIP LOCKED) RETURNING id
"""
T = TypeVar("T")


def virtual_time() -> int:
    [[place]] = sql("SELECT last_value FROM public.jobs_virtual_time")
    return int(place)


def pick(items: list[T], number: int) -> T:
    return items[number % len(items)]


class Play(RuleBasedStateMachine):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.published = True
        self.abandoned: set[str] = set()  # leases that nobody may be able to give back
        self.schemas, self.doomed = stage.set()
        self.clock = 0
        self.shifts: list[tuple[datetime, int]] = []
        self.applied: dict[str, int] = {}
        self.jobs: dict[str, Job] = {}
        self.frames: list[tuple[Atomic, list[Job]]] = []  # the open transaction's blocks, with what they dispatched
        self.messages: list[Due] = []
        self.views = {relay.name: View() for relay in stage.relays}
        self.virtual_time = virtual_time()
        self.seen: Look = look(self.schemas)
        self.sound = True

    def start(self, party: Party, call: Callable[[], Any], **options: Any) -> None:
        party.start(call, **options)
        self.look()

    def go(self, party: Party, order: Order = Order.GO) -> None:
        party.go(order)
        self.look()

    def go_on(self, party: Party, until: str = IDLE) -> None:
        while party.stopped and party.at != until:
            self.go(party)

    def kill(self, party: Party, committed: bool) -> None:
        self.abandoned.add(party.token)
        self.go(party, Order.DIE_AFTER_COMMIT if committed and party.at == ENDING else Order.DIE)

    def look(self) -> None:
        settle(self.stage.parties)
        self.sound = False  # unless nothing is raised
        moved = [party for party in self.stage.parties if party.moved]
        movers = Movers(
            tokens={party.token for party in moved},
            waited={party.token for party in moved if party.waited},
            relay=any(relay in moved for relay in self.stage.relays),
            operator=self.stage.operator in moved,
        )
        for party in moved:
            assert not party.failed, f"{party.name}: {party.outcome!r}"
        seen = self.glance()
        held = {row.token for row in seen.rows.values() if row.token}
        busy = {party.token for party in self.stage.workers if not party.idle}
        assert held <= busy | self.abandoned, "P2: a worker kept the lease of a job that it has ended"
        assert virtual_time() >= self.virtual_time, "P6: virtual time fell"
        self.virtual_time = virtual_time()
        self.adopt_links(seen)
        judge(self.jobs, self.clock, self.seen, seen, movers)
        self.judge_bodies()
        self.judge_deletion(self.seen.statuses.keys() - seen.statuses.keys())
        # A row that was locked when time passed follows now, before anybody moves.
        self.seen = self.glance() if self.shift(seen) else seen
        for party in moved:
            party.moved = not party.quiet
        self.sound = True

    def glance(self) -> Look:
        try:
            return look(self.schemas)
        except ProgrammingError:
            there = Tenant.objects.values_list("schema_name", flat=True)
            self.schemas = [schema for schema in self.schemas if schema == "public" or schema in there]
            return look(self.schemas)

    def adopt_links(self, seen: Look) -> None:
        parents = {str(job.args): job for job in self.jobs.values()}
        for row in seen.rows.values():
            args = json.loads(row.args)
            if row.id in self.jobs or args[0] not in ("then", "else") or str(args[1:]) not in parents:
                continue
            parent = parents[str(args[1:])]
            parent.children[args[0]] += 1
            self.jobs[row.id] = Job(row.id, args, parent.home, open=False, due=self.clock)

    def judge_bodies(self) -> None:
        while self.stage.begun:
            id, token, args, schema = self.stage.begun.pop()
            row = self.seen.rows[id]
            assert (row.token, row.live) == (token, True), "P3: a body began without a lease"
            assert (args, schema) == (self.jobs[id].args, self.jobs[id].home), "P4: a body began elsewhere"
            assert self.seen.is_open(schema), "P4: a body began in a tenant that is not active"
        while self.stage.calls:
            id, key = self.stage.calls.pop()
            self.jobs[id].called = True
            self.jobs[id].keys.add(key)
            assert len(self.jobs[id].keys) == 1, "P3: another idempotency key"

    def judge_deletion(self, gone: Set[str]) -> None:
        for party in self.busy_workers(BEGUN, EFFECT, ENDING):
            job = self.jobs[party.job_id]
            assert job.home not in gone or (job.open and party.at == BEGUN), (
                "P4: a tenant was dropped under a transaction"
            )

    def idle_workers(self) -> list[Party]:
        return [party for party in self.stage.workers if party.idle]

    def busy_workers(self, *at: str) -> list[Party]:
        return [party for party in self.stage.workers if party.stopped and (not at or party.at in at)]

    def busy_worker(self, number: int, *at: str) -> Party:
        """One of several that are busy with the same job, if there are such."""
        busy = self.busy_workers(*at)
        ids = [party.job_id for party in self.busy_workers()]
        return pick([party for party in busy if ids.count(party.job_id) > 1] or busy, number)

    def in_play(self) -> list[str]:
        """Tenants whose jobs are on their way to a worker, or with one."""
        ids = [str(message.id) for message in self.messages] + [party.job_id for party in self.busy_workers()]
        return [home for id in ids if (home := self.jobs[id].home) in self.seen.statuses]

    def dead(self) -> list[str]:
        return [row.id for row in self.seen.rows.values() if row.state == "dead"]

    def request(self, call: Callable[[], T]) -> T:
        self.stage.requests.start(call)
        settle(self.stage.parties)
        outcome: T = self.stage.requests.outcome
        assert not isinstance(outcome, BaseException), outcome
        return outcome

    def end_block(self, commits: bool) -> None:
        block, dispatched = self.frames.pop()
        error = None if commits else ValueError("rolled back")
        self.request(lambda: block.__exit__(type(error) if error else None, error, None))
        if commits and self.frames:
            self.frames[-1][1].extend(dispatched)
        elif commits:
            self.jobs |= {job.id: job for job in dispatched}

    def has_later(self) -> bool:
        return any(self.jobs[id].due > self.clock or self.jobs[id].expires for id in self.seen.rows)

    def shift(self, seen: Look) -> bool:
        """Bring the rows' times up to the clock; whether any lagged behind."""
        lags: dict[int, list[str]] = {}
        for row in seen.rows.values():
            born = sum(seconds for at, seconds in self.shifts if at < datetime.fromisoformat(row.created))
            lags.setdefault(self.clock - self.applied.get(row.id, born), []).append(row.id)
        for lag, ids in lags.items():
            if lag:
                shifted = sql(SHIFT.format(by=f"interval '{lag} seconds'"), ids)
                self.applied |= {str(id): self.clock for (id,) in shifted}
        return any(lags)

    def is_quiet(self) -> bool:
        waiting = [row for row in self.seen.rows.values() if row.state == "waiting"]
        return not waiting and set(self.seen.statuses.values()) == {"active"}

    def judge_the_end(self) -> None:
        assert set(self.seen.statuses.values()) <= {"active"}, "a deletion goes to its end"
        assert {row.state for row in self.seen.rows.values()} <= {"dead"}, "P2: lost"
        homes = {str(tenant.pk): tenant.schema_name for tenant in Tenant.objects.all()}
        assert {row.tenant for row in self.seen.rows.values()} <= {None, *homes}, "rows of a tenant that is gone"
        for schema in homes.values():
            with schema_context(schema):
                found = {id: find_status(id) for id in self.jobs}
            states = {id: status.state for id, status in found.items() if status}
            assert set(states) == {id for id, job in self.jobs.items() if job.home == schema}, "P5: seen at home alone"
            assert set(states.values()) <= {"success", "revoked", "ignored", "dead"}, "P5: it ends in plain sight"


def leave_transaction() -> None:
    """As if its process had died: nobody commits, or rolls back."""
    start_owner()
