"""Who of the platform's staff may give which rights: nobody gives, or gets hold of, what they do not have.

Whoever can set somebody's password or e-mail can become them. So nobody changes an account that has more rights.
"""

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q, QuerySet

from accounts.models import User
from tenants.audit import COMMAND_LINE


def may_grant(actor: Any) -> bool:
    """Whether somebody may make others staff and give them rights at all."""
    return bool(actor.has_perm("accounts.grant_rights"))


def grantable_permissions(actor: Any) -> QuerySet[Permission]:
    """The permissions that somebody has, and so may give."""
    return Permission.objects.all() if actor.is_superuser else _permissions_of(actor)


def grantable_groups(actor: Any) -> QuerySet[Group]:
    """The groups that have no permission but those."""
    others = Permission.objects.exclude(pk__in=grantable_permissions(actor))
    return Group.objects.exclude(permissions__in=others)


def may_change(actor: Any, user: User) -> bool:
    """Whether somebody may change an account. Nobody changes that of the command line: its records would be theirs."""
    return user.email != COMMAND_LINE and has_all_rights_of(actor, user)


def has_all_rights_of(actor: Any, user: User) -> bool:
    """Whether somebody has every right that the user has, or would have if active."""
    if actor.is_superuser:
        return True
    beyond = _permissions_of(user).exclude(pk__in=grantable_permissions(actor))
    return not user.is_superuser and not beyond.exists()


def _permissions_of(user: Any) -> QuerySet[Permission]:
    # Django's own functions find none for a user who is not active.
    return Permission.objects.filter(Q(user=user) | Q(group__user=user)).distinct()
