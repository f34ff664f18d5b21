"""A peer in the place of the product: on the same servers, behind the same proxies, with the same tenants' names."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from devstack.servers import Stack, temporary_stack
from tests.chaos.pace import Pace
from tests.chaos.tenants import Tenant, make_tables
from tests.chaos.world import SLUGS, World
from tests.peers.peer import Peer

TRACES = [
    "chaos_effect",
    "chaos_job",
    "django_celery_results_taskresult",
    "shop_order",
    "shop_orderline",
    "shop_payment",
]
# Longer than any limit of a task, and than billiard waits until it reports a lost child (10 s): what has not moved for
# so long waits for a visibility timeout of an hour, or is gone.
STILL = 13


class PeerWorld(World):
    usual = ("web", "worker")
    linger = 0.5

    def __init__(self, peer: Peer, stack: Stack, folder: Path, pace: Pace) -> None:
        super().__init__(stack, folder, pace)
        self.peer = peer
        self._moved_at = 0.0
        self._unfinished = ""

    def env(self) -> dict[str, str]:
        return {
            **self.peer.environment(self.servers(), **self.settings()),
            "PEER_APPS": "tests.peers.saboteur",
            "CHAOS_FOLDER": str(self.commands.folder),
        }

    def settings(self) -> dict[str, Any]:
        """Those of the peer's guide, with the limits that the product has in its own chaos."""
        return {
            "ROOT_URLCONF": "tests.peers.saboteur.urls",
            "CARD_GATEWAY_TIMEOUT": 1,
            "CELERY_TASK_SOFT_TIME_LIMIT": self.pace.soft_limit,
            "CELERY_TASK_TIME_LIMIT": self.pace.hard_limit,
        }

    def configure(self, environ: dict[str, str], **settings: Any) -> None:
        """From now on."""
        self.sabotage(PEER_SETTINGS=json.dumps({**self.settings(), **settings}), **environ)

    def lines(self) -> dict[str, str]:
        return self.peer.lines

    def found(self, *, spares: int) -> None:
        slugs = [*SLUGS, *(f"spare-{number}" for number in range(spares))]
        for slug, token in self.peer.found(self.env(), slugs).items():
            self.tenants[slug] = Tenant(slug, self.peer.schema(slug), owner=f"ada@{slug}.example", token=token)
        make_tables(self, [tenant.schema for tenant in self.tenants.values()])

    def delete(self, tenant: Tenant) -> None:
        """As django-tenants does."""
        self.peer.run(f"-m django delete_tenant --schema {tenant.schema} --noinput", self.env())

    def _is_live(self) -> bool:
        with suppress(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{self.port}/", trust_env=False)
            return True
        return False

    def _empty(self) -> None:
        self._view.redis.flushdb()
        tables = self.sql(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables WHERE tablename = ANY(%s)",
            [TRACES],
        )
        self.sql(f"TRUNCATE {', '.join(name for (name,) in tables)} CASCADE")

    def is_at_work(self) -> bool:
        return self.commands.at_work()

    def queued(self) -> int:
        return int(self._view.redis.llen("celery"))

    def in_broker(self) -> str:
        """All messages that the broker has, taken by a worker or not."""
        messages = [*self._view.redis.lrange("celery", 0, -1), *self._view.redis.hvals("unacked")]
        return "\n".join(map(str, messages))

    def _is_busy(self) -> bool:
        """As long as something moves."""
        if self.queued() > 0 or self.commands.at_work():
            self._moved_at = monotonic()
            return True
        unfinished = self.in_broker() + self._started()
        if unfinished != self._unfinished:
            self._unfinished, self._moved_at = unfinished, monotonic()
        return bool(unfinished) and monotonic() < self._moved_at + STILL

    def _started(self) -> str:
        schemas = dict.fromkeys(["public", *(tenant.schema for tenant in self.tenants.values())])
        started = "SELECT task_id FROM \"{}\".django_celery_results_taskresult WHERE status = 'STARTED' ORDER BY 1"
        return " ".join(id for schema in schemas for (id,) in self.sql(started.format(schema)))


@contextmanager
def new_world(peer: Peer, pace: Pace, *, spares: int) -> Iterator[PeerWorld]:
    peer.set_up()
    with temporary_stack() as stack, PeerWorld(peer, stack, stack.mail.calls.parent, pace) as world:
        world.found(spares=spares)
        yield world
