"""What a tenant may be called."""

import re
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

# What software looks for under a domain, and what people would take for the platform itself. Names with an underscore,
# such as _dmarc, are no slugs.
RESERVED_SLUGS = frozenset(
    """
    abuse administrator administration billing compliance hostmaster info list lists mailer-daemon marketing newsletter
    no-reply noc noreply postmaster privacy root sales security ssladmin ssladministrator sslwebmaster support sysadmin
    usenet uucp webmaster

    acme-challenge alt arpa autoconfig autodiscover bimi broadcasthost ca caldav carddav calendar
    contacts crl dav dkim dmarc domainkey enterpriseenrollment enterpriseregistration invalid isatap kdc kerberos
    localdomain localhost loghost loopback lyncdiscover metadata msoid mta-sts ocsp onion openpgpkey pki sip sipdir
    sipfed spf tls-rpt well-known wellknown wpad

    about account accounts admin admins all anonymous any app apps auth authentication authorize blog business callback
    careers cert certs checkout connect console contact control cpanel dashboard default demo developer developers
    dev development doc docs documentation domain domains download downloads error errors event events example faq
    feedback file files fonts forum guest health healthz help hook hooks host hosting hostname hosts id identity
    helpdesk image images img internal intranet invoice invoices job jobs js css legal local livez login logout manage
    manager me media member members metrics mobile monitor monitoring my network news nobody null oauth oauth2 official
    oidc online operator ops order orders organisation organisations organization organizations owner panel partner
    partners password passwords pay payment payments phpmyadmin platform plesk policy portal press preview pricing
    private prod production profile public readyz register registration reset saml sandbox schema search secure
    service services session settings shop sign-in sign-up signin signout signup site sites sso staff stage staging
    static statistics stats status store subscribe subscription subscriptions superuser sys system team teams tenant
    tenantry tenants terms test testing token tokens tos trust undefined unknown unsubscribe update updates upload
    uploads user users verification verify webhook webhooks welcome whm wiki
    """.split()  # noqa: SIM905  # a list of some hundred quoted words is no easier to read
)
# Names of servers, which have numbers: ns1, mail-2.
RESERVED_SERVERS = frozenset(
    """
    api assets backup cache cdn cloud content data database db dns edge email exchange ftp gateway git graphql grpc gw
    host imap imaps ip ipv ldap log logs m mail mailer mailin mailout mta mx mysql name nameserver ns ntp origin owa pop
    pops postgres proxy redis relay router rpc rtmp s server sftp smtp smtps sql ssh ssl stun svn tls turn v vpn w web
    webdav webmail websocket ws wss www xmpp
    """.split()  # noqa: SIM905
)
NUMBER = re.compile(r"-?[0-9]+\Z")


def validate_not_reserved(slug: str) -> None:
    """Raise ValidationError for a slug whose host the platform keeps for itself."""
    if slug in RESERVED_SLUGS or NUMBER.sub("", slug) in RESERVED_SERVERS:
        raise ValidationError(f"{slug!r} is reserved; choose another.", code="reserved")


def validate_printable(value: str) -> None:
    """Raise ValidationError for what no text of one line holds. Names go into mail headers and logs."""
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
