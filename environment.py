"""The environment, as config/settings.py and config/gunicorn.py read it: what each kind of variable may hold.

Any other value raises Misconfigured, whose one line names the variable and what it may hold. An empty value is no
exception. This module is in no room: gunicorn's main process reads it, and importing `config` would import Celery.
"""

import re
from collections.abc import Callable, Collection
from email.utils import parseaddr
from typing import Any, TypeVar
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

Bound = TypeVar("Bound", int, float)
OnOff = TypeVar("OnOff", bool, bool | None)

SWITCH = {**dict.fromkeys(("1", "true", "yes", "on"), True), **dict.fromkeys(("0", "false", "no", "off"), False)}
#: Seconds; PostgreSQL counts the milliseconds of its time-outs in 31 bits.
WEEK = 7 * 24 * 60 * 60
#: Of a count, which PostgreSQL may have to hold in 31 bits, too
MANY = 1_000_000_000
#: Days
CENTURY = 36_500
HOST = re.compile(r"(?=.{1,190}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
#: As browsers write it, in lower case
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
MAILBOX = re.compile(r"[^\s@<>\"]+@[^\s@<>\"]+")


class Misconfigured(ImproperlyConfigured):
    """A variable of the environment has a value that it may not have."""


def text(name: str, default: str) -> str:
    """Anything."""
    return str(environ.Env()(name, default=default))


def integer(name: str, default: int, *, at_least: int = 1, at_most: int = MANY) -> int:
    """A whole number."""

    def parse(value: str) -> int:
        return _within(int(value), at_least, at_most)

    return int(_read(name, default, parse, f"a whole number from {at_least} to {at_most}"))


def number(
    name: str, default: float, *, at_least: float = 0.001, at_most: float = WEEK, or_zero: bool = False
) -> float:
    """A number, with a fraction or without. `or_zero` lets 0 turn something off that has a least value otherwise."""

    def parse(value: str) -> float:
        found = float(value)
        return 0.0 if or_zero and found == 0 else _within(found, at_least, at_most)

    allowed = f"a number from {at_least} to {at_most}{', or 0' if or_zero else ''}"
    # A default is what it is written as: texts say 24 hours, and not 24.0.
    found: float = _read(name, default, parse, allowed)
    return found


def flag(name: str, default: OnOff) -> OnOff:
    """1 or 0, or a word for it. Where the default is None, an empty value is None as well."""

    def parse(value: str) -> bool:
        return SWITCH[value.lower()]

    found: OnOff = _read(name, default, parse, "1 or 0")
    return found


def choice(name: str, default: str, choices: Collection[str]) -> str:
    """One of a few words."""
    values = {word: word for word in choices}
    return str(_read(name, default, values.__getitem__, " or ".join(choices)))


def host(name: str, default: str) -> str:
    """A host's name. `*` or a leading dot would allow every host."""
    allowed = "a host's name in lower case, without scheme, port or dots around it, such as example.com"
    return str(_read(name, default, _matching(HOST), allowed))


def origins(name: str) -> list[str]:
    """Origins of browsers, with commas between them. Sandboxed pages of anybody's have the origin `null`."""
    match = _matching(ORIGIN)

    def parse(value: str) -> list[str]:
        return [match(origin) for origin in value.split(",") if origin]

    allowed = "origins in lower case, with commas and no blanks between them, such as https://app.example.com"
    return list(_read(name, [], parse, allowed))


def sender(name: str, default: str) -> str:
    """A mail's From."""

    def parse(value: str) -> str:
        if not value.isprintable() or not MAILBOX.fullmatch(parseaddr(value)[1]):
            raise ValueError(value)
        return value

    return str(_read(name, default, parse, "one line with an address, such as Shop <no-reply@example.com>"))


def url(name: str, default: str, *, schemes: Collection[str], example: str) -> str:
    """An address of one of these schemes. The error doesn't show the value, which may have a password."""

    def parse(value: str) -> str:
        parts = urlsplit(value)
        is_host_missing = parts.scheme.startswith(("http", "smtp")) and not parts.hostname
        # A port that is none raises.
        if parts.scheme not in schemes or is_host_missing or parts.port == 0 or not value.isprintable():
            raise ValueError(name)
        return value

    return str(_read(name, default, parse, f"a URL such as {example}", shown=False))


def email(name: str, default: str) -> dict[str, Any]:
    """Django's settings of mail, from a URL."""
    example = "smtp+tls://user:password@smtp.example.com:587"
    address = url(name, default, schemes=environ.Env.EMAIL_SCHEMES, example=example)
    return dict(environ.Env.email_url_config(address))


def database(name: str, default: str) -> dict[str, Any]:
    """One of DATABASES, from a URL. The error doesn't show it."""

    def parse(value: str) -> str:
        if value.partition(":")[0] not in environ.Env.POSTGRES_FAMILY:
            raise ValueError(name)
        environ.Env.db_url_config(value)
        return value

    example = "postgres://user:password@localhost:5432/name"
    return dict(environ.Env.db_url_config(_read(name, default, parse, f"a URL such as {example}", shown=False)))


def _read(name: str, default: Any, parse: Callable[[str], Any], allowed: str, *, shown: bool = True) -> Any:
    def cast(value: str) -> Any:
        try:
            return parse(value)
        except (KeyError, ValueError):
            wrong = f"is {value[:60]!r}" if shown else "is wrong"
            raise Misconfigured(f"{name} {wrong}. Set it to {allowed}, or leave it out.") from None

    return environ.Env()(name, cast=cast, default=default)


def _within(value: Bound, at_least: Bound, at_most: Bound) -> Bound:
    if not at_least <= value <= at_most:  # nan is not
        raise ValueError(value)
    return value


def _matching(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def match(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(value)
        return value

    return match
