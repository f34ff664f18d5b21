"""Who manages whom. Who may use which operation at all is in config/permissions.py."""

from accounts.models import User

Role = User.Role

#: Whom a user of each role creates and changes, and which roles they give.
MANAGES: dict[str, frozenset[str]] = {
    Role.OWNER: frozenset({Role.OWNER, Role.ADMIN, Role.MEMBER}),
    Role.ADMIN: frozenset({Role.ADMIN, Role.MEMBER}),
    Role.MEMBER: frozenset(),
}
