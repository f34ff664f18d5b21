"""The count for a peer: the same counters, in its tables. Each job counts once at the most in each of them."""

from collections import Counter

from tests.chaos.books import Books, Faults, Promised
from tests.peers.world import PeerWorld

STEPS = ("bill", "charge", "receipt")


class PeerBooks(Books):
    _world: PeerWorld

    def close(self) -> Faults:
        self._broker = self._world.in_broker()
        self._wrong: dict[str, str] = {}
        self.jobs = self._probes()
        self._audit_effects()
        self._audit_probes()
        for schema in self.tenants:
            self._audit_shop(schema)
        self._audit_homes()
        self._audit_cards()
        self.jobs |= {id: Promised(home="elsewhere") for id in self._wrong if id not in self.jobs}
        self.faults.wrong += [f"{id} {told}" for id, told in self._wrong.items()]
        return self.faults

    def _audit_effects(self) -> None:
        found = [
            (id, home, schema, early)
            for schema in self.schemas
            for id, home, early in self._world.sql(f'SELECT job::text, home, early FROM "{schema}".chaos_effect')
        ]
        self._effects = Counter(id for id, *_ in found)
        self._wrong |= {id: f"ran in {schema}" for id, home, schema, _ in found if home != schema}
        self.faults.early += sorted({f"{id} ran before its time" for id, *_, early in found if early})
        known = {id for (id,) in self._world.sql("SELECT id::text FROM chaos_job")}
        self.faults.early += [
            f"{id} ran, and its transaction never committed" for id in self._effects if id not in known
        ]
        self.faults.twice += [f"{id} left {count} effects" for id, count in self._effects.items() if count > 1]

    def _audit_probes(self) -> None:
        """Each has its effect, or is in the broker; and its tenant can read how it ended."""
        states = self._states()
        for id, job in self.jobs.items():
            if id in self._broker and not self._effects[id]:
                self.faults.stuck.append(id)
            elif (self._effects[id] > 0) == job.doomed:
                self.faults.lost.append(f"{id} left {'an' if job.doomed else 'no'} effect and is {states[id]}")
            elif (job.home, "FAILURE" if job.doomed else "SUCCESS") not in states[id]:
                self.faults.lost.append(f"{id} ended, and is {states[id] or 'nowhere'}")
            if elsewhere := [schema for schema, _ in states[id] if schema != job.home]:
                self._wrong.setdefault(id, f"has its result in {elsewhere}")

    def _audit_shop(self, schema: str) -> None:
        """An order that stopped half-way has lost one job: the later ones were never dispatched."""
        rows = self._world.sql(
            "SELECT o.id::text, p.id::text, description, p.id IS NOT NULL, settled_at IS NOT NULL,"
            f' receipt_sent_at IS NOT NULL FROM "{schema}".shop_order o'
            f' JOIN "{schema}".shop_orderline l ON l.order_id = o.id'
            f' LEFT JOIN "{schema}".shop_payment p ON p.order_id = o.id'
        )
        placed = Counter(description for _, _, description, *_ in rows)
        self.faults.twice += [f"order {description} placed {n} times" for description, n in placed.items() if n > 1]
        mails = self._mails()
        for id, payment, description, *done in rows:
            steps = STEPS[: sum(done) + 1]
            self.jobs |= {f"{step} {id}": Promised(schema) for step in steps}
            slug = description.split()[0]
            to = mails.get(f"<{id}@localhost>")
            if self._world.peer.schema(slug) != schema or to not in (None, [f"ada@{slug}.example"]):
                self._wrong[f"{steps[0]} {id}"] = f"of {slug} in {schema}, its receipt to {to}"
            if not all(done):
                is_there = id in self._broker or str(payment) in self._broker
                (self.faults.stuck if is_there else self.faults.lost).append(f"{steps[-1]} {id}")
            elif to is None:
                self.faults.lost.append(f"receipt {id}, which counts as sent")

    def _audit_homes(self) -> None:
        for event in self._world.commands.events("began"):
            if self._inactive(event):
                self._wrong.setdefault(event["job"], f"ran when {event['home']} was gone")

    def _payments(self) -> dict[str, set[str]]:
        return {
            schema: {id for (id,) in self._world.sql(f'SELECT id::text FROM "{schema}".shop_payment')}
            for schema in self.tenants
        }
