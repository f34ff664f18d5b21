"""Writing mails. A mail is a row and a job, so it exists if and only if its transaction committed."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils import timezone

from notifications import tasks
from notifications.models import Message
from notifications.rendering import render_mail
from tenants.services import current_tenant


def send_message(*, to: str, template: str, context: Mapping[str, Any]) -> tuple[Message, str]:
    """Write a mail and dispatch its delivery, both in the caller's transaction. Returns the message and the job's id.

    The templates (see `render_mail`) get the context and `tenant`, the organisation's name; they show times in its time
    zone. Their text is stored, so it must hold no secrets.
    """
    tenant = current_tenant()
    with timezone.override(ZoneInfo(tenant.timezone)):
        mail = render_mail(template, {**context, "tenant": tenant.name})
    message = Message(to=to, subject=mail.subject, text=mail.text, html=mail.html)
    message_id = str(message.pk)
    job_id = tasks.deliver_message.apply_async_on_commit((message_id,), link_error=tasks.give_up_message.s(message_id))
    message.job = UUID(job_id)
    message.save(force_insert=True)
    return message, job_id
