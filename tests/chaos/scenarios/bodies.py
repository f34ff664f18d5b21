from tests.chaos.run import Run

CARELESS = ("stages", "wanders", "spins_off")
ROUNDS = 4


def careless_bodies(run: Run) -> None:
    """Nothing breaks but the manners of those who write bodies: of two tenants by turns, on the same sessions."""
    with run.load():
        for _ in range(ROUNDS):
            for probe in CARELESS:
                run.probes(probe, 2 * len(run.tenants))
            run.probes("effect", len(run.tenants), swallow=True)
    run.expect(
        all(not answer.created for answer in run.answers if answer.request.body.get("swallow")),
        "a transaction whose COMMIT was a ROLLBACK was told to be done",
    )
