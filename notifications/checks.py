from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register


@register
def check_mail_server(**kwargs: Any) -> list[CheckMessage]:
    if settings.DEBUG or "console" not in settings.EMAIL_BACKEND:
        return []
    return [
        Warning(
            "Mails are printed to the console, and count as sent",
            hint="Set EMAIL_URL to your mail server, such as smtp+tls://user:password@smtp.example.com:587",
            id="notifications.W001",
        )
    ]
