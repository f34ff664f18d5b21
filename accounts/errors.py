from rest_framework.exceptions import ErrorDetail, ValidationError

from tenants.errors import Conflict


class EmailTaken(Conflict):
    default_code = "email_taken"
    default_detail = "A user with this e-mail exists already."


class LastOwner(Conflict):
    default_code = "last_owner"
    default_detail = "This is the last active owner: make somebody else an owner first."


class WrongPassword(ValidationError):
    """A field's error: what was given as the old password is another one, or it was changed meanwhile."""

    def __init__(self) -> None:
        super().__init__({"old_password": [ErrorDetail("This is not the password until now.", "wrong_password")]})


class DeadLink(Conflict):
    default_code = "dead_link"
    default_detail = "This link does not work: it was used, is too old, or a newer one was sent. Ask for another."


TO_SET_A_PASSWORD = "This link is to set a password: send it, with the password, to `/api/v1/passwords/`."
TO_CONFIRM = "This link is to confirm an address: send it to `/api/v1/confirmations/`."


class AlreadyConfirmed(Conflict):
    default_code = "already_confirmed"
    default_detail = "The user has a password and has confirmed their address: there is no link to send."
