from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """The project itself, for its checks and its static files."""

    name = "config"

    def ready(self) -> None:
        from config import checks  # noqa: F401
