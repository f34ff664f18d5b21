"""The second factor of the platform's staff: an authenticator app, and recovery codes. In the public schema."""

import re
from typing import Any, NamedTuple

from django.db import transaction
from django_otp import devices_for_user, verify_token
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import User

RECOVERY_CODES = 10
CODE_OF_AN_APP = re.compile(r"[0-9]{6}")


class SecondFactor(NamedTuple):
    """What its owner has to keep: nobody can be shown it again."""

    uri: str
    recovery_codes: list[str]


def renew_second_factor(user: User) -> SecondFactor:
    """Give a member of staff a new authenticator's key and new recovery codes. The old ones end, and so do sessions."""
    with transaction.atomic():
        for device in devices_for_user(user, confirmed=None):
            device.delete()
        authenticator = TOTPDevice.objects.create(user=user, name="Authenticator app")
        recovery = StaticDevice.objects.create(user=user, name="Recovery codes")
        codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
        StaticToken.objects.bulk_create([StaticToken(device=recovery, token=code) for code in codes])
    return SecondFactor(authenticator.config_url, codes)


def verify_code(user: User, code: str) -> Any:
    """Use up a code. Returns the device of the user's that it is of, or None.

    A wrong code makes its device wait. So each is tried on one kind of device, which it is told by its form.
    """
    kind = TOTPDevice if CODE_OF_AN_APP.fullmatch(code) else StaticDevice
    for device in kind.objects.devices_for_user(user, confirmed=True):
        if verified := verify_token(user, device.persistent_id, code):
            return verified
    return None


def describe(factor: SecondFactor) -> str:
    """The text that a command prints, once."""
    codes = "\n".join(f"  {code}" for code in factor.recovery_codes)
    return (
        "The second factor, which is shown once. Give this to an authenticator app, as a QR code or by hand:\n"
        f"  {factor.uri}\n"
        f"Each of these recovery codes serves once in the app's place:\n{codes}"
    )
