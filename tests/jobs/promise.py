"""What a durable job's life may look like: P1 to P5, checked against each look that a test has at the database.

A *look* is all there is: jobs, results and effects, in each schema. It is judged by itself, and by how
it follows from the look before.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from celery import states
from django.conf import settings
from django_tenants.utils import quote_schema_name

from tests.jobs.durables import sql

ENDED = {states.SUCCESS, states.REVOKED, states.IGNORED}
RETRY_AFTER = 2000
UNKNOWN_FOR = 24 * 3600
RESULTS = "django_celery_results_taskresult"


@dataclass
class Job:
    """What the model knows of a job. Times are seconds of the model's clock."""

    id: str
    args: list[Any]
    home: str
    open: bool  # atomic = False
    due: int
    expires: int | None = None
    links: bool = False
    attempts: int = 0
    # The most that the job may have been through, as to who counts it.
    crashes: int = 0
    losses: int = 0
    deaths: int = 0
    unknown_since: int | None = None
    fatal: set[str] = field(default_factory=set)  # the leases under which something happened that it may die of
    keys: set[str] = field(default_factory=set)  # idempotency keys that the outside world has seen
    called: bool = False  # the outside world, since it was dispatched or run again
    children: dict[str, int] = field(default_factory=lambda: {"then": 0, "else": 0})


@dataclass(frozen=True)
class Row:
    id: str
    tenant: str | None
    state: str
    attempt: int
    retries: int
    kills: int
    lost: int
    transients: int
    snoozes: int
    token: str | None
    live: bool  # its lease holds
    args: str
    created: str
    seq: int

    @property
    def poison(self) -> bool:
        lost = self.lost + (self.token is not None)
        return self.kills >= settings.JOB_MAX_KILLS or lost >= settings.JOB_MAX_LOST


@dataclass(frozen=True)
class Result:
    schema: str
    id: str
    status: str
    value: str
    meta: str
    done: str


@dataclass(frozen=True)
class Look:
    statuses: dict[str, str]  # of each tenant, by schema
    rows: dict[str, Row]
    results: dict[str, list[Result]]
    effects: dict[str, list[tuple[str, str]]]  # schema and token

    def is_open(self, schema: str) -> bool:
        return schema == "public" or self.statuses.get(schema) == "active"

    def is_there(self, schema: str) -> bool:
        return schema == "public" or self.statuses.get(schema) in ("active", "suspended")


ROWS = """
    SELECT id, tenant_id AS tenant, state, attempt, retries, kills, lost, transients, snoozes, token, args,
        created_at AS created,
        token IS NOT NULL AND lease_until > clock_timestamp() AS live, seq
    FROM public.jobs_job
"""
# By one statement: the test looks after each step.
LOOK = """
    SELECT json_build_array(
        (SELECT json_agg(json_build_array(schema_name, status)) FROM public.tenants_tenant),
        (SELECT json_agg(row ORDER BY seq) FROM ({rows}) row),
        (SELECT json_agg(result) FROM ({results}) result),
        (SELECT json_agg(effect) FROM ({effects}) effect)
    )::text
"""


def look(schemas: list[str]) -> Look:
    """Raises ProgrammingError if one of the schemas is gone."""
    results = _everywhere("task_id AS id, status, result AS value, meta, date_done AS done", RESULTS, schemas)
    effects = _everywhere("job AS id, token", "job_effect", schemas)
    [[found]] = sql(LOOK.format(rows=ROWS, results=results, effects=effects))
    statuses, rows, ends, marks = (part or [] for part in json.loads(found))
    seen = Look(dict(statuses), {row["id"]: Row(**row) for row in rows}, {}, {})
    for end in ends:
        seen.results.setdefault(end["id"], []).append(Result(**end))
    for effect in marks:
        seen.effects.setdefault(effect["id"], []).append((effect["schema"], effect["token"]))
    return seen


def _everywhere(columns: str, table: str, schemas: list[str]) -> str:
    selects = (f"SELECT '{schema}' AS schema, {columns} FROM {quote_schema_name(schema)}.{table}" for schema in schemas)
    return " UNION ALL ".join(selects)


@dataclass(frozen=True)
class Movers:
    """Who may have done something since the last look: the holders of these leases, the relay, an operator."""

    tokens: set[str]
    waited: set[
        str
    ]  # those of them whose statement waited for another party's lock: it saw other rows from before that
    relay: bool
    operator: bool


def judge(jobs: dict[str, Job], clock: int, old: Look, new: Look, movers: Movers) -> None:
    for found in (new.rows, new.results, new.effects):
        assert set(found) <= set(jobs), "P1: a job without a committed dispatch"
    for job in jobs.values():
        _judge_change(job, clock, old, new, movers)
        if new.is_there(job.home):
            _judge_state(job, new)
        assert [schema for schema, _ in new.effects.get(job.id, [])] in ([], [job.home]), "P3, P4: one effect, at home"
        assert {result.schema for result in new.results.get(job.id, [])} <= {job.home}, "P4, P5: results stay at home"


def _judge_state(job: Job, look: Look) -> None:
    row, results, effects = look.rows.get(job.id), look.results.get(job.id, []), look.effects.get(job.id, [])
    assert len(results) <= 1, "a job has one result"
    status = results[0].status if results else None
    if row is None:
        assert status in ENDED, f"P2, P5: the job is gone, its result is {status}"
    else:
        expected = states.FAILURE if row.state == "dead" else None
        assert status == expected, f"P5: the job is {row.state}, its result is {status}"
        assert row.attempt == job.attempts, "each claim is one attempt, and nothing else is"
        assert row.kills <= job.crashes, "only a killed child counts as a kill"
        assert row.lost <= job.losses, "only a lease that ran out counts as lost"
    if status == states.SUCCESS:
        done = json.loads(results[0].value)
        assert effects == [(job.home, done["token"])], "P3: the effect is that of the attempt whose result is kept"
        assert (done["args"], json.loads(results[0].meta)["attempts"]) == (job.args, job.attempts)
    else:
        assert not effects, f"P3: effects of a job whose result is {status}"
    if job.links:
        assert job.children == {"then": int(status == states.SUCCESS), "else": job.deaths}, "links go with the ending"


def _judge_change(job: Job, clock: int, old: Look, new: Look, movers: Movers) -> None:
    before, after = old.rows.get(job.id), new.rows.get(job.id)
    if before is None:
        assert after is None or after.token is None
    else:
        _judge_lease(before, after, movers)
        if after is not None:
            _judge_row(job, clock, old, before, after, movers)
        elif new.is_there(job.home):
            _judge_end(job, clock, before, new.results.get(job.id, []), movers)
    replayed = before is not None and before.state == "dead"
    if job.id in old.results and new.is_there(job.home) and not replayed:
        assert new.results.get(job.id) == old.results[job.id], "P3: a terminal result changed"


def _judge_lease(before: Row, after: Row | None, movers: Movers) -> None:
    if before.live and (after is None or after.token != before.token):
        assert before.token in movers.tokens, "P3: a lease that holds was ended by someone else than its holder"


def _judge_row(job: Job, clock: int, old: Look, before: Row, after: Row, movers: Movers) -> None:
    if after.token and after.token != before.token:
        _judge_claim(job, clock, old, before, after, movers)
    if after.retries > before.retries or after.snoozes > before.snoozes:
        job.crashes, job.due = 0, clock + RETRY_AFTER
    match before.state, after.state:
        case "waiting", "dead":
            job.deaths += 1
            poison = job.crashes >= settings.JOB_MAX_KILLS or job.losses + bool(before.token) >= settings.JOB_MAX_LOST
            unknown = job.unknown_since is not None and clock - job.unknown_since >= UNKNOWN_FOR
            assert before.token in job.fatal or (movers.relay and (poison or unknown)), "P2: it died of nothing"
        case "dead", "waiting":
            assert movers.operator, "only an operator runs a dead job again"
            job.attempts = job.crashes = job.losses = 0
            job.due, job.called, job.expires, job.unknown_since = clock, False, None, None


def _judge_claim(job: Job, clock: int, old: Look, before: Row, after: Row, movers: Movers) -> None:
    assert after.token in movers.tokens
    assert job.due <= clock, "P4: claimed before it was due"
    # The row of one that waited was locked, and so may lag behind the clock.
    lags = after.token in movers.waited
    assert before.attempt > 0 or job.expires is None or job.expires > clock or lags, "claimed though it had expired"
    assert not before.poison, "claimed though it is poison"
    assert old.is_open(job.home) or after.token in movers.waited, "P4: claimed though its tenant is not active"
    job.attempts += 1
    job.unknown_since = None
    job.losses += before.token is not None


def _judge_end(job: Job, clock: int, before: Row, results: list[Result], movers: Movers) -> None:
    expired = movers.relay and before.attempt == 0 and job.expires is not None and job.expires <= clock
    for result in results:
        if result.status == states.REVOKED:
            assert expired or (movers.operator and job.attempts == 0), "revoked by nobody"
            assert expired or not job.called, "P3: cancelled, though it has called the outside world"
        else:
            assert before.token in movers.tokens, "it ended without its holder"
