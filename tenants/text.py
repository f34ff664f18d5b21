"""Text as people write it: what a name may hold, and which spellings of an e-mail address are one address."""

import re
import unicodedata

import idna
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db.models import Q
from precis_i18n.context import context_rule_error
from precis_i18n.derived import CONTEXTJ, CONTEXTO, FREE_PVAL, PVALID, derived_property
from precis_i18n.unicode import UnicodeData

MAX_EMAIL_LENGTH = 254
# RFC 5321, in octets
MAX_LOCAL_LENGTH = 64
# Longer text is refused before it is normalised: Python takes quadratic time for some sequences of marks.
MAX_RAW_LENGTH = 2000
MAX_PASSWORD_LENGTH = 256

UNICODE = UnicodeData()
# PRECIS allows the middle dot in Catalan alone, but Chinese and Japanese names have dots, too. So CONTEXTO is allowed.
ALLOWED = {PVALID, FREE_PVAL, CONTEXTO}
VARIATION_SELECTORS = "\u180b\u180c\u180d\u180f" + "".join(
    map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]),
)
SKIN_TONES = "".join(map(chr, range(0x1F3FB, 0x1F400)))
ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
# RFC 5322's dot-atom. Mail libraries take quotes off, and decode RFC 2047's encoded words, which begin with =?.
LOCAL = re.compile(rf"(?!.*=\?){ATOM}(?:\.{ATOM})*")
LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
# In its normal form. The last label has a letter, or it would be an IP address.
DOMAIN = re.compile(rf"(?:{LABEL}\.)+(?=[0-9-]*[a-z]){LABEL}")


def normalize_name(text: str) -> str:
    """The one form in which a name, or another text of one line, is stored: NFC, with U+0020 for each space, and none
    at its ends.

    It holds what PRECIS' FreeformClass (RFC 8264) allows, variation selectors after their base, and joiners where a
    script or an emoji needs them. Raises ValidationError for anything else, such as control characters and characters
    that turn the direction of the text.
    """
    if len(text) > MAX_RAW_LENGTH:
        raise ValidationError("This text is too long.", code="max_length")
    name = unicodedata.normalize("NFC", _with_plain_spaces(text)).strip(" ")
    for index, char in enumerate(name):
        if not _is_allowed(name, index):
            raise ValidationError(
                f"U+{ord(char):04X} can't stand here: use printable characters only, on one line.", code="not_printable"
            )
    return name


def _is_allowed(name: str, index: int) -> bool:
    char = name[index]
    kind, _ = derived_property(ord(char), UNICODE)
    if kind in ALLOWED:
        return True
    if kind == CONTEXTJ:
        return not context_rule_error(name, index, UNICODE) or _joins_emoji(name, index)
    return char in VARIATION_SELECTORS and _is_base(name[:index])


def _is_base(before: str) -> bool:
    """Whether the text ends in a letter, number, symbol or punctuation mark."""
    return before != "" and unicodedata.category(before[-1])[0] in "LNSP"


def _joins_emoji(name: str, index: int) -> bool:
    before = name[:index].rstrip(VARIATION_SELECTORS + SKIN_TONES)
    after = name[index + 1 : index + 2]
    if name[index] != "\u200d" or not before or not after:
        return False
    # Arrows, as in "head shaking", are mathematical symbols.
    return unicodedata.category(before[-1]) == "So" and unicodedata.category(after) in ("So", "Sm")


def normalize_password(password: str) -> str:
    """The one form in which a password is hashed: NFC, with U+0020 for each space, as in RFC 8265.

    Keyboards and browsers send the same password in different forms. A longer one than the API takes stays as it is.
    """
    if len(password) > MAX_PASSWORD_LENGTH:
        return password
    return unicodedata.normalize("NFC", _with_plain_spaces(password))


def normalize_host(host: str) -> str:
    """The one form in which a host without port is compared and stored: in lower case, without a dot at its end."""
    return host.strip().lower().rstrip(".")


def _with_plain_spaces(text: str) -> str:
    return "".join(" " if unicodedata.category(char) == "Zs" else char for char in text)


def normalize_email(address: str) -> str:
    """The one form in which an address is compared, stored and sent to: its domain is ASCII, in lower case.

    The local part stays as it was written; compare it in lower case. Raises ValidationError for what is no address.
    """
    local, _, domain = address.rpartition("@")
    email = f"{local}@{_normalize_domain(domain)}"
    validate_email(email)
    if len(email) > MAX_EMAIL_LENGTH:
        raise ValidationError(f"An address has {MAX_EMAIL_LENGTH} characters at the most.", code="max_length")
    if len(local) > MAX_LOCAL_LENGTH:
        raise ValidationError(f"{MAX_LOCAL_LENGTH} characters at the most stand before the @.", code="max_length")
    # Quoted ones, too, which Django allows.
    if not local.isprintable():
        raise ValidationError("An address has no control characters.", code="invalid")
    return email


def normalize_recipient(address: str) -> str:
    """As `normalize_email`, for an address that a mail goes to: nothing that reads it makes another mailbox of it.

    Raises ValidationError, too, unless letters, digits and signs, with single dots between them, stand before the @.
    Quotes, encoded words and letters that are not ASCII may be stored in rows of before.
    """
    email = normalize_email(address)
    if not LOCAL.fullmatch(email.rpartition("@")[0]):
        raise ValidationError(
            "The part before the @ is not plain: letters from a to z, digits, and !#$%&'*+/=?^_`{|}~- may stand there, "
            "with single dots between them, and without =? in it.",
            code="invalid",
        )
    return email


def normalize_new_email(address: str) -> str:
    """As `normalize_recipient`, for an address that somebody gives for the first time.

    Raises ValidationError, too, for one that names this machine or network, and not the owner of a domain: an IP
    address, or a host of one word. Where such an address is stored already, `normalize_email` takes it as before.
    """
    email = normalize_recipient(address)
    if not DOMAIN.fullmatch(email.rpartition("@")[2]):
        raise ValidationError("The part after the @ is no domain, such as example.com.", code="invalid")
    return email


def fold_email(address: str) -> str:
    """One text for all spellings of one mailbox, to count by. It may be that of another mailbox, too.

    PostgreSQL's lower() makes an i of İ, and a k of the sign for Kelvin. This folds whatever it may fold.
    """
    try:
        spelling = normalize_email(address)
    except ValidationError:
        spelling = address
    decomposed = unicodedata.normalize("NFKD", spelling.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def fold_mailbox(address: str) -> str:
    """As `fold_email`, without a sub-address: what is sent to a+1@example.com mostly ends up where a@example.com does.

    A + at the beginning stays, as it does in mail servers.
    """
    local, at, domain = fold_email(address).rpartition("@")
    return local[:1] + local[1:].partition("+")[0] + at + domain


def spellings(address: str) -> list[str]:
    """An address as it is written, and its normal form if it has one."""
    try:
        return list({address, normalize_email(address)})
    except ValidationError:
        return [address]


def possibly_unnormalized(column: str) -> Q:
    """For a queryset: the rows whose address may not be in its normal form, or be none. They are few."""
    return (
        Q(**{f"{column}__regex": "[^ -~]|@.*[A-Z]"})
        | Q(**{f"{column}__icontains": "xn--"})
        | Q(**{f"{column}__regex": f"^.{{{MAX_LOCAL_LENGTH + 1},}}@"})
    )


def _normalize_domain(domain: str) -> str:
    if domain.isascii() and "xn--" not in domain.lower():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True, transitional=False, std3_rules=True).decode()
    except UnicodeError as error:
        raise ValidationError("The part after the @ is no domain.", code="invalid") from error
