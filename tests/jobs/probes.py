"""Tasks for tests with a real worker (`--include tests.jobs.probes`). What ran, and where, is told through Redis."""

import json
from typing import Any

import redis
from celery import shared_task
from django.conf import settings
from django.db import connection

RAN = f"{settings.REDIS_KEY_PREFIX}probes"


def broker() -> "redis.Redis[str]":
    return redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)


def note(name: str, **facts: Any) -> dict[str, Any]:
    """Record that a body ran: where Django believes to be, and where the database is."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema()")
        [schema] = cursor.fetchone()
    ran = {"name": name, "believed": connection.schema_name, "schema": schema, **facts}
    broker().rpush(RAN, json.dumps(ran))
    return ran


def ran() -> list[dict[str, Any]]:
    return [json.loads(line) for line in broker().lrange(RAN, 0, -1)]


@shared_task
def probe(name: str, *results: Any) -> str:
    """The schema that it ran in."""
    return str(note(name)["schema"])
