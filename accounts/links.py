"""Links that are mailed to users: how they are sent, found and used. In a tenant's schema.

A link's text is its id and its secret, in hex digits.
"""

import re
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import F, QuerySet
from django.utils import timezone

from accounts.errors import TO_CONFIRM, TO_SET_A_PASSWORD, DeadLink
from accounts.mails import mail_link, send_welcome
from accounts.models import Link, User, new_nonce
from notifications.limited import lock_places, log_refusal, take_place
from notifications.placeholders import is_secret
from tenants.services import confirm_tenant, current_tenant

Purpose = Link.Purpose
#: A stranger who asks for a link to set a password replaces none that is younger.
RESET_PAUSE = timedelta(minutes=15)
TEXT = re.compile(r"([0-9a-f]{32})([0-9a-f]{64})")


def send_link(user: User, *, purpose: Link.Purpose) -> str:
    """Mail the user a new link, whose predecessor dies. Returns the id of the job that sends it.

    Beyond the limit of such mails, a link that is alive stays, and the mail is of that one: it will be failed. Needs
    the caller's transaction.
    """
    if not take_place(to=user.email):
        return mail_link(_replace_link(user, purpose), is_promised=True)
    return mail_link(_find_alive(user, purpose).first() or _replace_link(user, purpose))


def _replace_link(user: User, purpose: Link.Purpose) -> Link:
    terms = {"email": user.email, "nonce": new_nonce(), "expires_at": timezone.now() + _lifetime(purpose)}
    link, _ = Link.objects.update_or_create(user=user, purpose=purpose, defaults=terms)
    return link


def _find_alive(user: User, purpose: Link.Purpose) -> QuerySet[Link]:
    return Link.objects.filter(user=user, purpose=purpose, email=user.email, expires_at__gt=timezone.now())


def purpose_for(user: User) -> Link.Purpose:
    """What a new link is for: whoever has no password has to set one, which confirms the address, too."""
    return Purpose.CONFIRM_ADDRESS if user.has_usable_password() else Purpose.SET_PASSWORD


def _lifetime(purpose: Link.Purpose) -> timedelta:
    if purpose == Purpose.CONFIRM_ADDRESS:
        return timedelta(days=settings.UNCONFIRMED_DAYS)
    return timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT)


def send_password_links(*, email: str, address: str | None = None) -> None:
    """Mail a link to set a password to whoever has this address, if anybody has. A stranger asks, from `address`.

    It sends and replaces nothing beyond the limit of such mails, or while a link younger than RESET_PAUSE is alive: the
    log tells that, and nobody else. Needs the caller's transaction.
    """
    # Of two requests at once, one sees the other's link.
    lock_places()
    for user in User.objects.with_email(email).filter(is_active=True):
        limit = "reset_pause" if _has_new_link(user) else take_place(to=user.email, by_stranger=True)
        if limit:
            log_refusal(to=user.email, limit=limit, address=address)
        else:
            mail_link(_replace_link(user, Purpose.SET_PASSWORD), by_stranger=True, is_promised=True)


def _has_new_link(user: User) -> bool:
    ends_after = timezone.now() + _lifetime(Purpose.SET_PASSWORD) - RESET_PAUSE
    return _find_alive(user, Purpose.SET_PASSWORD).filter(expires_at__gt=ends_after).exists()


def find_link(text: str, *purposes: Link.Purpose) -> Link:
    """The link with this text, and its user. It is not used by that.

    Raises DeadLink, whatever is wrong with it; of one for another purpose, who has it is told which.
    """
    parts = TEXT.fullmatch(text)
    if parts is None:
        raise DeadLink
    alive = Link.objects.filter(expires_at__gt=timezone.now(), user__is_active=True, user__email=F("email"))
    link = alive.select_related("user").filter(pk=UUID(parts[1])).first()
    if link is None or not is_secret(parts[2], link.secret_name):
        raise DeadLink
    if link.purpose not in purposes:
        raise DeadLink(TO_SET_A_PASSWORD if link.purpose == Purpose.SET_PASSWORD else TO_CONFIRM)
    return link


def use_link(link: Link) -> User:
    """Use up a link that was found, which confirms its address. Returns its user, locked.

    Needs the caller's transaction. Raises DeadLink if it has died since: of two who use it, one does.
    """
    user = User.objects.select_for_update(no_key=True).get(pk=link.user_id)
    unused, _ = Link.objects.filter(pk=link.pk, nonce=link.nonce).delete()
    if not unused or user.email != link.email or not user.is_active:
        raise DeadLink
    if not user.is_confirmed:
        _confirm(user)
    return user


def _confirm(user: User) -> None:
    user.is_confirmed = True
    user.save(update_fields=["is_confirmed"])
    Link.objects.filter(user=user, purpose=Purpose.CONFIRM_ADDRESS).delete()
    is_first_owner = user.role == User.Role.OWNER and confirm_tenant(current_tenant())
    send_welcome(user, template="welcome_owner" if is_first_owner else "welcome_user")
