import json
import uuid
from typing import Any

from tests.chaos.proxy import Mode
from tests.chaos.run import Run

# Whatever the broker is like, a request that waits for its cache does so once, and briefly.
SERVED_SECONDS = 3


def _message(**headers: Any) -> bytes:
    named = {"id": str(uuid.uuid4()), "task": "tests.chaos.saboteur.tasks.effect", **headers}
    route = {"exchange": "", "routing_key": "jobs"}
    properties = {"delivery_info": route, "delivery_tag": str(uuid.uuid4())}
    body = "[[], {}, {}]"
    whole = {"body": body, "content-type": "application/json", "content-encoding": "utf-8"}
    return json.dumps({**whole, "headers": named, "properties": properties}).encode()


SENSELESS = (
    _message(timelimit=5),
    _message(id=["a"]),
    _message(task=["a"]),
    _message(id="x" * 100_000),
    _message(eta="x"),
    _message(retries="x"),
    _message(tenantry={"durable": True, "schema": 5}, id="a"),
    _message()[:-20],
    b"\x00\xff garbage",
    b"{}",
)


def broker_down(run: Run) -> None:
    run.world.broker.turn(Mode.CUT)
    with run.load(spread=run.pace.broker_down):
        pass
    run.world.broker.turn(Mode.PASS)
    run.over()
    run.expect_served(within=SERVED_SECONDS)


def broker_emptied(run: Run) -> None:
    """Killed while jobs wait, some of them in its queue; what comes back knows nothing."""
    run.world.halt("worker")
    run.probes("effect", run.pace.waiting)
    run.wait(lambda: run.world.queued() > 0, "messages in the queue")
    run.world.empty_broker()
    run.over()


def broker_black_hole(run: Run) -> None:
    """Nothing refused, nothing answered; connections from before never live again. Then a slow one, and resets."""
    run.world.broker.turn(Mode.HOLE)
    with run.load(spread=run.pace.broker_hole):
        pass
    run.expect_served(within=SERVED_SECONDS)
    run.world.broker.turn(Mode.SLOW)
    with run.load():
        for _ in range(run.pace.strikes):
            run.pause(0.1, 0.5)
            run.world.broker.reset()
    run.world.broker.turn(Mode.PASS)
    run.over()


def redis_read_only(run: Run) -> None:
    """As while it fails over; then it is full. Nobody may leave for that."""
    pids = {name: process.pid for name, process in run.world.processes.items()}
    with run.load(spread=run.pace.broker_hole):
        run.world.tell_valkey("REPLICAOF", "127.0.0.1", "1")
        run.pause(0.8 * run.pace.broker_hole, run.pace.broker_hole)
        run.world.tell_valkey("REPLICAOF", "NO", "ONE")
    run.wait_for_quiet()
    with run.load(spread=run.pace.broker_hole):
        run.world.tell_valkey("CONFIG", "SET", "maxmemory", "1")
        run.pause(0.8 * run.pace.broker_hole, run.pace.broker_hole)
        run.world.tell_valkey("CONFIG", "SET", "maxmemory", "0")
    run.over()
    run.expect_served(within=SERVED_SECONDS)
    _expect_survivors(run, pids)


def malformed_messages(run: Run) -> None:
    """What no worker can make sense of, between the messages of the load."""
    pids = {name: process.pid for name, process in run.world.processes.items()}
    with run.load():
        for message in SENSELESS:
            run.world.push("jobs", message)
            run.world.push("celery", message)
            run.pause(0, run.pace.spread / len(SENSELESS))
    run.wait_for_quiet()
    run.over()
    _expect_survivors(run, pids)


def _expect_survivors(run: Run, pids: dict[str, int]) -> None:
    for name, pid in pids.items():
        process = run.world.processes[name]
        run.expect(process.running and process.pid == pid, f"{name} left")
