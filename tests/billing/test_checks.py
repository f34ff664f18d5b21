import pytest
from pytest_django import Settings

from billing.checks import check_gateway_timeout, check_payment_gateway


def test_the_default_settings_pass() -> None:
    assert check_payment_gateway() == check_gateway_timeout() == []


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("billing.gateways.Gone", "billing.E001"),
        ("no.such.module.Gateway", "billing.E001"),
        ("nodots", "billing.E001"),
        ("billing.gateways.Charge", "billing.E002"),
    ],
)
def test_a_wrong_gateway_is_found_at_the_start(settings: Settings, path: str, error: str) -> None:
    settings.PAYMENT_GATEWAY = path
    assert [message.id for message in check_payment_gateway()] == [error]


def test_a_timeout_that_outlives_the_job_is_found_at_the_start(settings: Settings) -> None:
    settings.CARD_GATEWAY_TIMEOUT = settings.CELERY_TASK_SOFT_TIME_LIMIT
    assert [message.id for message in check_gateway_timeout()] == ["billing.E003"]
