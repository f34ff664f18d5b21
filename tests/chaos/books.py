"""The count after a scenario: what was promised, and what became of it, in the database and in the sinks' logs."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.load import Answer
from tests.chaos.tenants import Tenant
from tests.chaos.world import World

ORDER_JOBS = 3  # bill, charge, receipt


@dataclass(frozen=True)
class Promised:
    """A job that was committed. A doomed one has to end as dead, any other as a success."""

    home: str
    doomed: bool = False


@dataclass
class Faults:
    """What was found, in words."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)


class Books:
    def __init__(
        self, world: World, faults: Faults, *, sinks_from: dict[Path, int], answers: list[Answer], inactive: Any
    ) -> None:
        self._world = world
        self._sinks_from = sinks_from
        self._answers = answers
        self._inactive = inactive
        there = {schema for (schema,) in world.sql("SELECT nspname FROM pg_namespace")}
        self.tenants = {tenant.schema: tenant for tenant in world.tenants.values() if tenant.schema in there}
        self.schemas = tuple(dict.fromkeys(("public", *self.tenants)))
        self.faults = faults
        self.jobs: dict[str, Promised] = {}

    def close(self) -> Faults:
        self.jobs = self._probes()
        for tenant in self.tenants.values():
            self._audit_orders(tenant)
        self._audit_answers()
        self._waiting = {id for (id,) in self._world.sql("SELECT id::text FROM jobs_job WHERE state = 'waiting'")}
        self.faults.stuck += sorted(self._waiting)
        self._audit_states()
        self._audit_effects()
        self._audit_bodies()
        self._audit_homes()
        self._audit_cards()
        self._audit_mails()
        return self.faults

    def _probes(self) -> dict[str, Promised]:
        rows = self._world.sql("SELECT id::text, home, doomed FROM chaos_job")
        return {id: Promised(home, doomed) for id, home, doomed in rows if home in self.schemas}

    def _audit_orders(self, tenant: Tenant) -> None:
        """Each order has its three jobs, and one of everything."""
        rows = self._world.sql(
            f'SELECT o.id::text, jobs::text[], description, status FROM "{tenant.schema}".billing_order o'
            f' JOIN "{tenant.schema}".billing_orderline l ON l.order_id = o.id'
        )
        placed = Counter(description for _, _, description, _ in rows)
        self.faults.twice += [f"order {description} placed {n} times" for description, n in placed.items() if n > 1]
        for id, jobs, description, status in rows:
            self.jobs |= {job: Promised(tenant.schema) for job in jobs}
            self.faults.wrong += [f"order {id} of {description} in {tenant.slug}"] * (
                description.split()[0] != tenant.slug
            )
            self.faults.lost += [f"order {id} has a step less"] * (ORDER_JOBS - len(jobs))
            self.faults.twice += [f"order {id} has a step more"] * (len(jobs) - ORDER_JOBS)
            self.faults.lost += [f"order {id} is {status}"] * (status != "paid" and len(jobs) == ORDER_JOBS)
        for table in ("billing_invoice", "billing_payment", "notifications_message"):
            [(count,)] = self._world.sql(f'SELECT count(*) FROM "{tenant.schema}".{table}')
            self.faults.twice += [f"a {table} more in {tenant.slug}"] * (count - len(rows))

    def _audit_answers(self) -> None:
        """What a client was told to exist, does; what was rolled back leaves no trace."""
        created = [
            answer for answer in self._answers if answer.created and answer.request.tenant.schema in self.tenants
        ]
        for answer in created:
            asked = answer.request.body
            if "roll_back" in asked:
                self.jobs.pop(answer.body["id"], None)
            elif "probe" in asked:
                self.faults.lost += [f"probe {answer.body['id']}"] * (answer.body["id"] not in self.jobs)
            else:
                self.faults.lost += [job for job in answer.body["jobs"] if job not in self.jobs]

    def _audit_states(self) -> None:
        """Each job's one terminal state is at home."""
        dead = dict(self._world.sql("SELECT id::text, error FROM jobs_job WHERE state = 'dead'"))
        states = self._states()
        for id, job in self.jobs.items():
            self.faults.wrong += [f"result of {id} in {schema}" for schema, _ in states[id] if schema != job.home]
            expected = (job.home, "FAILURE" if job.doomed else "SUCCESS")
            if id not in self._waiting and (expected not in states[id] or (id in dead) != job.doomed):
                self.faults.lost += [f"{id} is {states[id] or 'nowhere'}, {dead.get(id, 'not dead')}"]

    def _states(self) -> dict[str, list[tuple[str, str]]]:
        """Of each job that has a result: the schemas that it lies in, and its state there."""
        states: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for schema in self.schemas:
            for id, status in self._world.sql(
                f'SELECT task_id, status FROM "{schema}".django_celery_results_taskresult'
            ):
                states[id].append((schema, status))
        return states

    def _audit_effects(self) -> None:
        effects: Counter[str] = Counter()
        for schema in self.schemas:
            for id, home, early in self._world.sql(f'SELECT job::text, home, early FROM "{schema}".chaos_effect'):
                effects[id] += 1
                self.faults.wrong += [f"effect of {id} in {schema}"] * (home != schema)
                self.faults.early += [f"{id} ran before its time"] * early
        for id, doomed in self._world.sql("SELECT id::text, doomed FROM chaos_job"):
            if id in self.jobs and id not in self._waiting:
                self.faults.lost += [f"{id} left no effect"] * (not doomed and effects[id] == 0)
                self.faults.lost += [f"{id} is dead, and left an effect"] * (doomed and effects[id] > 0)
        known = {id for (id,) in self._world.sql("SELECT id::text FROM chaos_job")}
        self.faults.early += [f"{id} ran, and its transaction never committed" for id in effects if id not in known]
        self.faults.twice += [f"{id} left {count} effects" for id, count in effects.items() if count > 1]

    def _audit_bodies(self) -> None:
        """No two bodies of a job run at once within one lease."""
        ended: dict[tuple[int, str], list[float]] = defaultdict(list)
        for event in self._world.commands.events("left"):
            ended[event["pid"], event["job"]].append(event["at"])
        begun: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in self._world.commands.events("began"):
            for other in begun[event["job"]]:
                alive = any(event["at"] < end for end in ended[other["pid"], other["job"]])
                within = event["at"] < other["at"] + self._world.pace.renewed_lease
                if alive and within and not _over(other, event, ended):
                    self.faults.twice.append(f"two bodies of {event['job']} at once")
            begun[event["job"]].append(event)

    def _audit_homes(self) -> None:
        """No body runs while its tenant is suspended or gone."""
        for event in self._world.commands.events("began"):
            if self._inactive(event):
                found = self.faults.early if event["home"] in self.tenants else self.faults.wrong
                found.append(f"{event['job']} ran in {event['home']}, which was not active")

    def _audit_cards(self) -> None:
        keys: dict[tuple[str, str], set[str]] = defaultdict(set)
        payments = self._payments()
        for call in self._logged(self._world.stack.cards.calls):
            if call["tenant"] in payments:
                known = call["key"] in payments[call["tenant"]] and call["outcome"] != "conflict"
                self.faults.wrong += [] if known else [f"charge {call['key']} of {call['tenant']}"]
            if call["outcome"] == "charged":
                keys[call["tenant"], call["reference"]].add(call["key"])
        self.faults.twice += [f"{charge} was charged {len(of)} times" for charge, of in keys.items() if len(of) > 1]

    def _payments(self) -> dict[str, set[str]]:
        """Their ids, by what the card sink knows a tenant by."""
        return {tenant.slug: self._ids(tenant, "billing_payment") for tenant in self.tenants.values()}

    def _audit_mails(self) -> None:
        sent = self._mails()
        for tenant in self.tenants.values():
            for id in self._ids(tenant, "notifications_message"):
                to = sent.get(f"<{id}@localhost>")
                self.faults.wrong += [f"mail {id} of {tenant.slug} to {to}"] * (to not in (None, [tenant.owner]))
                done = self._world.sql(
                    f"SELECT status FROM \"{tenant.schema}\".notifications_message WHERE id = '{id}'"
                )
                self.faults.lost += [f"mail {id} of {tenant.slug}"] * (to is None and done == [("sent",)])

    def _mails(self) -> dict[str, list[str]]:
        """To whom they went, by Message-ID."""
        return {mail["message_id"]: mail["to"] for mail in self._logged(self._world.stack.mail.calls)}

    def _ids(self, tenant: Tenant, table: str) -> set[str]:
        return {id for (id,) in self._world.sql(f'SELECT id::text FROM "{tenant.schema}".{table}')}

    def _logged(self, log: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines()[self._sinks_from[log] :]]


def _over(body: dict[str, Any], later: dict[str, Any], ended: dict[tuple[int, str], list[float]]) -> bool:
    """Whether the body had ended when the later one began: the same process may run a job again."""
    return any(body["at"] <= end <= later["at"] for end in ended[body["pid"], body["job"]])
