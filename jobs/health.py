"""What `/readyz` says: whether this process can serve, and what jobs would miss."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import Error

from jobs.models import Heartbeat
from tenants.connection import connection, fetch_one, retry_on_broken_connection
from tenants.postgresql.internals import skip_health_check
from tenants.postgresql.silence import wait_no_longer_than

logger = logging.getLogger(__name__)

# What `/readyz` tells. A job is overdue if its time came long ago, its tenant is active, and no worker has it. Of the
# line, its front is looked at. Of what is out, or will be due, so many rows as cost little.
HEALTH = """
    SELECT
        ARRAY(SELECT DISTINCT kind FROM public.jobs_relaypulse WHERE seen_at > clock_timestamp() - %(late)s) AS seen,
        EXISTS (
            SELECT FROM public.jobs_relaypulse
            WHERE kind = 'relay' AND error <> '' AND seen_at > clock_timestamp() - %(late)s
        ) AS broker_refuses,
        EXISTS (
            SELECT FROM (
                (SELECT tenant_id, due_at FROM public.jobs_job WHERE tag IS NOT NULL ORDER BY tag, seq LIMIT 100)
                UNION ALL
                (SELECT tenant_id, due_at FROM (
                    SELECT tenant_id, due_at, token, lease_until FROM public.jobs_job
                    WHERE state = 'waiting' AND tag IS NULL AND next_send_at < '9999-01-01 00:00:00+00'
                    ORDER BY next_send_at LIMIT 10000
                ) sent WHERE token IS NULL OR lease_until <= clock_timestamp())
            ) job LEFT JOIN public.tenants_tenant tenant ON tenant.id = job.tenant_id
            WHERE due_at <= clock_timestamp() - %(overdue)s AND (tenant_id IS NULL OR tenant.status = 'active')
        ) AS jobs_overdue,
        (SELECT count(*) FROM (
            SELECT FROM public.jobs_job
            WHERE state = 'dead' AND died_at > clock_timestamp() - interval '1 hour' LIMIT %(dead)s + 1
        ) died) > %(dead)s AS dead_jobs_growing
"""
#: A process that left no sign of life for so long is not there. HEARTBEAT_SECONDS is a third of it at the most.
LATE = timedelta(seconds=30)
#: For so many seconds the database may say nothing. Whoever asks does not wait for long.
PATIENCE = 3.0


def readiness() -> dict[str, Any]:
    """What this process needs, and what it would miss, in words that strangers may read. Details go to the log.

    Only the database makes it `unavailable`: requests don't touch the broker for a durable job, and jobs wait.
    `warnings` has a word for each thing that is wrong, which docs/how-to/deploy.md explains.
    """
    try:
        with wait_no_longer_than(PATIENCE):
            skip_health_check(connection)  # this is one
            seen, *wrong = retry_on_broken_connection(_look)
    except Error as error:
        logger.warning("Not ready, for the database is away: %s", " ".join(str(error).split()))
        connection.close()
        return {"status": "unavailable", "database": "away"}
    warnings = [*_missing(seen), *_warnings(*wrong)]
    return {"status": "ready", "database": "ok", "warnings": warnings}


def _look() -> Any:
    parameters = {
        "late": LATE,
        "overdue": timedelta(seconds=settings.JOBS_OVERDUE_SECONDS),
        "dead": settings.JOBS_DEAD_PER_HOUR,
    }
    return fetch_one(HEALTH, parameters)


def _missing(seen: list[str]) -> Iterator[str]:
    for kind in Heartbeat.Kind:
        if kind not in seen:
            yield f"no_{kind.value}"


def _warnings(broker_refuses: bool, jobs_overdue: bool, dead_jobs_growing: bool) -> Iterator[str]:
    if broker_refuses:
        yield "broker_refuses"
    if jobs_overdue:
        yield "jobs_overdue"
    if dead_jobs_growing:
        yield "dead_jobs_growing"
