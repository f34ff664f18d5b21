"""Django system checks of a production: its keys, TLS, names, and whatever `check --deploy` warns of.

On a developer's machine they pass. The release step, web, worker, relay and beat end on errors.
"""

import re
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register, run_checks

#: Django's own bound
MIN_LENGTH = 50
#: Bytes. Random keys of that length need more, whatever their alphabet; what repeats or counts needs fewer.
MIN_CONTENT = 40
#: Of examples, and of the key that DEBUG has. No random key has one, but for one in a million.
WORDS = ("change", "develop", "example", "insecure", "password", "placeholder", "replace", "secret")
QUOTES = ("'", '"', "`")
#: Neighbours on keyboards: rows of three layouts, with shift too, and columns
KEYBOARD = (
    "1234567890 !@#$%^&*() qwertyuiop asdfghjkl zxcvbnm qwertzuiop yxcvbnm azertyuiop qsdfghjklm wxcvbn "
    "1qaz 2wsx 3edc 4rfv 5tgb 6yhn 7ujm"
)
NEIGHBOURS = {frozenset(pair) for pair in pairwise(KEYBOARD) if " " not in pair}
KEY_HINT = (
    'Make one: python -c "import secrets; print(secrets.token_urlsafe(48))". Every reader of .env files takes its '
    "letters, digits, - and _ as they are; some change or cut what has quotes, blanks, #, $ or backslashes."
)
#: Django's warnings about keys, of which E001 says more
ABOUT_KEYS = {"security.W009", "security.W025"}
#: Those that BEHIND_TLS_PROXY settles: HSTS, the redirect, secure cookies
ABOUT_TLS = {"security.W004", "security.W008", "security.W010", "security.W011", "security.W012", "security.W016"}


def in_production() -> bool:
    """Whether this is no developer's machine: those have DEBUG, and no proxy in front that ends TLS."""
    return settings.BEHIND_TLS_PROXY or not settings.DEBUG


@register
def check_keys(**kwargs: Any) -> list[CheckMessage]:
    """Keys that can be guessed, and keys that somebody on the way has not read as they were meant."""
    return list(_wrong_keys()) if in_production() else []


def _wrong_keys() -> Iterator[CheckMessage]:
    fallbacks = {f"SECRET_KEY_FALLBACKS[{index}]": key for index, key in enumerate(settings.SECRET_KEY_FALLBACKS)}
    for name, key in {"SECRET_KEY": settings.SECRET_KEY, **fallbacks}.items():
        if is_misread(key):
            problem = "begins or ends with a quote or a blank, or has a control character: it was not read as meant"
            yield Error(f"{name} {problem}.", hint=KEY_HINT, id="config.E002")
        elif weakness := find_weakness(key):
            yield Error(f"{name} can be guessed: it {weakness}.", hint=KEY_HINT, id="config.E001")


def is_misread(key: str) -> bool:
    """Whether a key has what one reader of .env files keeps and another takes away."""
    return key != key.strip() or not key.isprintable() or key.startswith(QUOTES) or key.endswith(QUOTES)


def find_weakness(key: str) -> str | None:
    """Why a key is no secret, in words that show nothing of it; None for a strong one."""
    if len(key) < MIN_LENGTH:
        return f"has {len(key)} characters, and needs {MIN_LENGTH}"
    if word := next((word for word in WORDS if word in key.lower()), None):
        return f"has the word {word!r} in it"
    pairs = [frozenset(pair) for pair in pairwise(key.lower())]
    if 2 * len([pair for pair in pairs if pair in NEIGHBOURS]) > len(pairs):
        return "follows the rows of a keyboard"
    # From one character to the next, so that "abcdef" repeats itself, too.
    steps = bytes((after - before) % 256 for before, after in pairwise(key.encode()))
    return "repeats itself" if len(zlib.compress(steps, 9)) < MIN_CONTENT else None


@register
def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """What `check --deploy` warns of is an error. What is about TLS is one behind a proxy that ends TLS."""
    if not in_production():
        return []
    passed = ABOUT_KEYS if settings.BEHIND_TLS_PROXY else ABOUT_KEYS | ABOUT_TLS
    return [
        Error(
            f"`manage.py check --deploy` warns: {warning.msg} ({warning.id})",
            hint=warning.hint or "Leave the setting to config/settings.py, or set it to what the warning asks for.",
            id="config.E003",
        )
        for warning in run_checks(tags=[Tags.security], include_deployment_checks=True)
        if not warning.is_serious() and not warning.is_silenced() and warning.id not in passed
    ]


@register
def check_tls(**kwargs: Any) -> list[CheckMessage]:
    """Whether passwords and tokens travel in the clear."""
    if settings.BEHIND_TLS_PROXY or not in_production():
        return []
    return [
        Warning(
            "Clients reach this by plain HTTP, with passwords and tokens that anybody on the way can read.",
            hint="Let a proxy in front end TLS and set X-Forwarded-Proto, and set BEHIND_TLS_PROXY=1.",
            id="config.W001",
        )
    ]


@register
def check_names(**kwargs: Any) -> list[CheckMessage]:
    """Names that lead nobody here: those that a developer's machine has for itself."""
    names = {
        "BASE_DOMAIN": (
            settings.BASE_DOMAIN,
            "clients find no organisation, and links in mails lead to their own machine",
        ),
        "DEFAULT_FROM_EMAIL": (settings.DEFAULT_FROM_EMAIL, "servers refuse its mails, or take them for spam"),
    }
    return [
        Warning(
            f"{name} is {value!r}: {problem}.",
            hint="Set it to a domain of yours.",
            id="config.W002",
        )
        for name, (value, problem) in names.items()
        if in_production() and re.search(r"(^|[@.])localhost>?$", value)
    ]
