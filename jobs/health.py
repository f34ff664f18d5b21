"""What `/readyz` says: whether this process can serve, and what jobs would miss."""

from datetime import timedelta
from typing import Any

from celery import current_app
from django.db import DatabaseError
from django.db.models import Max
from django.utils import timezone

from jobs.models import Heartbeat
from jobs.servers import SHORT, outages
from tenants.connection import connection

RELAY_LATE = timedelta(seconds=30)


def readiness() -> dict[str, Any]:
    """What this process needs, and what it would miss.

    Only the database makes it `unavailable`: requests don't touch the broker for a durable job, and jobs wait.
    """
    try:
        last_pulse = Heartbeat.objects.aggregate(last=Max("seen_at"))["last"]
    except DatabaseError as error:
        connection.close()
        return {"status": "unavailable", "database": str(error).strip()}
    warnings = [*_relay_warning(last_pulse), *_broker_warning()]
    return {"status": "ready", "database": "ok", "relay_seen_at": last_pulse, "warnings": warnings}


def _relay_warning(last_pulse: Any) -> list[str]:
    if last_pulse is None:
        return ["No relay has ever run: durable jobs wait. Start one: python manage.py relay"]
    if timezone.now() - last_pulse > RELAY_LATE:
        return [f"No relay since {last_pulse:%Y-%m-%d %H:%M:%S} UTC: durable jobs wait."]
    return []


def _broker_warning() -> list[str]:
    # Whoever asks has a time-out of a few seconds, too.
    with current_app.connection_for_write(transport_options=SHORT) as broker:
        try:
            broker.ensure_connection(max_retries=1, timeout=1, interval_start=0)
        except outages(broker) as error:
            return [f"The broker is away: {error}"]
    return []
