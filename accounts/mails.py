"""The mails about a user's account."""

from django.urls import reverse

from accounts.models import Link, User
from notifications.placeholders import PLACEHOLDER
from notifications.services import send_message
from tenants.services import current_tenant, origin_of


def mail_link(link: Link, *, by_stranger: bool = False, is_promised: bool = False) -> str:
    """Write the mail that holds the link in the caller's transaction. Returns the id of the job that sends it.

    `is_promised`: it has taken its place among the limited ones (notifications/limited.py).
    """
    # Whoever gets it may be a stranger: nothing in it is of a client's choosing.
    url = f"{_origin()}{reverse('link')}?link={link.pk.hex}{PLACEHOLDER}"
    _, job_id = send_message(
        to=link.email,
        template=_template_of(link),
        context={"link_url": url},
        secret_name=link.secret_name,
        by_stranger=by_stranger,
        is_promised=is_promised,
    )
    return job_id


def _template_of(link: Link) -> str:
    """Who has never had a password did not ask for the link: somebody added them."""
    is_invitation = link.purpose == Link.Purpose.SET_PASSWORD and not link.user.has_usable_password()
    return "invitation" if is_invitation else link.purpose


def send_welcome(user: User, *, template: str) -> str:
    """Write a welcome mail to the user in the caller's transaction. Returns the id of the job that sends it."""
    context = {"full_name": user.full_name, "login_url": f"{_origin()}{reverse('docs')}"}
    _, job_id = send_message(to=user.email, template=template, context=context)
    return job_id


def _origin() -> str:
    return origin_of(current_tenant().slug)
