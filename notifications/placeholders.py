"""A secret that is in a mail and nowhere else: it is derived when the mail is handed to the server.

What is stored has PLACEHOLDER in its place, and the name of the secret. Whoever reads the database, its backups or the
logs, and has no SECRET_KEY, can't tell the secret.
"""

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

PLACEHOLDER = "[secret]"


def fill_in(text: str, secret_name: str) -> str:
    """The text with its secret, which is the same at every try. Without a name there is none."""
    return text.replace(PLACEHOLDER, _derive(secret_name, settings.SECRET_KEY)) if secret_name else text


def is_secret(secret: str, secret_name: str) -> bool:
    """Whether this is the secret of that name, by SECRET_KEY or by one of SECRET_KEY_FALLBACKS."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return any(constant_time_compare(_derive(secret_name, key), secret) for key in keys)


def _derive(secret_name: str, key: str) -> str:
    """64 hex digits."""
    return salted_hmac("tenantry.placeholders", secret_name, secret=key, algorithm="sha256").hexdigest()
