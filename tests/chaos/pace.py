"""How much and how long: in full for `make chaos`, in short for `make test`. Times are in seconds."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    soft_limit: float
    hard_limit: float
    margin: float
    # Shorter than the soft limit, as in production: who waits for a lost worker's lock outlives it.
    renewed_lease: float
    first_resend: float
    orders: int  # of each tenant
    probes: int  # of each kind, of each tenant
    spread: float  # over which the load is placed
    strikes: int
    broker_down: float
    broker_hole: float
    postgres_down: float
    outage: float
    waiting: int  # jobs, when the broker comes back empty
    patience: float  # with whatever has to come: with quiet after a fault, above all
    placing: float = math.inf  # from the last request's time until clients stop trying

    @property
    def lease(self) -> float:
        """As long as one has to be that nobody renews."""
        return self.hard_limit + self.margin

    def environment(self) -> dict[str, str]:
        return {
            "JOB_SOFT_TIME_LIMIT": str(self.soft_limit),
            "JOB_HARD_TIME_LIMIT": str(self.hard_limit),
            "JOB_LEASE_MARGIN": str(self.margin),
            "JOB_LEASE": str(self.renewed_lease),
            "JOB_FIRST_RESEND": str(self.first_resend),
            "JOB_MAX_RESEND": str(2 * self.first_resend),
            "WORKER_SHUTDOWN_SECONDS": str(self.soft_limit),
            "CARD_GATEWAY_TIMEOUT": "1",
        }


LONG = Pace(
    soft_limit=4,
    hard_limit=5,
    margin=5,
    renewed_lease=2,
    first_resend=5,
    orders=8,
    probes=4,
    spread=10,
    strikes=8,
    broker_down=60,
    broker_hole=30,
    postgres_down=5,
    outage=30,
    waiting=200,
    patience=90,
)
SHORT = Pace(
    soft_limit=1.5,
    hard_limit=2,
    margin=2,
    renewed_lease=1,
    first_resend=2,
    orders=1,
    probes=1,
    spread=1,
    strikes=2,
    broker_down=3,
    broker_hole=3,
    postgres_down=1,
    outage=4,
    waiting=40,
    patience=30,
)
