"""What a tenant may be called."""

import zoneinfo
from collections.abc import Callable
from functools import cache

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator

from tenants.text import normalize_name

MAX_SLUG_LENGTH = 40

# PostgreSQL keeps schemas named `pg_…` for itself. Hosts with `xn--` can be spelt with look-alike letters.
validate_slug = RegexValidator(
    rf"^(?!pg-|xn--)[a-z](?:[a-z0-9-]{{0,{MAX_SLUG_LENGTH - 2}}}[a-z0-9])?\Z",
    f"Use lower-case letters, digits and hyphens, {MAX_SLUG_LENGTH} at the most; start with a letter, end with a "
    "letter or digit; don't start with pg- or xn--.",
)

# Hosts that the platform, mail servers or browsers use, and hosts that a user would take for the platform's own.
RESERVED_SLUGS = frozenset(
    """
    account admin api app assets auth autoconfig autodiscover billing blog cdn dashboard dev docs ftp health help imap
    internal jobs localhost login mail mx ns ns1 ns2 pop postmaster public root security signup smtp sso staging static
    status support system tenant tenants test webmail wpad www
    """.split()  # noqa: SIM905  # a list of fifty quoted words is no easier to read
)


def validate_not_reserved(slug: str) -> None:
    """Raise ValidationError for a slug whose host the platform keeps for itself."""
    if slug in RESERVED_SLUGS:
        raise ValidationError(f"{slug!r} is reserved; choose another.", code="reserved")


def validate_printable(value: str) -> None:
    """Raise ValidationError for what no name holds. Names go into mail headers and logs."""
    normalize_name(value)


def clean_field(name: str, normalize: Callable[[str], str], value: str) -> str:
    """The value in its normal form, for a model's `clean`. Raises ValidationError that names the field."""
    try:
        return normalize(value)
    except ValidationError as error:
        raise ValidationError({name: error}) from error


@cache
def time_zones() -> frozenset[str]:
    """The IANA time zones of this machine. To list them reads all of its files."""
    # The first is whatever this machine is set to, the second says that nobody has set it.
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def validate_timezone(value: str) -> None:
    """Raise ValidationError for what is no IANA time zone on this machine."""
    if value not in time_zones():
        raise ValidationError(f"{value!r} is no IANA time zone, such as Europe/Berlin.", code="unknown_timezone")
