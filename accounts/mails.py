"""The mails about a user's account."""

from accounts.models import User
from notifications.services import send_message


def send_welcome(user: User, *, template: str, login_url: str) -> str:
    """Write a welcome mail to the user in the caller's transaction. Returns the id of the job that sends it."""
    context = {"full_name": user.full_name, "login_url": login_url}
    _, job_id = send_message(to=user.email, template=template, context=context)
    return job_id
