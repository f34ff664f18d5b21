"""Writing mails. A mail is a row and a job, so it exists if and only if its transaction committed."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils import timezone

from notifications import tasks
from notifications.limited import is_confirmed
from notifications.models import Message
from notifications.rendering import render_mail
from tenants.services import current_tenant, domain_of


def send_message(
    *,
    to: str,
    template: str,
    context: Mapping[str, Any],
    secret_name: str = "",
    by_stranger: bool = False,
    is_promised: bool = False,
) -> tuple[Message, str]:
    """Write a mail and dispatch its delivery, both in the caller's transaction. Returns the message and the job's id.

    The templates (see `render_mail`) get the context, `tenant`, the organisation's name, and `host`, its host. They
    show times in its time zone. Their text is stored, so it must hold no secret: it may hold PLACEHOLDER, for
    which `secret_name` says what takes its place.

    Nothing that a client has chosen goes to an address that nobody has confirmed: a fixed text takes the place of this
    one. A mail with a secret keeps its template, whose context must be the product's own. In both, `tenant` is the
    host, no subject names it, and few of them go (notifications/limited.py): fewer still if a stranger asked for them.
    `is_promised` says that this one has taken its place already.
    """
    tenant = current_tenant()
    host = domain_of(tenant.slug)
    is_limited = secret_name != "" or not is_confirmed(to)
    if is_limited and not secret_name:
        template, context = "unconfirmed", {}
    names = {"host": host, "tenant": host if is_limited else tenant.name}
    with timezone.override(ZoneInfo(tenant.timezone)):
        mail = render_mail(template, {**context, **names})
    message = Message(
        to=to,
        subject=mail.subject,
        text=mail.text,
        html=mail.html,
        secret_name=secret_name,
        is_limited=is_limited,
        by_stranger=by_stranger,
        is_promised=is_promised,
    )
    message_id = str(message.pk)
    job_id = tasks.deliver_message.apply_async_on_commit((message_id,), link_error=tasks.give_up_message.s(message_id))
    message.job = UUID(job_id)
    message.save(force_insert=True)
    return message, job_id
