"""How long a new password is, and that it holds more than spaces: the schema, the settings and the server agree."""

from typing import Any

import pytest
from django.contrib.auth.password_validation import MinimumLengthValidator, get_default_password_validators
from drf_spectacular.generators import SchemaGenerator
from pytest_django import Settings
from rest_framework.test import APIClient

from tenants.models import Tenant
from tenants.text import MAX_PASSWORD_LENGTH
from tests import contract
from tests.people import add_user, client_of

LONG = "correct horse battery staple "
NEW_PASSWORDS = {"PersonRequest", "NewUserRequest", "PatchedMeChangeRequest", "PasswordRequest"}
#: Whether the schema allows it, and so the server, by its rules of length and blanks
PASSWORDS = {
    "correct": False,
    "correc t": True,
    (LONG * 9)[:256]: True,
    (LONG * 9)[:257]: False,
    " " * 8: False,
    "\u3000" * 12: False,
    "\t\n" * 6: False,
    "": False,
    # Of three characters, NFC makes nine.
    "\ufb2c" * 3: False,
    # Of 200, it makes 600.
    "\ufb2c\U0001d160" * 100: True,
}


def test_the_schema_tells_what_the_settings_say() -> None:
    [validator] = [each for each in get_default_password_validators() if isinstance(each, MinimumLengthValidator)]
    told = {name: of["properties"]["password"] for name, of in components_with_password(contract.schema()).items()}
    # To log in, one of any length does: the rules may have changed since it was set.
    credentials = told.pop("CredentialsRequest")
    assert (credentials["minLength"], credentials["maxLength"]) == (1, MAX_PASSWORD_LENGTH)
    assert told.keys() == NEW_PASSWORDS
    for password in told.values():
        assert (password["minLength"], password["maxLength"]) == (validator.min_length, MAX_PASSWORD_LENGTH)
        assert password["pattern"] == r"\S"
        assert password["writeOnly"] is True


def components_with_password(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema["components"]["schemas"].items()
    return {name: component for name, component in components if "password" in component.get("properties", {})}


def test_the_bounds_follow_the_settings(acme: Tenant, settings: Settings) -> None:
    contract.schema()  # for the answers of this test: it is made once, by the settings of now
    longer = {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}}
    settings.AUTH_PASSWORD_VALIDATORS = [longer]
    generator: Any = SchemaGenerator
    found = components_with_password(generator(urlconf="config.api").get_schema(public=True))
    assert {found[name]["properties"]["password"]["minLength"] for name in NEW_PASSWORDS} == {12}
    client = client_of(acme, add_user(acme, "ada", "owner"))
    assert refusals(client, "eleven char") == {"weak_password"}
    assert refusals(client, "twelve chars") == set()


@pytest.mark.parametrize("password", PASSWORDS, ids=range(len(PASSWORDS)))
def test_the_server_takes_the_passwords_that_the_schema_allows(acme: Tenant, password: str) -> None:
    allowed = PASSWORDS[password]
    for name in NEW_PASSWORDS:
        validator = contract.validator({"$ref": f"#/components/schemas/{name}/properties/password"})
        assert validator.is_valid(password) == allowed, name
    client = client_of(acme, add_user(acme, "ada", "owner"))
    assert (refusals(client, password) == set()) == allowed


def test_one_that_is_short_in_its_normal_form_is_weak(acme: Tenant) -> None:
    nine_for_three = "\u1112\u1161\u11ab" * 3
    assert refusals(client_of(acme, add_user(acme, "ada", "owner")), nine_for_three) == {"weak_password"}


def refusals(client: APIClient, password: str) -> set[str]:
    """Why a new user can't have it."""
    user = {"email": "ann@acme.example", "full_name": "Ann Ash", "role": "member", "password": password}
    answer = client.post("/api/v1/users/", user)
    assert answer.status_code in (201, 400)
    assert {error["pointer"] for error in answer.json().get("errors", [])} <= {"#/password"}
    return {error["code"] for error in answer.json().get("errors", [])}
