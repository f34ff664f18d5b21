import secrets
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import PermissionsMixin
from django.db import models, transaction
from django.db.models import Value
from django.db.models.functions import Lower, Now

from accounts.sessions import end_sessions
from tenants.connection import connection
from tenants.ids import new_id
from tenants.text import normalize_email, normalize_name, normalize_new_email, normalize_password, spellings
from tenants.validators import clean_field, validate_printable


class UserManager(BaseUserManager["User"]):
    def with_email(self, email: str) -> models.QuerySet["User"]:
        """The users whose e-mail is `email`, in any case and in any spelling of its domain.

        None or one, but for accounts of one mailbox that were there before addresses were normalised.
        """
        lower = [Lower(Value(spelling)) for spelling in spellings(email)]
        return self.alias(lower_email=Lower("email")).filter(lower_email__in=lower)

    def get_by_natural_key(self, username: str | None) -> "User":
        """What Django's authentication backend logs in by. Of several accounts, the one that is spelt like this."""
        email = username or ""
        people = sorted(self.with_email(email), key=lambda user: user.email.lower() != email.lower())
        if not people:
            raise User.DoesNotExist
        return people[0]

    def create_superuser(self, email: str, full_name: str, password: str | None = None, **fields: Any) -> "User":
        """A person of the platform's staff; for `createsuperuser`, in the public schema."""
        user = User(email=email, full_name=full_name, role=User.Role.OWNER, is_staff=True, is_superuser=True, **fields)
        user.clean()
        user.set_password(password)
        user.save()
        return user


class User(AbstractBaseUser, PermissionsMixin):
    """A person. Those of an organisation live in its schema; those in `public` are the platform's staff."""

    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        MEMBER = "member"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    email = models.EmailField("e-mail")
    full_name = models.CharField(max_length=200, validators=[validate_printable])
    role = models.CharField(max_length=20, choices=Role, default=Role.MEMBER)
    is_active = models.BooleanField(default=True)
    is_confirmed = models.BooleanField(
        default=True, db_default=True, editable=False, help_text="Whether the address was proved to be theirs"
    )
    is_staff = models.BooleanField(default=False, help_text="May use the admin, which is on the public host")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)  # a trigger sets it

    objects: ClassVar[UserManager] = UserManager()

    EMAIL_FIELD = USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["full_name"]

    class Meta:
        permissions = (("grant_rights", "Can make user staff, and give rights"),)
        indexes = (models.Index(fields=["updated_at", "id"], name="user_updated"),)
        constraints = (
            models.UniqueConstraint(Lower("email"), name="user_email_unique", violation_error_message="E-mail taken."),
        )

    def __str__(self) -> str:
        return self.email

    def save(self, *args: Any, **options: Any) -> None:
        """As Django's. Who may not use the admin loses all sessions there: they don't come back with the right."""
        if (self.is_active and self.is_staff) or connection.schema_name != "public":
            super().save(*args, **options)
            return
        with transaction.atomic():
            super().save(*args, **options)
            end_sessions(self.pk)

    def clean(self) -> None:
        """Bring e-mail and name to the form in which they are stored, for Django's forms and commands."""
        super().clean()
        # A form leaves a field blank that it has refused already.
        if self.email:
            normalize = normalize_email if self._has_email_already() else normalize_new_email
            self.email = clean_field("email", normalize, self.email)
        self.full_name = clean_field("full_name", normalize_name, self.full_name)

    def _has_email_already(self) -> bool:
        """Rows of before keep addresses that nobody could give now."""
        return not self._state.adding and User.objects.filter(pk=self.pk, email=self.email).exists()

    def set_password(self, raw_password: str | None) -> None:
        """Hash a new password, in its normal form. None: nobody can log in by one."""
        super().set_password(None if raw_password is None else normalize_password(raw_password))

    def check_password(self, raw_password: str | None) -> bool:
        """Whether this is the password, in its normal form or, for a hash of before, as it was sent.

        A hash of before, or of a kind that is not preferred any more, is replaced.
        """
        sent = raw_password or ""
        password = normalize_password(sent)
        if check_password(password, self.password, self._rehash):
            return True
        if password == sent or not check_password(sent, self.password):
            return False
        self._rehash(password)
        return True

    def _rehash(self, password: str) -> None:
        """Replace the hash that was checked, unless the password has changed meanwhile."""
        checked, self.password = self.password, make_password(password)
        User.objects.filter(pk=self.pk, password=checked).update(password=self.password)


def new_nonce() -> str:
    """What no link had before."""
    return secrets.token_hex(16)


class Link(models.Model):
    """A link that was mailed to a user, and is good for one thing, once. Its secret is stored nowhere.

    A user has one for each purpose. A new one takes the place of the one before by its nonce.
    """

    class Purpose(models.TextChoices):
        CONFIRM_ADDRESS = "confirm_address"
        SET_PASSWORD = "set_password"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="links", db_index=False)
    purpose = models.CharField(max_length=20, choices=Purpose)
    email = models.EmailField(help_text="Where it was sent: it dies when the user's address is another")
    nonce = models.CharField(max_length=32, default=new_nonce)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["user", "purpose"], name="link_newest"),)

    def __str__(self) -> str:
        return f"{self.purpose} for {self.email}"

    @property
    def secret_name(self) -> str:
        """Of what its secret is derived: see notifications/placeholders.py."""
        return f"{self.pk} {self.nonce}"
