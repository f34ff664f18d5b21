"""From a message's row to the mail server: Django's locmem backend, and real SMTP that answers as it is told."""

import asyncio
import re
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from django.core import mail
from django.db import transaction
from django_celery_results.models import TaskResult
from django_tenants.utils import tenant_context
from pytest_django import Settings

from devstack.ports import free_port
from jobs import endings
from jobs.models import Job
from notifications import delivery
from notifications.mailer import MailUnavailable, transmit
from notifications.models import Message
from notifications.placeholders import PLACEHOLDER
from notifications.services import send_message
from tenants.models import Tenant

RunJobs = Callable[..., int]


HANG_UP = "hang up"
SAY_NOTHING = "say nothing"


class Answers:
    """What the SMTP server says to each command: the default, unless a test sets it."""

    greeting = "ESMTP"
    ehlo = mail = rcpt = data = "250 OK"
    quit = "221 Bye"

    def __init__(self) -> None:
        self.recipients: list[str] = []
        self.mails: list[EmailMessage] = []

    async def _say(self, server: SMTP, answer: str) -> str:
        if answer == HANG_UP and server.transport is not None:
            server.transport.close()
        if answer == SAY_NOTHING:
            await asyncio.Event().wait()
        return answer

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [await self._say(server, self.ehlo)]

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return await self._say(server, self.mail)

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, to: str, options: list[str]
    ) -> str:
        self.recipients.append(to)
        envelope.rcpt_tos.append(to)
        return await self._say(server, self.rcpt)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.original_content, bytes)
        self.mails.append(message_from_bytes(envelope.original_content, policy=policy.default))
        return await self._say(server, self.data)

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        return await self._say(server, self.quit)


@pytest.fixture
def smtp(settings: Settings) -> Iterator[Answers]:
    answers = Answers()
    controller = Controller(answers, hostname="127.0.0.1", port=free_port())
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"
    settings.EMAIL_PORT = controller.port
    settings.EMAIL_TIMEOUT = 1
    yield answers
    controller.stop()


@pytest.fixture
def down(settings: Settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1


@pytest.fixture
def message(acme: Tenant) -> Iterator[Message]:
    with tenant_context(acme):
        yield Message.objects.create(to="ada@example.com", subject="Hello", text="Text", html="<p>Html</p>")


def attempt(message: Message) -> str:
    return delivery.attempt_delivery(delivery.begin_attempt(message_id=str(message.pk)))


def settle(message: Message, refusal: str = "") -> None:
    with transaction.atomic():
        delivery.settle_delivery(message_id=str(message.pk), refusal=refusal)
    message.refresh_from_db()


def test_a_message_is_written_with_its_job_and_sent_by_it(acme: Tenant, run_jobs: RunJobs) -> None:
    with tenant_context(acme), transaction.atomic():
        context = {"full_name": "Ada", "login_url": "http://acme.localhost/"}
        message, job_id = send_message(to="ada@example.com", template="welcome_user", context=context)
    assert job_id
    assert mail.outbox == []
    run_jobs()
    [sent] = mail.outbox
    assert sent.to == ["ada@example.com"]
    assert sent.subject == f"Welcome to {acme.name}"
    assert sent.extra_headers["Message-ID"] == message.message_id
    with tenant_context(acme):
        message.refresh_from_db()
        assert (message.status, message.attempts, message.error) == ("sent", 1, "")
        assert message.sent_at is not None


def test_a_rollback_leaves_neither_message_nor_mail(acme: Tenant, run_jobs: RunJobs) -> None:
    with tenant_context(acme), transaction.atomic():
        send_message(to="ada@example.com", template="welcome_user", context={})
        transaction.set_rollback(True)
    run_jobs()
    assert mail.outbox == []
    with tenant_context(acme):
        assert not Message.objects.exists()


def test_a_mail_has_text_and_html_and_the_same_id_at_each_try(message: Message) -> None:
    transmit(message)
    transmit(Message.objects.get(pk=message.pk))
    first, second = (sent.message() for sent in mail.outbox)
    assert first["Message-ID"] == second["Message-ID"] == f"<{message.pk}@localhost>"
    assert [part.get_content_type() for part in first.walk()] == ["multipart/alternative", "text/plain", "text/html"]


def test_a_sent_message_is_not_sent_again(message: Message) -> None:
    attempt(message)
    settle(message)
    assert attempt(message) == ""
    settle(message)
    assert len(mail.outbox) == 1
    assert message.attempts == 1


@pytest.mark.usefixtures("down")
def test_each_try_is_counted_and_says_what_was_wrong(message: Message, caplog: pytest.LogCaptureFixture) -> None:
    """To the tenant without what names the platform's servers; to the operator in full."""
    for tries in (1, 2):
        with pytest.raises(MailUnavailable):
            attempt(message)
        message.refresh_from_db()
        assert (message.status, message.attempts) == ("queued", tries)
        assert message.error == "The mail server can't be reached (ConnectionRefusedError)"
    assert "check EMAIL_URL" in caplog.text
    assert "Connection refused" in caplog.text


@pytest.mark.usefixtures("down")
def test_a_mail_server_that_stays_away_leaves_a_failed_message_and_a_dead_job(
    acme: Tenant, run_jobs: RunJobs, settings: Settings
) -> None:
    with tenant_context(acme), transaction.atomic():
        message, _ = send_message(to="ada@example.com", template="welcome_user", context={})
    while run_jobs(ahead=True):
        pass
    [job] = Job.objects.all()
    assert (job.state, job.retries) == ("dead", 30)
    with tenant_context(acme):
        message.refresh_from_db()
        assert (message.status, message.attempts) == ("failed", 31)
        assert "ConnectionRefusedError" in message.error
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert endings.replay(job)
    run_jobs()
    with tenant_context(acme):
        message.refresh_from_db()
        assert (message.status, message.attempts, message.error) == ("sent", 32, "")


TO_THE_MESSAGE = ["mail", "rcpt", "data"]
ADDRESSES = ["ada@example.com", "ADA@Example.COM", "x@bücher.example", "x@BÜCHER.example", "{a}+b@example.com"]


@pytest.mark.parametrize("to", ADDRESSES)
@pytest.mark.parametrize("where", TO_THE_MESSAGE)
def test_what_a_server_refuses_for_good_is_failed_with_its_words(
    message: Message, smtp: Answers, where: str, to: str
) -> None:
    Message.objects.update(to=to)
    setattr(smtp, where, "550 Not here")
    refusal = attempt(message)
    assert refusal == "550 Not here"
    settle(message, refusal)
    assert (message.status, message.error) == ("failed", "550 Not here")


@pytest.mark.parametrize("to", ADDRESSES)
@pytest.mark.parametrize("where", TO_THE_MESSAGE)
@pytest.mark.parametrize("answer", ["450 Greylisted", "421 Closing"])
def test_what_a_server_refuses_just_now_is_tried_again(
    message: Message, smtp: Answers, where: str, answer: str, to: str
) -> None:
    Message.objects.update(to=to)
    setattr(smtp, where, answer)
    with pytest.raises(MailUnavailable, match=answer):
        attempt(message)
    message.refresh_from_db()
    assert (message.status, message.error) == ("queued", answer)
    setattr(smtp, where, "250 OK")
    settle(message, attempt(message))
    assert (message.status, message.attempts, message.error) == ("sent", 2, "")


def test_a_server_that_wants_a_login_says_nothing_of_the_message(message: Message, smtp: Answers) -> None:
    smtp.mail = "530 Authentication required"
    with pytest.raises(MailUnavailable, match="530"):
        attempt(message)


@pytest.mark.parametrize("answer", [HANG_UP, SAY_NOTHING])
@pytest.mark.parametrize("where", ["ehlo", *TO_THE_MESSAGE])
def test_a_server_that_stops_talking_is_tried_again(message: Message, smtp: Answers, where: str, answer: str) -> None:
    setattr(smtp, where, answer)
    with pytest.raises(MailUnavailable, match="can't be reached"):
        attempt(message)


@pytest.mark.parametrize("answer", [HANG_UP, SAY_NOTHING, f"221 {'x' * 10_000}"])
def test_how_a_server_says_good_bye_does_not_unsend_a_message(message: Message, smtp: Answers, answer: str) -> None:
    smtp.quit = answer
    assert attempt(message) == ""
    assert len(smtp.mails) == 1


def test_settings_that_contradict_each_other_say_nothing_of_the_message(
    message: Message, smtp: Answers, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = True
    with pytest.raises(MailUnavailable, match=r"\(ValueError\)"):
        attempt(message)
    assert "EMAIL_USE_TLS" in caplog.text


@pytest.mark.parametrize("answer", ["550 odd\0words", f"550 {'x' * 5_000}"])
def test_words_that_no_column_takes_are_kept_all_the_same(message: Message, smtp: Answers, answer: str) -> None:
    smtp.rcpt = answer
    settle(message, attempt(message))
    assert message.status == "failed"
    assert message.error.startswith("550 ")
    assert len(message.error) < 2_500


PLAIN_HEADERS = ["Content-Type", "MIME-Version", "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted"]
SECRET = re.compile(r"[0-9a-f]{64}")


class Quoting(Answers):
    """It refuses each mail, and quotes it."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self._code = code
        self.quoted = ""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.original_content, bytes)
        secrets = SECRET.findall(envelope.original_content.decode())
        self.quoted = secrets[0] if secrets else ""
        return f"{self._code} Spam: {self.quoted}"


@pytest.mark.parametrize("code", [451, 550])
def test_a_server_that_quotes_a_secret_is_not_quoted(
    acme: Tenant, smtp: Answers, run_jobs: RunJobs, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    quoting = Quoting(code)
    smtp.handle_DATA = quoting.handle_DATA  # type: ignore[method-assign]
    with tenant_context(acme), transaction.atomic():
        context = {"link_url": f"http://acme.localhost/{PLACEHOLDER}"}
        message, _ = send_message(to="ada@example.com", template="set_password", context=context, secret_name="one")
    caplog.set_level("DEBUG")
    caplog.set_level("WARNING", logger="mail.log")  # the server's own
    run_jobs()

    assert SECRET.fullmatch(quoting.quoted)
    with tenant_context(acme):
        message.refresh_from_db()
        results = [str(vars(result)) for result in TaskResult.objects.all()]
    assert str(code) in message.error
    jobs = [str(vars(job)) for job in Job.objects.all()]
    for kept in (str(vars(message)), caplog.text, *results, *jobs):
        assert quoting.quoted not in kept
    assert results or jobs


def test_what_looks_like_a_placeholder_is_nobodys_secret(message: Message) -> None:
    Message.objects.update(text=f"{PLACEHOLDER} stays", html=PLACEHOLDER)
    message.refresh_from_db()
    transmit(message)
    assert PLACEHOLDER in str(mail.outbox[0].body)


def test_an_international_domain_is_sent_to_in_ascii(message: Message, smtp: Answers) -> None:
    Message.objects.update(to="x@bücher.example")
    assert attempt(message) == ""
    assert smtp.recipients == ["x@xn--bcher-kva.example"]


AS_STORED = ["ADA@example.com", "a.b+c@example.com", "!#$%&'*/=^_`{|}~-?@example.com", "x@[127.0.0.1]"]
LONGEST = f"{'a' * 64}@{'b' * 62}.{'c' * 62}.{'d' * 55}.example"


@pytest.mark.parametrize("to", [*AS_STORED, LONGEST])
def test_a_mail_goes_to_the_address_as_it_is_stored(message: Message, smtp: Answers, to: str) -> None:
    Message.objects.update(to=to)
    assert attempt(message) == ""
    assert smtp.recipients == [to]
    assert smtp.mails[0]["To"] == to


@pytest.mark.parametrize(
    "to",
    [
        *("", "no address@@", "nobody", "dörte@example.com", f"x@{'ü' * 64}.example", "a\nb@example.com"),
        *('"ada"@example.com', '"a b"@example.com', r'"\\ada"@example.com', '"a@b"@example.com'),
        *("=?utf-8?q?ada?=@example.com", '"=?utf-8?q?ada?="@example.com', "=?utf-8?q?ada=00?=@example.com"),
        *("=?utf-8?q?ada=40example.com=3E=3C?=@example.com", "ada@=?utf-8?q?example.com?="),
        *("ad\u0131@example.com", "ad\u212a@example.com", "ada(x)@example.com", "ada@example.com (Ada)"),
        *("Ada <ada@example.com>", "ada@example.com, bob@example.com"),
    ],
)
def test_what_is_no_address_is_refused_and_sent_to_nobody(message: Message, smtp: Answers, to: str) -> None:
    Message.objects.update(to=to)
    assert "This is no mail" in attempt(message)
    assert smtp.recipients == []
    assert smtp.mails == []


WORD = "=?utf-8?q?Your_bank=0d=0aBcc:x?="


@pytest.mark.parametrize(
    "subject",
    [
        *("Hello", "Hello, Zoë", f"{WORD} is ready", f"Welcome to {WORD}", f"Zoë {WORD}", f"{WORD} {WORD}"),
        *("=?", "a =?= b", "=?utf-8?b?4oCu?=", "=?x?q?y?=", "=?utf-8?q?a"),
        *(f"{WORD * 9}", f"{WORD} " * 9, "Zoë =? " * 40, "=?" * 150, "=?👩\u200d💻" * 60, "👩\u200d💻" * 100),
        *("a" * 69, "a" * 70, "a" * 300, "a" * 69 + " b", "a " * 150, "a:  b; c, " * 30, "ä" * 80),
    ],
)
def test_a_subject_is_read_as_it_was_rendered(message: Message, smtp: Answers, subject: str) -> None:
    Message.objects.update(subject=subject.strip())
    assert attempt(message) == ""
    [sent] = smtp.mails
    assert sent["Subject"] == subject.strip()
    assert sent.defects == []
    assert sorted(sent.keys()) == sorted(PLAIN_HEADERS)


def test_an_organisation_s_name_is_read_as_it_is(acme: Tenant, smtp: Answers, run_jobs: RunJobs) -> None:
    acme.name = f"{WORD} & =?utf-8?q?=E2=80=AE?= {'x' * 100}"
    acme.save()
    with tenant_context(acme), transaction.atomic():
        context = {"full_name": "Ada", "login_url": "http://acme.localhost/"}
        send_message(to="ada@example.com", template="welcome_owner", context=context)
    run_jobs()
    assert [sent["Subject"] for sent in smtp.mails] == [f"{acme.name} is ready"]


@pytest.mark.usefixtures("down")
def test_a_try_that_was_overtaken_undoes_nothing(message: Message) -> None:
    """A frozen worker thaws, and fails, after another one has sent the message."""
    frozen = delivery.begin_attempt(message_id=str(message.pk))
    settle(message)
    with pytest.raises(MailUnavailable):
        delivery.attempt_delivery(frozen)
    settle(message, refusal="late")
    delivery.record_loss(message_id=str(message.pk))
    message.refresh_from_db()
    assert (message.status, message.error) == ("sent", "")
