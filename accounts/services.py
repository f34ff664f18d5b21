"""Sign-up, users and tokens. Sign-up is in the public schema, all else in a tenant's."""

import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from knox.models import AuthToken
from rest_framework.exceptions import AuthenticationFailed, NotFound, PermissionDenied

from accounts import tasks
from accounts.errors import EmailTaken, LastOwner, WrongPassword
from accounts.links import Purpose, purpose_for, send_link
from accounts.logins import is_own_password
from accounts.models import Link, User
from accounts.passwords import password_quota
from accounts.permissions import MANAGES
from tenants.errors import violated_constraint
from tenants.models import SignUp, Tenant
from tenants.services import register_tenant, restart_tenant
from tenants.spares import take_spare
from tenants.tasks import fill_spares

Role = User.Role

# Sign-up: in the public schema


def sign_up(*, name: str, slug: str, owner: dict[str, str], timezone: str = "UTC") -> Tenant:
    """Register an organisation and its owner-to-be (email, full_name, password), and dispatch its provisioning.

    The owner gets a link to confirm their address; until then the organisation is unconfirmed. The password is kept
    as a hash only, until the owner exists. Raises Conflict if the slug is taken.
    """
    with transaction.atomic():
        tenant = register_tenant(name=name, slug=slug, timezone=timezone, is_confirmed=False)
        password_hash = make_password(owner["password"])  # after what refuses, for it takes long
        take_spare(tenant)
        SignUp.objects.create(
            tenant=tenant, email=owner["email"], full_name=owner["full_name"], password_hash=password_hash
        )
        _dispatch_provisioning(tenant)
        if settings.SPARE_SCHEMAS:
            fill_spares.delay_on_commit()
    return tenant


def retry_sign_up(tenant: Tenant) -> None:
    """Provision a tenant again whose provisioning failed. Raises Conflict if it didn't."""
    with transaction.atomic():
        restart_tenant(tenant)
        _dispatch_provisioning(tenant)


def _dispatch_provisioning(tenant: Tenant) -> None:
    tenant_id = str(tenant.pk)
    tasks.provision_tenant.apply_async_on_commit((tenant_id,), link_error=tasks.give_up_provisioning.s(tenant_id))


# Users: in a tenant's schema


def create_user(
    *, actor: User, email: str, full_name: str, role: str, password: str | None = None, request: Any = None
) -> tuple[User, list[str]]:
    """Create a user, and mail them a link: to confirm their address, or to set a password if they have none.

    Returns the user, and the ids of the dispatched jobs. Raises PermissionDenied, EmailTaken, or Throttled
    (accounts/passwords.py).
    """
    if not _may_manage(actor, role):
        raise PermissionDenied(f"Your role, {actor.role}, can't create a user who is {role}.")
    if User.objects.with_email(email).exists():
        raise EmailTaken
    user = User(email=email, full_name=full_name, role=role, is_confirmed=False)
    user.set_unusable_password()
    if password is not None:
        with password_quota(actor, request=request):
            user.set_password(password)
    with transaction.atomic():
        _insert(user)
        return user, [send_link(user, purpose=purpose_for(user))]


def _may_manage(actor: User, *roles: str) -> bool:
    return MANAGES[actor.role].issuperset(roles)


def _insert(user: User) -> None:
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError as error:
        if violated_constraint(error) == "user_email_unique":
            raise EmailTaken from error
        raise


def update_user(
    *,
    actor: User,
    user_id: uuid.UUID,
    full_name: str | None = None,
    role: str | None = None,
    is_active: bool | None = None,
) -> User:
    """Change what is not None. Deactivation ends the user's tokens and links.

    Raises NotFound, PermissionDenied, or LastOwner.
    """
    asked = {"full_name": full_name, "role": role, "is_active": is_active}
    changes = {name: value for name, value in asked.items() if value is not None}
    with transaction.atomic():
        people = _people(actor.pk, user_id).select_for_update(no_key=True)
        user = _change(people, actor.pk, user_id, changes)
        user.save(update_fields=list(changes))
        user.refresh_from_db(fields=["updated_at"])
        if not user.is_active:
            AuthToken.objects.filter(user=user).delete()
            Link.objects.filter(user=user).delete()
    return user


def _people(*ids: uuid.UUID) -> QuerySet[User]:
    """These users and all active owners, in one order: two requests that lock them can't remove the last two owners."""
    return User.objects.filter(Q(pk__in=ids) | Q(role=Role.OWNER, is_active=True)).order_by("pk")


def _change(found: QuerySet[User], actor_id: uuid.UUID, user_id: uuid.UUID, changes: dict[str, Any]) -> User:
    """The user with the changes, which are not saved. Raises NotFound, PermissionDenied, or LastOwner."""
    people = {person.pk: person for person in found}
    user = _authorised(people, people[actor_id], user_id, changes)
    owned = _has_owner(people)
    for name, value in changes.items():
        setattr(user, name, value)
    if owned and not _has_owner(people):
        raise LastOwner
    return user


def update_me(
    *,
    actor: User,
    token: AuthToken,
    full_name: str | None = None,
    password: str | None = None,
    old_password: str | None = None,
    request: Any = None,
) -> User:
    """Change of the actor what is not None. A new password ends all their tokens but the one of this request, and a
    link to set one.

    Raises WrongPassword if the old one is not right, or Throttled (accounts/logins.py, accounts/passwords.py).
    """
    if password is None:
        return update_user(actor=actor, user_id=actor.pk, full_name=full_name)
    with password_quota(actor, request=request):
        if not is_own_password(actor, old_password, request=request):
            raise WrongPassword
        changes = {"password": make_password(password)}
    if full_name is not None:
        changes["full_name"] = full_name
    with transaction.atomic():
        # Compares the hash that was checked: of two changes at once, one wins.
        unchanged = User.objects.filter(pk=actor.pk, password=actor.password, is_active=True)
        if not unchanged.update(**changes):
            raise WrongPassword
        AuthToken.objects.filter(user=actor).exclude(pk=token.pk).delete()
        Link.objects.filter(user=actor, purpose=Purpose.SET_PASSWORD).delete()
    actor.refresh_from_db()
    return actor


def _has_owner(people: dict[uuid.UUID, User]) -> bool:
    """Whether somebody can log in as an owner. One who was invited, and has set no password yet, can't."""
    return any(
        person.role == Role.OWNER and person.is_active and person.has_usable_password() for person in people.values()
    )


def _authorised(people: dict[uuid.UUID, User], actor: User, user_id: uuid.UUID, changes: dict[str, Any]) -> User:
    user = people.get(user_id)
    if user is None or (actor.role == Role.MEMBER and user != actor):
        raise NotFound("No user has this id, or you may not see them.")
    own = user == actor and not {"role", "is_active"} & changes.keys()
    if not own and not _may_manage(actor, user.role, changes.get("role", user.role)):
        raise PermissionDenied(f"Your role, {actor.role}, can't make this change.")
    return user


# Tokens: in a tenant's schema


def log_in(*, email: str, password: str, request: Any = None) -> tuple[AuthToken, str]:
    """Make a token. Returns its row, and the secret, which is stored nowhere.

    Raises AuthenticationFailed, or Throttled: accounts/logins.py says how often a log-in may be tried.

    An unknown e-mail takes as long as a wrong password, because Django hashes then, too.
    """
    user = authenticate(request, email=email, password=password)
    refusal = AuthenticationFailed(
        "The e-mail or the password is wrong, or the user is not active.", "wrong_credentials"
    )
    if user is None:
        raise refusal
    with transaction.atomic():
        # Compares the hash that was checked. A password that changes meanwhile ends all tokens, this one included.
        unchanged = User.objects.filter(pk=user.pk, password=user.password, is_active=True)
        if not unchanged.update(last_login=Now()):
            raise refusal
        AuthToken.objects.filter(user=user, expiry__lte=Now()).delete()
        token, secret = AuthToken.objects.create(user=user)
    return token, secret


def log_out(token: AuthToken) -> None:
    """End the token."""
    token.delete()
