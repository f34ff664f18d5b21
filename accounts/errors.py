from tenants.errors import Conflict


class EmailTaken(Conflict):
    default_code = "email_taken"
    default_detail = "A user with this e-mail exists already."


class LastOwner(Conflict):
    default_code = "last_owner"
    default_detail = "This is the last active owner: make somebody else an owner first."
