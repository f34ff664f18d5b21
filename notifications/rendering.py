"""From a template to the texts of a mail."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.template import Context, Engine


class Mail(NamedTuple):
    """A mail as it is sent, in plain text and in HTML."""

    subject: str
    text: str
    html: str


def render_mail(template: str, context: Mapping[str, Any]) -> Mail:
    """The texts of `mail/<template>.txt`, whose first line is the subject, and of `mail/<template>.html`."""
    # Django would escape the plain text for HTML, too.
    plain = _render(f"mail/{template}.txt", Context(dict(context), autoescape=False))
    subject, _, text = plain.strip().partition("\n")
    html = _render(f"mail/{template}.html", Context(dict(context)))
    return Mail(" ".join(subject.split()), text.strip() + "\n", html)


def _render(name: str, context: Context) -> str:
    return Engine.get_default().get_template(name).render(context)
