import pytest
from pytest_django import Settings

from notifications.checks import check_mail_server

CONSOLE = "django.core.mail.backends.console.EmailBackend"
SMTP = "django.core.mail.backends.smtp.EmailBackend"


@pytest.mark.parametrize(
    ("debug", "backend", "found"), [(False, CONSOLE, ["notifications.W001"]), (False, SMTP, []), (True, CONSOLE, [])]
)
def test_mails_that_go_nowhere_in_production_are_found(
    settings: Settings, debug: bool, backend: str, found: list[str]
) -> None:
    settings.DEBUG, settings.EMAIL_BACKEND = debug, backend
    assert [message.id for message in check_mail_server()] == found
