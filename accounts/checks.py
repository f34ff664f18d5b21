from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string


@register
def check_keepers(**kwargs: Any) -> list[CheckMessage]:
    return list(_check_keepers())


def _check_keepers() -> Iterator[CheckMessage]:
    for name in settings.KEEP_UNCONFIRMED_IF:
        try:
            import_string(name)
        except (ImportError, AttributeError) as error:
            yield Error(
                f"KEEP_UNCONFIRMED_IF can't be imported: {error}",
                hint="Name functions without arguments, such as billing.services.may_have_charged",
                id="accounts.E001",
            )
