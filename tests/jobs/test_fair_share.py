"""Nobody waits for more than a fair share, whatever another tenant does (P6, P7). All of it is counted, nothing timed.

The fair share: before a job of mine, at most as many jobs of another tenant are published as of mine, and one more; and
a relay that looks at the line finds mine in its first look, or in the second, if the first had something to put right.
It does not matter how many rows the other tenant has, in which state they are, or how much room the broker has.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty
from threading import Barrier, Event
from typing import Any

import psycopg
import pytest
from celery import current_app
from celery.app import app_or_default
from django.db import transaction
from django_tenants.utils import schema_context
from pytest_django import Settings

from devstack.processes import Process
from jobs.models import Job
from jobs.relay import line
from jobs.relay.line import BATCH, Due
from jobs.relay.maintenance import run_maintenance
from jobs.relay.process import Relay, planning_by_index
from jobs.relay.publisher import MIN_DEPTH, Publisher
from tenants.binding import bind_to_public
from tenants.connection import connection
from tenants.models import Tenant
from tenants.services import delete_tenant, suspend_tenant
from tests.jobs.conftest import eventually
from tests.jobs.durables import PARKING, queue_length, sql
from tests.jobs.probes import broker, probe
from tests.people import at_once

pytestmark = pytest.mark.usefixtures("committed_db")

#: Rows of a tenant that keeps everybody busy: some ten times what one statement changes
MANY = 10 * BATCH
#: By how many jobs another tenant may be ahead of mine
AHEAD = 1
#: Looks of a relay, the one that finds a job included
LOOKS = 2
#: After so many looks nobody waits any longer.
PATIENCE = 20


# What tenants do


@pytest.fixture
def initech(committed_db: None) -> Tenant:
    return Tenant.objects.create(slug="initech", name="Initech", schema_name="initech_1", status="active")


#: Whose jobs are no tenant's
PUBLIC = Tenant(id=None, slug="public", schema_name="public")


def dispatch(tenant: Tenant, number: int = 1, **options: Any) -> None:
    with schema_context(tenant.schema_name):
        probe.map_on_commit([("name",)] * number, **options)


IN_LINE = "next.tag + n - 1"
#: Due for a moment, and not in line
DUE = {"tag": "NULL", "due_at": "now() - interval '2 seconds'", "next_send_at": "now() - interval '2 seconds'"}


def insert(tenant: Tenant, number: int, **columns: str) -> None:
    """So many rows at once, as dispatches and what came after have left them; by default they wait in line."""
    row = {
        "id": "gen_random_uuid()",
        "tenant_id": "home.id",
        "task": f"'{probe.name}'",
        "state": "'waiting'",
        "due_at": "now()",
        "next_send_at": "now()",
        "tag": IN_LINE,
        "created_at": "now()",
        **dict.fromkeys(("attempt", "retries", "kills", "lost", "sends"), "0"),
        **dict.fromkeys(("request_id", "error", "traceback"), "''"),
        "args": "'[]'",
        "kwargs": "'{}'",
        "link": "'[]'",
        "link_error": "'[]'",
        **columns,
    }
    sql(
        f"INSERT INTO public.jobs_job ({', '.join(row)}) SELECT {', '.join(row.values())}"
        " FROM (SELECT %s::uuid) AS home (id), public.jobs_next_tag(home.id) AS next (tag), generate_series(1, %s) n",
        tenant.id,
        number,
    )


def floods(tenant: Tenant) -> None:
    insert(tenant, MANY)


def etas_come_due(tenant: Tenant) -> None:
    insert(tenant, MANY, **DUE)


def retries_come_due(tenant: Tenant) -> None:
    insert(tenant, MANY, **DUE, attempt="1", retries="1", sends="1")


def messages_are_lost(tenant: Tenant) -> None:
    insert(tenant, MANY, **DUE, sends="1")


def workers_vanish(tenant: Tenant) -> None:
    lease = {"token": "gen_random_uuid()", "lease_until": "now() - interval '2 seconds'"}
    insert(tenant, MANY, **DUE, **lease, attempt="1", sends="1")


def jobs_expire(tenant: Tenant) -> None:
    insert(tenant, MANY // 2, expires_at="now()")
    insert(tenant, MANY // 2, **DUE, expires_at="now()")


def is_suspended_with_a_line(tenant: Tenant) -> None:
    floods(tenant)
    suspend_tenant(tenant)


def is_suspended_with_due_rows(tenant: Tenant) -> None:
    etas_come_due(tenant)
    suspend_tenant(tenant)


def is_resumed(tenant: Tenant) -> None:
    insert(tenant, MANY, tag="NULL", next_send_at=PARKING)


def is_resumed_and_unparked(tenant: Tenant) -> None:
    is_resumed(tenant)
    run_maintenance()


def is_deleted_with_a_line(tenant: Tenant) -> None:
    insert(tenant, 3 * MANY)
    delete_tenant(tenant)


def is_deleted_with_due_rows(tenant: Tenant) -> None:
    etas_come_due(tenant)
    delete_tenant(tenant)


def dispatches_from_several_sessions(tenant: Tenant) -> None:
    with in_open_transactions(*[lambda: dispatch(tenant, 50)] * 8):
        pass


def dispatches_while_its_rows_are_woken(tenant: Tenant) -> None:
    insert(tenant, BATCH, **DUE)
    with in_open_transactions(lambda: dispatch(tenant, BATCH)):
        line.wake()


def is_woken_by_two_relays(tenant: Tenant) -> None:
    insert(tenant, 2 * BATCH, **DUE)
    at_once(line.wake, line.wake)


Trouble = Callable[[Tenant], None]
TROUBLES: list[Trouble] = [
    floods,
    etas_come_due,
    retries_come_due,
    messages_are_lost,
    workers_vanish,
    jobs_expire,
    is_suspended_with_a_line,
    is_suspended_with_due_rows,
    is_resumed_and_unparked,
    is_deleted_with_a_line,
    is_deleted_with_due_rows,
    dispatches_from_several_sessions,
    dispatches_while_its_rows_are_woken,
    is_woken_by_two_relays,
]


@contextmanager
def in_open_transactions(*calls: Callable[[], None]) -> Iterator[None]:
    """Each call in a session and a transaction of its own, which all commit when the block ends."""
    called, end = Barrier(len(calls) + 1), Event()

    def run(call: Callable[[], None]) -> None:
        bind_to_public()
        try:
            with transaction.atomic():
                call()
                called.wait(20)
                assert end.wait(60)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        runs = [pool.submit(run, call) for call in calls]
        try:
            called.wait(20)
            yield
        finally:
            end.set()
        for done in runs:
            done.result()


# What a relay does


@dataclass(frozen=True)
class Wait:
    """Of some jobs of a tenant: how far each other tenant got ahead of them, at the worst, and how many looks it took
    until the first of them was published.
    """

    ahead: dict[str, int]
    looks: int

    @property
    def is_fair(self) -> bool:
        return max(self.ahead.values(), default=0) <= AHEAD and self.looks <= LOOKS


class WatchedRelay(Relay):
    """One whose messages are all taken at once, so that its room grows up to the most there is."""

    def __init__(self, **options: Any) -> None:
        self.looks: list[list[str]] = []
        super().__init__(Publisher(app_or_default(), self._send_job), **options)

    def _send_job(self, job: Due, *, producer: Any) -> None:
        self.looks[-1].append(job.schema)

    def tick(self) -> int:
        self.looks.append([])
        return super().tick()

    def waits(self, *tenants: Tenant, number: int = 1) -> dict[str, Wait]:
        """Look until so many jobs of each of these are published, or in vain; how they waited."""
        self.looks.clear()
        while len(self.looks) < PATIENCE and any(self.published(tenant) < number for tenant in tenants):
            self.tick()
        return {tenant.slug: self.wait(tenant, number) for tenant in tenants}

    def published(self, tenant: Tenant) -> int:
        return sum(look.count(tenant.schema_name) for look in self.looks)

    def wait(self, tenant: Tenant, number: int = 1) -> Wait:
        """Of the first so many jobs of it that these looks were to find."""
        first, mine, counts, ahead = 0, 0, Counter[str](), Counter[str]()
        for look_number, look in enumerate(self.looks, start=1):
            for schema in look:
                if schema != tenant.schema_name:
                    counts[schema] += 1
                    ahead[schema] = max(ahead[schema], counts[schema] - mine)
                    continue
                first, mine = first or look_number, mine + 1
                if mine == number:
                    return Wait(dict(ahead), first)
        return Wait(dict(ahead), PATIENCE)


@pytest.fixture
def relay_here(settings: Settings) -> Iterator[WatchedRelay]:
    """In this process, without its maintenance. It looks at each tick for rows whose time has come."""
    settings.RELAY_IDLE_POLL = 0
    settings.JOB_FIRST_RESEND = 600
    current_app.control.purge()
    with planning_by_index():
        yield WatchedRelay()


def let_pass(relay: Relay, *tenants: Tenant, number: int = 1) -> None:
    """So many jobs of each of these come, are published, claimed and done."""
    for tenant in tenants:
        insert(tenant, number)
    while relay.tick():
        sql("UPDATE public.jobs_job SET token = gen_random_uuid(), next_send_at = clock_timestamp() WHERE tag IS NULL")
        sql("DELETE FROM public.jobs_job WHERE tag IS NULL")


def let_much_pass(relay: Relay, tenant: Tenant) -> None:
    """For long enough that a relay does not look any more where it looked before."""
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        let_pass(relay, tenant)


def unfair(waits: dict[str, Wait]) -> dict[str, Wait]:
    return {name: wait for name, wait in waits.items() if not wait.is_fair}


# Whatever another tenant does


@pytest.mark.parametrize("trouble", TROUBLES)
def test_no_job_waits_for_more_than_a_fair_share(
    relay_here: WatchedRelay, acme: Tenant, globex: Tenant, initech: Tenant, trouble: Trouble
) -> None:
    """One that is dispatched now, one whose time comes at that moment, and some that come later."""
    trouble(acme)
    dispatch(globex)
    insert(initech, 1, tag="NULL", next_send_at="clock_timestamp()")
    first = relay_here.waits(globex, initech)

    dispatch(globex, 20)
    then = relay_here.waits(globex, number=20)

    assert (unfair(first), unfair(then)) == ({}, {})


def test_no_job_waits_for_more_than_one_of_each_of_many_tenants(relay_here: WatchedRelay, initech: Tenant) -> None:
    """They are more than the rows that one statement changes, and before mine in any index."""
    many, id_of = 3 * BATCH // 2, "('00000000-0000-7000-8000-' || lpad({}::text, 12, '0'))::uuid"
    sql(
        "INSERT INTO public.tenants_tenant (id, slug, name, schema_name, status, timezone, failure, created_at)"
        f" SELECT {id_of.format('n')}, 'many-' || n, 'many', 'many_' || n, 'active', 'UTC', '', now()"
        " FROM generate_series(0, %s) n",
        many - 1,
    )
    insert(PUBLIC, 10 * many, **DUE, tenant_id=id_of.format(f"mod(n, {many})"))
    insert(initech, 1, tag="NULL", next_send_at="clock_timestamp()")

    [wait] = relay_here.waits(initech).values()

    assert wait.looks < PATIENCE
    assert max(wait.ahead.values()) <= AHEAD


@pytest.mark.parametrize("trouble", [floods, etas_come_due, messages_are_lost])
def test_what_belongs_to_no_tenant_waits_no_longer(relay_here: WatchedRelay, acme: Tenant, trouble: Trouble) -> None:
    trouble(acme)
    insert(PUBLIC, 1, tag="NULL", next_send_at="clock_timestamp()")

    assert unfair(relay_here.waits(PUBLIC)) == {}


def test_what_belongs_to_no_tenant_takes_no_more_than_a_tenants_share(
    relay_here: WatchedRelay, globex: Tenant, initech: Tenant
) -> None:
    etas_come_due(PUBLIC)
    dispatch(globex)
    insert(initech, 1, tag="NULL", next_send_at="clock_timestamp()")

    assert unfair(relay_here.waits(globex, initech)) == {}


def test_two_that_are_resumed_take_turns_however_many_rows_of_one_are_parked(
    relay_here: WatchedRelay, acme: Tenant, globex: Tenant
) -> None:
    is_resumed_and_unparked(acme)
    insert(globex, 20, tag="NULL", next_send_at=PARKING)
    run_maintenance()

    assert unfair(relay_here.waits(globex, number=20)) == {}


def test_a_suspended_line_before_mine_is_not_parked_while_i_wait(
    relay_here: WatchedRelay, acme: Tenant, globex: Tenant
) -> None:
    """Mine is behind it, as the last of many that were cancelled."""
    is_suspended_with_a_line(acme)
    insert(globex, 1, tag=f"next.tag + {MANY}")

    with counted_rows() as handled:
        waits = relay_here.waits(globex)

    assert unfair(waits) == {}
    assert sum(handled) <= 2 * BATCH


@contextmanager
def counted_rows() -> Iterator[list[int]]:
    """How many rows each statement of this connection is about."""
    counts: list[int] = []

    def count(execute: Callable[..., Any], statement: str, parameters: Any, many: bool, context: Any) -> Any:
        result = execute(statement, parameters, many, context)
        counts.append(max(context["cursor"].rowcount, 0))
        return result

    with connection.execute_wrapper(count):
        yield counts


# Virtual time


def test_who_commits_late_does_not_turn_time_back(
    relay_here: WatchedRelay, acme: Tenant, globex: Tenant, initech: Tenant
) -> None:
    """It found the line empty when it dispatched. Who comes then is not before those that have waited since."""
    with in_open_transactions(lambda: dispatch(acme, 3)):
        insert(globex, 2000)
        line.mark(1900)
    line.mark(1)
    dispatch(initech, 2000)
    run_maintenance()

    assert unfair(relay_here.waits(globex, number=20)) == {}


def test_what_is_committed_late_has_saved_nothing_up(relay_here: WatchedRelay, acme: Tenant, globex: Tenant) -> None:
    with in_open_transactions(lambda: dispatch(acme, 500)):
        insert(globex, 2000)
        line.mark(1900)
    run_maintenance()

    assert unfair(relay_here.waits(globex, number=20)) == {}


@pytest.mark.parametrize("options", [{}, {"countdown": 0.1}])
def test_what_is_committed_late_waits_for_maintenance_at_the_most(
    relay_here: WatchedRelay, acme: Tenant, globex: Tenant, options: dict[str, float]
) -> None:
    with in_open_transactions(lambda: dispatch(globex, 3, **options)):
        let_much_pass(relay_here, acme)
        floods(acme)
        relay_here.tick()
    run_maintenance()

    assert unfair(relay_here.waits(globex, number=3)) == {}


def test_rows_whose_place_has_passed_take_places_of_today(
    relay_here: WatchedRelay, acme: Tenant, globex: Tenant, initech: Tenant
) -> None:
    """As after a relay was killed between two looks, or after a server forgot how far the line had come."""
    insert(globex, 2000)
    insert(acme, 2000)
    line.mark(2000)
    sql("UPDATE public.jobs_job SET tag = 0 WHERE tenant_id = %s AND tag IS NOT NULL", acme.id)
    insert(initech, 3, tag="0")
    run_maintenance()

    waits = relay_here.waits(globex, initech, number=3)

    assert unfair(waits) == {}
    while relay_here.tick():
        run_maintenance()
    assert not Job.objects.filter(sends=0).exists()


def test_time_stands_still_while_nothing_waits(
    relay_here: WatchedRelay, acme: Tenant, globex: Tenant, initech: Tenant
) -> None:
    """An empty line begins where it has ended, for those who read its place meanwhile."""
    insert(globex, 2000)
    while line.mark(BATCH):
        pass
    with in_open_transactions(lambda: dispatch(globex)):
        dispatch(acme)
        assert relay_here.tick() == 1
    dispatch(initech, 2000)

    assert unfair(relay_here.waits(globex)) == {}


def test_several_that_are_committed_late_do_not_get_ahead_together(
    relay_here: WatchedRelay, acme: Tenant, globex: Tenant, initech: Tenant
) -> None:
    """Each has a place of its own, and all of them have passed; this relay has just begun."""
    insert(globex, 2000)
    with ExitStack() as transactions:
        for _ in range(10):
            transactions.enter_context(in_open_transactions(lambda: dispatch(acme)))
            line.mark(100)
    dispatch(initech)

    assert unfair(relay_here.waits(initech)) == {}


# What somebody has edited

FAR = "2000000000000000000"
EDITED = {
    "a place at the end": {"tag": FAR},
    "a place at the end, and one that is due": {"tag": f"CASE n WHEN 1 THEN {FAR}::bigint END"},
    "sent as often as can be": {"sends": "1000000000"},
    "lost as often as can be": {
        "tag": "NULL",
        "lost": "2147483647",
        "token": "gen_random_uuid()",
        "lease_until": "now() - interval '1 second'",
    },
}


@pytest.mark.parametrize("edited", EDITED)
def test_no_row_stops_the_relay_or_moves_everybodys_clock(
    relay_here: WatchedRelay, acme: Tenant, globex: Tenant, edited: str
) -> None:
    insert(acme, 2, **EDITED[edited])
    dispatch(globex)
    assert unfair(relay_here.waits(globex)) == {}

    for _ in range(5):
        relay_here.tick()
    [[place]] = sql("SELECT last_value FROM public.jobs_virtual_time")
    assert place < 10**12
    with schema_context(acme.schema_name):
        probe.delay_on_commit("name")
    run_maintenance()


def test_what_was_due_long_ago_is_sent(relay_here: WatchedRelay, acme: Tenant) -> None:
    dispatch(acme, eta=datetime(1970, 1, 1, tzinfo=UTC))
    run_maintenance()
    assert unfair(relay_here.waits(acme)) == {}


def test_many_suspended_tenants_before_mine_cost_one_look(relay_here: WatchedRelay, globex: Tenant) -> None:
    sql(
        "INSERT INTO public.tenants_tenant (id, slug, name, schema_name, status, timezone, failure, created_at)"
        " SELECT gen_random_uuid(), 'many-' || n, 'many', 'many_' || n, 'suspended', 'UTC', '', now()"
        " FROM generate_series(1, 100) n"
    )
    for tenant in Tenant.objects.filter(name="many"):
        insert(tenant, 10)
    insert(globex, 1, tag="next.tag + 20")

    with counted_rows() as statements:
        assert unfair(relay_here.waits(globex)) == {}
    assert len(statements) < 20


# While maintenance works


class Arrivals:
    """What a relay waits for between its looks: once maintenance has begun, jobs that come one after the other."""

    def __init__(self, tenant: Tenant, has_begun: Callable[[], Any]) -> None:
        self._tenant = tenant
        self._has_begun = has_begun
        self._has_come = False
        self.waits: list[Wait] = []
        self.relay: WatchedRelay

    def put(self, item: None) -> None:
        raise NotImplementedError("Nobody stops this relay.")

    def get(self, *, timeout: float) -> None:
        if not self._has_come:
            eventually(self._has_begun, "maintenance has begun")
            self._come()
        if not (self.relay.published(self._tenant) or len(self.relay.looks) == PATIENCE):
            raise Empty
        self.waits.append(self.relay.wait(self._tenant))
        if len(self.waits) < 5:
            self._come()

    def _come(self) -> None:
        self.relay.looks.clear()
        dispatch(self._tenant)
        self._has_come = True
        raise Empty


def waits_beside_maintenance(tenant: Tenant, has_begun: Callable[[], Any]) -> list[Wait]:
    """Of jobs that come one after the other, while a relay runs with all that belongs to it."""
    current_app.control.purge()
    arrivals = Arrivals(tenant, has_begun)
    with planning_by_index():
        arrivals.relay = WatchedRelay(stops=arrivals)
        arrivals.relay.run()
    return arrivals.waits


def is_true(condition: str) -> Callable[[], bool]:
    return lambda: sql(f"SELECT {condition} FROM public.jobs_job") == [(True,)]


# What there is to do, and how it shows that maintenance has begun with it.
WORK: dict[Trouble, str] = {
    jobs_expire: f"count(*) < {MANY}",
    is_suspended_with_a_line: f"bool_or(next_send_at = {PARKING})",
    is_resumed: f"bool_or(next_send_at < {PARKING})",
}


@pytest.mark.parametrize("trouble", WORK)
def test_maintenance_holds_up_nobody(acme: Tenant, globex: Tenant, trouble: Trouble) -> None:
    trouble(acme)

    waits = waits_beside_maintenance(globex, is_true(WORK[trouble]))

    assert [wait for wait in waits if not wait.is_fair] == []


def test_a_deletion_of_many_rows_holds_up_nobody(doomed: Tenant, globex: Tenant) -> None:
    is_deleted_with_a_line(doomed)

    waits = waits_beside_maintenance(globex, is_true(f"count(*) < {3 * MANY}"))

    assert [wait for wait in waits if not wait.is_fair] == []


def test_a_deletion_that_waits_for_a_lock_holds_up_nobody(doomed: Tenant, globex: Tenant) -> None:
    def read_a_table() -> None:
        sql("LOCK TABLE doomed_1.kept IN ACCESS SHARE MODE")

    # Of this database: the server has others, whose tests run meanwhile.
    waiting = (
        "SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE datname = current_database() AND NOT granted"
    )
    insert(doomed, 10)
    delete_tenant(doomed)

    with in_open_transactions(read_a_table):
        waits = waits_beside_maintenance(globex, lambda: sql(waiting))

    assert [wait for wait in waits if not wait.is_fair] == []


# By a process


def test_a_relay_publishes_mine_among_the_first(acme: Tenant, globex: Tenant, tmp_path: Path) -> None:
    current_app.control.purge()
    retries_come_due(acme)
    insert(globex, 1, tag="NULL", next_send_at="clock_timestamp()")

    with Process("relay", ["python", "manage.py", "relay"], log=tmp_path / "relay.log"):
        eventually(lambda: queue_length() >= MIN_DEPTH, "the queue is full")
        key = f"{current_app.conf.broker_transport_options['global_keyprefix']}jobs"
        messages = [json.loads(message) for message in broker().lrange(key, 0, -1)]
    current_app.control.purge()

    # A worker takes the last one first.
    first = [message["headers"]["id"] for message in messages[: -AHEAD - 2 : -1]]
    assert Job.objects.filter(id__in=first, tenant=globex).exists()


# What it costs

#: Blocks of the table and its indexes. What passed in the last moment may cost some, what passed before it nothing.
MORE = 100


@pytest.fixture
def old_snapshot(committed_db: None) -> Iterator[None]:
    """Somebody looks at the database as it was when the test began, so that nobody can clear away what is gone."""
    parameters: dict[str, Any] = {**connection.get_connection_params()}
    del parameters["cursor_factory"], parameters["context"]
    with psycopg.connect(**parameters) as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.execute("SELECT FROM public.jobs_job")
        yield


@pytest.mark.usefixtures("old_snapshot")
def test_no_cost_follows_the_number_of_jobs_that_have_passed(
    relay_here: WatchedRelay, settings: Settings, acme: Tenant, globex: Tenant
) -> None:
    # As if each job had passed longer ago than it takes to send one again.
    settings.JOB_FIRST_RESEND = 0
    let_much_pass(relay_here, acme)
    before = costs(relay_here, acme)

    let_pass(relay_here, acme, globex, number=5 * BATCH)
    let_much_pass(relay_here, acme)
    after = costs(relay_here, acme)

    assert {name: (before[name], cost) for name, cost in after.items() if cost > before[name] + MORE} == {}


def costs(relay: Relay, tenant: Tenant) -> dict[str, int]:
    """In blocks that are read."""

    def publish_one() -> None:
        dispatch(tenant)
        assert relay.tick() == 1

    return {
        "a dispatch": blocks_read(lambda: dispatch(tenant)),
        "a look that finds nothing": blocks_read(relay.tick),
        "a dispatch, and a look that finds it": blocks_read(publish_one),
    }


def blocks_read(call: Callable[[], Any]) -> int:
    """Blocks of the table of jobs, and of its indexes, that a call reads; what it does is rolled back."""
    read = (
        "SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM ("
        " SELECT 'public.jobs_job'::regclass UNION ALL"
        " SELECT indexrelid FROM pg_index WHERE indrelid = 'public.jobs_job'::regclass) AS relations (oid)"
    )
    with transaction.atomic():
        [[before]] = sql(read)
        call()
        [[after]] = sql(read)
        transaction.set_rollback(True)
    return int(after - before)
