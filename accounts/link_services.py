"""What users do with mailed links, and how they ask for one. In a tenant's schema."""

from django.contrib.auth.hashers import make_password
from django.db import transaction
from knox.models import AuthToken

from accounts import tasks
from accounts.errors import AlreadyConfirmed
from accounts.links import Purpose, find_link, purpose_for, send_link, use_link
from accounts.models import User
from accounts.passwords import check_new_password


def send_new_link(*, user: User) -> list[str]:
    """Mail the user a new link: to set a password if they have none, else to confirm their address.

    Returns the ids of the dispatched jobs. Raises AlreadyConfirmed if they have no use for one.
    """
    if user.is_confirmed and user.has_usable_password():
        raise AlreadyConfirmed
    with transaction.atomic():
        return [send_link(user, purpose=purpose_for(user))]


def request_password_reset(*, email: str, address: str | None = None) -> None:
    """Dispatch the mail with a link to set a password, if anybody has this address: only the job looks for that.

    `address` is the client's, for the log. Whoever asks gets no other answer, and waits no longer, if somebody has.
    """
    with transaction.atomic():
        tasks.send_password_links.delay_on_commit(email, address)


def confirm_address(*, link: str) -> None:
    """Confirm the address that the link was sent to; an owner's confirms the organisation. Raises DeadLink."""
    found = find_link(link, Purpose.CONFIRM_ADDRESS)
    with transaction.atomic():
        use_link(found)


def set_password(*, link: str, password: str) -> None:
    """Set the password of the user whom the link was sent to, which ends their tokens and confirms their address.

    The password is in its normal form. Raises DeadLink, or ValidationError for one that the user may not have.
    """
    found = find_link(link, Purpose.SET_PASSWORD)
    check_new_password(password, found.user)
    password_hash = make_password(password)
    with transaction.atomic():
        user = use_link(found)
        user.password = password_hash
        user.save(update_fields=["password"])
        AuthToken.objects.filter(user=user).delete()
