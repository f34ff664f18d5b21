from django.apps import AppConfig


class SaboteurConfig(AppConfig):
    name = "tests.peers.saboteur"

    def ready(self) -> None:
        from tests.peers.saboteur import faults

        faults.install()
