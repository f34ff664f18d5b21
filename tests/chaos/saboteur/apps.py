import os

from django.apps import AppConfig


class SaboteurConfig(AppConfig):
    name = "tests.chaos.saboteur"

    def ready(self) -> None:
        from tests.chaos.saboteur import faults

        faults.install()
        if unknown := os.environ.get("CHAOS_UNKNOWN"):
            faults.forget_task(unknown)
        if mutant := os.environ.get("CHAOS_MUTANT"):
            from tests.chaos.saboteur import mutations

            mutations.MUTATIONS[mutant]()
