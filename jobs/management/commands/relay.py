import signal
from argparse import ArgumentParser
from typing import Any

from celery import current_app
from django.core.management.base import BaseCommand

from jobs.relay import Relay, planning_by_index


class Command(BaseCommand):
    help = "Move durable jobs from the outbox to the broker. Many may run at once; one is enough."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="send what is due now, and end")

    def handle(self, *, once: bool, **options: Any) -> None:
        relay = Relay(current_app._get_current_object())
        with planning_by_index():
            if once:
                self.stdout.write(f"{relay.drain()} jobs")
                return
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, lambda *_: relay.stop())
            relay.run()
