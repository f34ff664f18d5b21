"""The product's scenarios, for a peer: as they are where they can be, and in the peer's own terms where not.

What is in none of the tables makes no sense for that peer, and `not_applicable` says why.
"""

import signal
import time

from tests.chaos.proxy import Trap
from tests.chaos.run import Run
from tests.chaos.scenarios import SCENARIOS, Scenario, broker, children, endings, messages, processes
from tests.chaos.scenarios.database import COMMIT
from tests.peers.peer import Peer
from tests.peers.world import PeerWorld

EFFECT = b"INSERT INTO chaos_effect"
# After a deletion is begun.
SOON = 6


def worker_killed(run: Run) -> None:
    with run.load():
        for _ in range(run.pace.strikes):
            run.wait_for_work()
            run.pause(0, 0.2)
            run.world.kill("worker")
            run.world.heal()


def two_workers(run: Run) -> None:
    run.world.start("worker-2")
    with run.load():
        pass
    run.wait(run.world.is_quiet, "quiet")


def postgres_killed(run: Run) -> None:
    with run.load():
        run.pause(0.2 * run.pace.spread, 0.8 * run.pace.spread)
        run.world.postgres.kill()
        time.sleep(run.pace.postgres_down)
        run.world.postgres.start()
    run.over()


def postgres_cut(run: Run) -> None:
    """Replies to COMMITs are lost, of requests and of jobs; COMMITs arrive after their client is cut off; and a
    connection breaks in the middle of a job.
    """
    with run.load():
        for trap in (Trap(COMMIT), Trap(COMMIT, after=EFFECT), Trap(COMMIT, after=EFFECT, late=True)):
            trap.times = run.pace.strikes
            run.world.database.trap = trap
            # The first kind strikes the requests themselves.
            run.probes("effect", 3 * trap.times)
            run.wait(lambda trap=trap: not trap.times, f"{trap} sprung")  # type: ignore[misc]  # a lambda's default
    with run.commands.hold("in-body") as hold:
        run.probes("effect", 1, kwargs={"seconds": 0.3})
        held = hold.wait()
        run.world.database.reset()
    run.wait_until_left(held)
    run.over()


def delivered_twice(run: Run) -> None:
    with run.commands.always("twice"):
        with run.load():
            pass
        run.wait(run.world.is_quiet, "quiet")


def tenant_deleted(run: Run) -> None:
    """Some of its jobs are not due yet; two have begun when a worker freezes, and thaw when the schema is gone."""
    assert isinstance(run.world, PeerWorld)
    tenant = run.world.take_spare()
    with run.load(tenants=[*run.tenants, tenant]):
        pass
    run.wait(run.world.is_quiet, "quiet")
    run.probes("effect", 3, tenants=[tenant], countdown=SOON)
    with run.commands.hold("after-claim") as hold:
        run.probes("effect", 1, tenants=[tenant])
        run.probes("call", 1, tenants=[tenant])
        held = hold.wait(at_least=2)
        run.world.signal_all(signal.SIGSTOP, "worker")
    run.world.delete(tenant)
    run.inactive.append((tenant.schema, time.monotonic(), float("inf")))
    run.over()
    run.thaw("worker", held)
    run.wait(run.world.is_quiet, "quiet")
    time.sleep(SOON)


def poison(run: Run) -> None:
    run.probes("kills", 2, doomed=True)
    with run.load():
        pass


def worker_frozen(run: Run) -> None:
    """All but complete, asleep for longer than the visibility timeout, while another worker is there; then awake."""
    with run.load():
        with run.commands.hold("before-complete") as hold:
            held = hold.wait(at_least=2)
            run.world.signal_all(signal.SIGSTOP, "worker")
        run.world.start("worker-2")
        time.sleep(1.5 * run.pace.lease)
    run.over()
    run.thaw("worker", held)


SAME = (
    broker.broker_down,
    broker.broker_emptied,
    broker.broker_black_hole,
    processes.web_killed,
    children.child_killed_atomic,
    children.child_killed_leased_before_call,
    children.child_killed_leased_after_call,
    children.child_killed_after_commit,
    messages.delivered_early,
    processes.rolling_restart,
    endings.hard_limit,
    messages.clock_skew,
)
OWN: dict[str, Scenario] = {
    "worker-killed": worker_killed,
    "two-relays-two-workers": two_workers,
    "postgres-killed": postgres_killed,
    "postgres-cut": postgres_cut,
    "delivered-twice": delivered_twice,
    "poison": poison,
    "worker-frozen": worker_frozen,
}
OF_TENANTS: dict[str, Scenario] = {"tenant-deleted": tenant_deleted}


def scenarios_of(peer: Peer) -> dict[str, Scenario]:
    """In the product's order."""
    own = {**OWN, **(OF_TENANTS if peer.tenants else {})}
    return {name: own.get(name, same) for name, same in SCENARIOS.items() if name in own or same in SAME}


def not_applicable(peer: Peer, name: str) -> str:
    if not peer.tenants and name.startswith("tenant"):
        return "it has no tenants"
    return {"relay-killed": "it has no relay", "tenant-suspended": "its tenants can't be suspended"}[name]
