from django.contrib.auth.models import User
from knox.models import AuthToken


def sign_up(slug: str) -> str:
    """The token of a new user."""
    email = f"ada@{slug}.example"
    _, token = AuthToken.objects.create(User.objects.create_user(username=email, email=email))
    return str(token)
