"""`manage.py relay`: the process that publishes durable jobs."""

import signal
from argparse import ArgumentParser
from typing import Any

from celery.app import app_or_default
from django.core.management.base import BaseCommand

from jobs.relay.process import Relay, planning_by_index
from jobs.relay.publisher import Publisher
from jobs.servers import warn_of_eviction
from tenants.role import verify_role


class Command(BaseCommand):
    """`manage.py relay`, or `relay --once`."""

    help = "Move durable jobs from the outbox to the broker. Many may run at once; one is enough."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="send what is due now, and end")

    def handle(self, *, once: bool, **options: Any) -> None:
        verify_role()
        app: Any = app_or_default()
        warn_of_eviction(app)
        relay = Relay(Publisher(app, app.send_job))
        with planning_by_index():
            if once:
                self.stdout.write(f"{relay.drain()} jobs")
                return
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, lambda *_: relay.stop())
            relay.run()
