"""A state machine: hypothesis moves requests, relay, workers, people and time, step by step; P1 to P5 hold throughout.

The database is real, and so are the connections: who is in the middle of something stays there while others go on. The
broker is a list. Time passes by moving the rows' times. STATE_MACHINE_EXAMPLES=2000 makes for a longer, random run.
"""

import os
from collections.abc import Iterator
from typing import TypeVar

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from django.db import transaction
from django.utils import timezone
from django_tenants.utils import schema_context
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from pytest_django import Settings

from jobs import claim, endings
from jobs.models import Job as Record
from jobs.relay import line, maintenance
from jobs.relay.line import Due, View
from jobs.testing import receive
from jobs.worker.parent import in_bounded_transaction
from tenants.models import Tenant
from tenants.services import delete_tenant, resume_tenant, suspend_tenant
from tests.jobs import durables
from tests.jobs.durables import bodies
from tests.jobs.parties import CLAIMED, ENDING, IDLE, RECEIVED, Order, Party, settle
from tests.jobs.play import Play, leave_transaction, pick
from tests.jobs.promise import Job
from tests.jobs.stage import BEGUN, BODY, CALLED, COMPLETED, EFFECT, Stage

EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", "0"))
T = TypeVar("T")
some = st.integers(0, 5)  # which of those that there are
stops = st.sampled_from([RECEIVED, CLAIMED, BEGUN, CALLED, EFFECT, EFFECT, ENDING, ENDING, IDLE])
ENDS = [Order.RETRY, Order.FAIL, Order.IGNORE, Order.SNOOZE, Order.PASS]
rarely = st.sampled_from([False, False, False, True])


class Promise(Play):
    """Time passes by multiples of 1500 s. Limits (lease, delays, re-sends) are off those by 500 s or more: what is due,
    or over, is never a close call, however slow the machine.
    """

    drained = 0

    # Requests

    @precondition(lambda self: len(self.jobs) < 10)
    @rule(
        where=some,
        open=st.booleans(),
        countdown=st.sampled_from([0, 0, 0, 10_000]),
        expires=st.sampled_from([None, None, None, None, 5000]),
        links=rarely,
    )
    def dispatch(self, where: int, open: bool, countdown: int, expires: int | None, links: bool) -> None:
        home = pick(self.schemas, where)
        number = len(self.jobs) + sum(len(jobs) for _, jobs in self.frames)
        task = durables.open if open else durables.atomic

        def call() -> str:
            with schema_context(home):
                signatures = {
                    option: durables.atomic.si(kind, number)
                    for option, kind in (("link", "then"), ("link_error", "else"))
                }
                options = {"countdown": countdown, "expires": expires, **(signatures if links else {})}
                id: str = task.apply_async_on_commit((number,), **options)
                return id

        id = self.request(call)
        lasts = None if expires is None else self.clock + expires
        job = Job(id, [number], home, open, due=self.clock + countdown, expires=lasts, links=links)
        if self.frames:
            self.frames[-1][1].append(job)
        else:
            self.jobs[id] = job
        self.look()

    @initialize(jobs=st.lists(st.tuples(some, st.booleans()), min_size=1, max_size=3))
    def begin_with_some(self, jobs: list[tuple[int, bool]]) -> None:
        for where, open in jobs:
            self.dispatch(where, open, countdown=0, expires=None, links=False)

    @precondition(lambda self: self.frames or len(self.jobs) < 4)
    @rule(deed=st.sampled_from(["begin", "begin", "commit", "commit", "roll back", "die"]))
    def change_transaction(self, deed: str) -> None:
        """`begin`: a transaction, or a savepoint in it; the others end the innermost."""
        if deed == "begin" and len(self.frames) < 3:
            block = transaction.atomic()
            self.request(block.__enter__)
            self.frames.append((block, []))
        elif deed == "die":
            self.frames.clear()
            self.request(leave_transaction)
        elif self.frames:
            self.end_block(commits=deed == "commit")
        self.look()

    # Relay and broker

    @precondition(lambda self: self.stage.relay.idle)
    @rule(stops=rarely, published=st.sampled_from([True, True, True, False]))
    def tick(self, stops: bool, published: bool = True) -> None:
        """Maintenance goes first."""
        self.let_look(self.stage.relay, maintains=True, room=20, stops=stops, published=published)

    @precondition(lambda self: any(relay.idle for relay in self.stage.relays))
    @rule(which=some, room=st.integers(1, 3), stops=rarely, published=st.sampled_from([True, True, True, False]))
    def look_at_the_line(self, which: int, room: int, stops: bool, published: bool) -> None:
        relay = pick([relay for relay in self.stage.relays if relay.idle], which)
        self.let_look(relay, maintains=False, room=room, stops=stops, published=published)

    @precondition(lambda self: any(relay.stopped for relay in self.stage.relays))
    @rule(which=some, order=st.sampled_from([Order.GO, Order.DIE, Order.CUT]))
    def relay_moves(self, which: int, order: Order) -> None:
        relay = pick([relay for relay in self.stage.relays if relay.stopped], which)
        self.go(relay, order)
        if order is not Order.GO:
            self.views[relay.name] = View()
        self.relay_goes_on(relay)

    def let_look(self, relay: Party, *, maintains: bool, room: int, stops: bool, published: bool) -> None:
        self.published = published
        view = self.views[relay.name]
        self.start(relay, lambda: look_at_outbox(view, maintains=maintains, room=room))
        self.relay_goes_on(relay, relay.at if stops else IDLE)

    def relay_goes_on(self, relay: Party, until: str = IDLE) -> None:
        self.go_on(relay, until)
        if relay.idle and isinstance(marked := relay.outcome, list):
            relay.outcome = None
            for due in marked:
                assert self.jobs[str(due.id)].due <= self.clock, "sent before it was due"
            self.messages += marked if self.published else []

    @precondition(lambda self: self.messages)
    @rule(number=some)
    def lose(self, number: int) -> None:
        self.messages.remove(pick(self.messages, number))

    # Workers

    @rule(number=some, again=st.booleans(), until=stops)
    def deliver(self, number: int, again: bool, until: str) -> None:
        """A message to a worker; `again`: it will come once more. For want of a worker, one that is busy moves on."""
        if not self.idle_workers():
            if self.busy_workers():
                self.step(number, until)
            return
        if not self.messages and self.stage.relay.idle:
            self.tick(stops=False)
        if not self.messages and self.stage.relay.idle and not self.frames and len(self.jobs) < 10:
            self.dispatch(number, again, countdown=0, expires=None, links=False)
            self.tick(stops=False)
        if self.messages:
            message = pick(self.messages, number)
            if not again:
                self.messages.remove(message)
            party = self.idle_workers()[0]
            self.start(party, lambda: receive(message))
            self.go_on(party, until)

    @precondition(lambda self: self.messages and self.idle_workers())
    @rule(number=some, first=stops, second=st.sampled_from([RECEIVED, RECEIVED, EFFECT, IDLE]))
    def deliver_twice(self, number: int, first: str, second: str) -> None:
        self.deliver(number, True, first)
        if self.messages and self.idle_workers():
            self.deliver(number, False, second)

    def someone(self, number: int, until: str, *at: str) -> Party | None:
        """Who is busy; for want of that, one who comes so far with a message."""
        if not self.busy_workers(*at):
            self.deliver(number, True, until)
        return self.busy_worker(number, *at) if self.busy_workers(*at) else None

    @precondition(lambda self: self.stage.relay.idle)
    @rule(number=some, at=stops, until=stops)
    def overtake(self, number: int, at: str, until: str) -> None:
        """A worker freezes: its lease runs out, and another one gets so far with its job."""
        if frozen := self.someone(number, at):
            self.pass_time(4500)
            self.tick(stops=False)
            ids = [str(message.id) for message in self.messages]
            if frozen.job_id in ids and self.idle_workers():
                self.deliver(ids.index(frozen.job_id), False, until)

    @precondition(lambda self: self.busy_workers())
    @rule(number=some, until=stops)
    def step(self, number: int, until: str) -> None:
        party = self.busy_worker(number)
        self.go(party)
        self.go_on(party, until)

    @rule(number=some, at=stops, order=st.sampled_from(ENDS), until=stops)
    def end_body(self, number: int, at: str, order: Order, until: str) -> None:
        if party := self.someone(number, at, *BODY):
            row = self.seen.rows.get(party.job_id)
            # What passes outside of a transaction, after the call, does so in the completion alone.
            stays = order is Order.PASS and self.jobs[party.job_id].open and party.at in (CALLED, COMPLETED)
            if order is Order.FAIL or stays or (order is Order.RETRY and row and row.retries >= 2):
                self.jobs[party.job_id].fatal.add(party.token)
            self.go(party, order)
            self.go_on(party, until)

    @precondition(lambda self: self.stage.parent.idle and self.busy_workers())
    @rule(number=some)
    def renew(self, number: int) -> None:
        """Perhaps after the lease has run out, and somebody else has claimed the job."""
        party = self.busy_worker(number)
        self.start(self.stage.parent, lambda: claim.renew({party.token: party.job_id}), token=party.token)

    @precondition(lambda self: self.stage.operator.idle and self.messages)
    @rule(number=some)
    def deliver_to_a_stranger(self, number: int) -> None:
        """A worker that does not know the task."""
        message = pick(self.messages, number)
        self.start(self.stage.operator, lambda: endings.mark_unknown(str(message.id), reason="unknown"))
        row, job = self.seen.rows.get(str(message.id)), self.jobs[str(message.id)]
        if row and row.state == "waiting" and not row.live and job.unknown_since is None:
            job.unknown_since = self.clock

    @rule(number=some, at=stops, committed=st.booleans(), whole=st.booleans())
    def lose_worker(self, number: int, at: str, committed: bool, whole: bool) -> None:
        """Its connection; or the `whole` of it, parent and all, so that nobody hands back."""
        if party := self.someone(number, at):
            self.abandoned.add(party.token)
            if whole:
                self.kill(party, committed)
            else:
                self.go(party, Order.CUT_AFTER_COMMIT if committed and party.at == ENDING else Order.CUT)

    @precondition(lambda self: self.stage.parent.idle)
    @rule(number=some, at=stops, committed=st.booleans(), reacts=st.booleans())
    def kill_child(self, number: int, at: str, committed: bool, reacts: bool) -> None:
        """Its parent hands back: at once, while the child's COMMIT is under way, or when the server knows."""
        if party := self.someone(number, at):
            self.jobs[party.job_id].crashes += 1
            key = {"id": party.job_id, "token": party.token}
            if committed and reacts and party.at == ENDING:
                self.start(
                    self.stage.parent,
                    lambda: hand_back(key),
                    token=party.token,
                )
                self.kill(party, committed)
            else:
                self.kill(party, committed)
                self.start(
                    self.stage.parent,
                    lambda: hand_back(key),
                    token=party.token,
                )

    @precondition(lambda self: self.stage.parent.idle)
    @rule(number=some, at=stops)
    def reach_hard_limit(self, number: int, at: str) -> None:
        """The parent buries the job; the child lives on for a moment."""
        if party := self.someone(number, at):
            job = self.jobs[party.job_id]
            job.fatal.add(party.token)
            self.start(self.stage.parent, lambda: dead_letter(job, party.token), token=party.token)
            self.go_on(self.stage.parent)

    # People

    @precondition(lambda self: self.stage.operator.idle and (self.messages or self.busy_workers()))
    @rule(number=some, stops=rarely)
    def cancel(self, number: int, stops: bool) -> None:
        if self.seen.rows:
            record = Record.objects.get(id=pick(list(self.seen.rows), number))
            self.start(self.stage.operator, lambda: endings.cancel(record))
            self.go_on(self.stage.operator, ENDING if stops else IDLE)

    @precondition(lambda self: self.dead() and self.stage.operator.idle)
    @rule(number=some)
    def replay(self, number: int) -> None:
        record = Record.objects.get(id=pick(self.dead(), number))
        self.start(self.stage.operator, lambda: endings.replay(record))

    @precondition(lambda self: self.stage.operator.stopped)
    @rule(order=st.sampled_from([Order.GO, Order.DIE]))
    def operator_moves(self, order: Order) -> None:
        self.go(self.stage.operator, order)

    @precondition(lambda self: self.in_play() or "suspended" in self.seen.statuses.values())
    @rule(number=some, until=stops, goes_on=st.booleans())
    def change_tenant(self, number: int, until: str, goes_on: bool) -> None:
        """Suspended if active, and the reverse."""
        suspended = [schema for schema, status in sorted(self.seen.statuses.items()) if status == "suspended"]
        tenant = Tenant.objects.get(schema_name=pick(self.in_play() + suspended, number))
        if tenant.status == Tenant.Status.ACTIVE:
            busy = self.bring(tenant.schema_name, until)
            suspend_tenant(tenant)
            self.look()
            if goes_on and busy:
                self.go(busy[0])
        elif tenant.status == Tenant.Status.SUSPENDED:
            resume_tenant(tenant)
            self.look()

    @precondition(lambda self: self.seen.statuses.get(self.doomed) == "active" and self.doomed in self.in_play())
    @rule(until=stops, ticks=st.booleans())
    def delete_tenant(self, until: str, ticks: bool) -> None:
        self.bring(self.doomed, until)
        delete_tenant(Tenant.objects.get(slug="doomed"))
        self.look()
        if ticks and self.stage.relay.idle:
            self.tick(stops=False)

    def bring(self, schema: str, until: str) -> list[Party]:
        """Let a worker come so far with a job of the tenant, if one is on its way; all who are busy with one."""
        messages = [message for message in self.messages if message.schema == schema]
        if messages and self.idle_workers():
            self.deliver(self.messages.index(messages[0]), False, until)
        return [party for party in self.busy_workers() if self.jobs[party.job_id].home == schema]

    # Time

    @precondition(lambda self: any(row.token or row.retries for row in self.seen.rows.values()) or self.has_later())
    @rule(seconds=st.sampled_from([1500, 4500, 4500, 4500, 100_500]))
    def pass_time(self, seconds: int) -> None:
        self.clock += seconds
        self.shifts.append((timezone.now(), seconds))
        self.look()

    # The end: all faults are over

    def teardown(self) -> None:
        try:
            if self.sound:
                self.drain()
                self.judge_the_end()
                Promise.drained += 1
        finally:
            # Not those that wait for others: their turn comes.
            while busy := [party for party in self.stage.parties if party.stopped]:
                busy[0].go(Order.DIE)
                settle(self.stage.parties)
            self.stage.requests.start(leave_transaction)
            settle(self.stage.parties)

    def drain(self) -> None:
        while self.frames:
            self.end_block(commits=True)
        for tenant in Tenant.objects.filter(status=Tenant.Status.SUSPENDED):
            resume_tenant(tenant)
        self.look()
        for _ in range(6):
            while busy := [party for party in self.stage.parties if party.stopped]:
                self.go(busy[0])
            self.pass_time(100_500)
            self.tick(stops=False)
            while self.messages:
                self.deliver(0, again=False, until=IDLE)
            if self.is_quiet():
                break


def look_at_outbox(view: View, *, maintains: bool, room: int) -> list[Due]:
    if maintains:
        maintenance.run_maintenance()
    line.wake(view)
    return line.mark(room, view)


def hand_back(key: dict[str, str]) -> bool:
    """What a worker's parent does for a child that was killed."""
    return endings.hand_back(key, error=WorkerLostError("killed"), killed=True)


def dead_letter(job: Job, token: str) -> None:
    """What a worker's parent does at the hard limit."""
    task = durables.open if job.open else durables.atomic

    def record() -> None:
        if lease := claim.find(job.id, task=task.name, token=token):
            endings.dead_letter(lease, TimeLimitExceeded(30))

    in_bounded_transaction(record, action="dead-letter", job_id=job.id)


@pytest.fixture
def stage(committed_db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    # No relay looks back at all, but for what it has not seen yet.
    monkeypatch.setattr(line, "LATE", 0)
    settings.JOB_MAX_KILLS, settings.JOB_MAX_LOST = 2, 3
    settings.JOB_LEASE_MARGIN = 4000 - settings.CELERY_TASK_TIME_LIMIT
    settings.JOB_FIRST_RESEND, settings.JOB_MAX_RESEND = 1000, 61_000
    # The next example has the doomed tenant, and its domain, again.
    settings.HOST_QUARANTINE_DAYS = 0
    stage = Stage()
    bodies(stage.body)
    yield stage
    stage.close()


def test_the_promise_holds_whatever_happens(stage: Stage) -> None:
    profile = settings(
        max_examples=EXAMPLES or 60,
        derandomize=not EXAMPLES,
        stateful_step_count=40,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: Promise(stage), settings=profile)  # type: ignore[arg-type]  # it may be a factory
    assert Promise.drained >= profile.max_examples / 2
