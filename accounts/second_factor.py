"""The second factor of the platform's staff: an authenticator app, and recovery codes. In the public schema.

A recovery code is stored as a digest by SECRET_KEY. The key of an app has to be stored as it is.
"""

import re
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.utils.crypto import salted_hmac
from django_otp import devices_for_user, verify_token
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import User
from accounts.sessions import end_sessions

RECOVERY_CODES = 10
CODE_OF_AN_APP = re.compile(r"[0-9]{6}")
#: Blanks and dashes, also those that a text program makes of them. No code has one: they are letters and digits.
BESIDE_CODES = re.compile(r"[\s\u2010-\u2015\u2212-]+")
#: Hex digits, which is what the column has room for. The codes of before digests are shorter.
DIGEST_LENGTH = 16


class SecondFactor(NamedTuple):
    """What its owner has to keep: nobody can be shown it again."""

    uri: str
    recovery_codes: list[str]


def renew_second_factor(user: User) -> SecondFactor:
    """Give a member of staff a new authenticator's key and new recovery codes. The old ones end, and so do sessions."""
    with transaction.atomic():
        for device in devices_for_user(user, confirmed=None):
            device.delete()
        end_sessions(user.pk)
        authenticator = TOTPDevice.objects.create(user=user, name="Authenticator app")
        recovery = StaticDevice.objects.create(user=user, name="Recovery codes")
        codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
        StaticToken.objects.bulk_create([StaticToken(device=recovery, token=digest_code(code)) for code in codes])
    return SecondFactor(authenticator.config_url, codes)


def digest_code(code: str, key: str | None = None) -> str:
    """What is stored of a recovery code: DIGEST_LENGTH hex digits, by SECRET_KEY or another key."""
    return salted_hmac("tenantry.recovery_codes", code, secret=key, algorithm="sha256").hexdigest()[:DIGEST_LENGTH]


def verify_code(user: User, code: str) -> Any:
    """Use up a code, in any case and with blanks or dashes in it.

    Returns the device of the user's that it is of, or None. accounts/logins.py limits the tries.
    """
    bare = BESIDE_CODES.sub("", code).lower()
    if CODE_OF_AN_APP.fullmatch(bare):
        return _verify_app(user, bare)
    # As it was sent, too: before, codes of any form could be given by hand.
    return _use_recovery_code(user, {bare, code})


def _verify_app(user: User, code: str) -> Any:
    for device in TOTPDevice.objects.devices_for_user(user, confirmed=True):
        if verified := verify_token(user, device.persistent_id, code):
            return verified
    return None


def _use_recovery_code(user: User, spellings: set[str]) -> Any:
    """Of two who use one code at once, one deletes it."""
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    digests = [digest_code(code, key) for key in keys for code in spellings]
    for device in StaticDevice.objects.devices_for_user(user, confirmed=True):
        used, _ = StaticToken.objects.filter(device=device, token__in=digests).delete()
        if used:
            return device
    return None


def describe(factor: SecondFactor) -> str:
    """The text that a command prints, once."""
    codes = "\n".join(f"  {code}" for code in factor.recovery_codes)
    return (
        "The second factor, which is shown once. Give this to an authenticator app, as a QR code or by hand:\n"
        f"  {factor.uri}\n"
        f"Each of these recovery codes serves once in the app's place:\n{codes}"
    )
