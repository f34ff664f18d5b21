import pytest
from django.template import TemplateDoesNotExist

from notifications.rendering import render_mail

CONTEXT = {"tenant": "Acme", "full_name": "Ada Lovelace", "login_url": "http://acme.localhost:8000/"}


@pytest.mark.parametrize("template", ["welcome_owner", "welcome_user"])
def test_a_mail_names_the_organisation_and_the_person_in_both_forms(template: str) -> None:
    mail = render_mail(template, CONTEXT)
    assert "Acme" in mail.subject
    for form in (mail.text, mail.html):
        assert "Acme" in form
        assert "Ada Lovelace" in form
        assert "http://acme.localhost:8000/" in form
    assert mail.subject not in mail.text


def test_only_the_html_is_escaped() -> None:
    mail = render_mail("welcome_owner", {**CONTEXT, "tenant": "Salt & Pepper", "full_name": "<b>Ada</b>"})
    assert mail.subject == "Salt & Pepper is ready"
    assert "Hello <b>Ada</b>" in mail.text
    assert "Salt &amp; Pepper" in mail.html
    assert "<b>Ada</b>" not in mail.html


def test_a_line_break_in_a_name_stays_out_of_the_header() -> None:
    mail = render_mail("welcome_owner", {**CONTEXT, "tenant": "Acme\r\nBcc: eve@example.com"})
    assert "\r" not in mail.subject
    assert "\n" not in mail.subject


def test_an_unknown_template_is_the_callers_error() -> None:
    with pytest.raises(TemplateDoesNotExist, match=r"mail/gone\.txt"):
        render_mail("gone", {})
