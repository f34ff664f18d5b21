import json
import smtplib
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path

from devstack.servers import Sink


def send(sink: Sink, number: int) -> None:
    mail = EmailMessage()
    mail["Message-ID"] = f"<{number}@acme.example>"
    mail["From"], mail["To"] = "no-reply@acme.example", "ada@acme.example"
    mail["Subject"] = f"Receipt {number} — thank you"
    mail.set_content("€ 12.90\nPaid.\n")
    mail.add_alternative("<p>€ 12.90</p>", subtype="html")
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=10) as smtp:
        smtp.send_message(mail)


def test_each_mail_is_a_line(tmp_path: Path) -> None:
    with Sink("mail", tmp_path) as sink:
        send(sink, 1)
    (line,) = sink.calls.read_text().splitlines()
    mail = json.loads(line)
    assert mail.pop("received_at")
    assert mail == {
        "message_id": "<1@acme.example>",
        "from": "no-reply@acme.example",
        "to": ["ada@acme.example"],
        "subject": "Receipt 1 — thank you",
        "body": "€ 12.90\nPaid.\n",
    }


def test_mails_at_once_do_not_mix_and_earlier_ones_survive_a_restart(tmp_path: Path) -> None:
    with Sink("mail", tmp_path) as sink, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: send(sink, number), range(20)))
        sink.kill()
        sink.start()
        send(sink, 20)
    lines = sink.calls.read_text().splitlines()
    assert {json.loads(line)["message_id"] for line in lines} == {f"<{number}@acme.example>" for number in range(21)}
