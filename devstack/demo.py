"""The main job, played over HTTP: two organisations, an order each, billed by workers in their own schemas."""

import json
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from devstack import DevstackError
from devstack.api import Api, Json
from devstack.kept import Credentials, Organisation

PATIENCE_SECONDS = 60
UNFINISHED = {"pending", "started", "retry"}
LINK = re.compile(r"http\S+\?link=([0-9a-f]+)")
LINES = [
    {"description": "Anvil", "quantity": 2, "unit_amount": 4950},
    {"description": "Delivery", "quantity": 1, "unit_amount": 990},
]


def play(port: int, organisations: list[Organisation], *, mail_log: Path) -> dict[str, str]:
    """Prints each step; returns a token for each slug. Raises DevstackError at the first wrong answer."""
    demo = Demo(port, mail_log)
    for organisation in organisations:
        demo.sign_up(organisation)
    tokens = {}
    orders = {}
    for organisation in organisations:
        api, tokens[organisation["slug"]] = demo.log_in(organisation)
        demo.confirm(api, organisation["owner"])
        demo.add_member(api, organisation["member"])
        orders[organisation["slug"]] = demo.order(api, organisation)
    demo.show_isolation(organisations, tokens, orders)
    return tokens


class Demo:
    def __init__(self, port: int, mail_log: Path) -> None:
        self._port = port
        self._mail_log = mail_log

    def sign_up(self, organisation: Organisation) -> None:
        public = Api("localhost", self._port, say=_say)
        path = f"tenants/{organisation['slug']}/"
        if public.status_of(path, quiet=True) == 404:
            _title(f"{organisation['name']} signs up")
            public.post("tenants/", _sign_up_form(organisation))
        tenant = _wait("its schema", lambda: public.get(path), until=lambda tenant: tenant["status"] != "provisioning")
        if tenant["status"] != "active":
            raise DevstackError(f"{organisation['slug']} is {tenant['status']}, not active: {json.dumps(tenant)}")
        _say(f"{organisation['slug']} is active")

    def log_in(self, organisation: Organisation) -> tuple[Api, str]:
        owner = organisation["owner"]
        _title(f"{owner['full_name']}, the owner of {organisation['name']}, logs in")
        api = Api(f"{organisation['slug']}.localhost", self._port, say=_say)
        return api, api.log_in(owner["email"], owner["password"])

    def confirm(self, api: Api, person: Credentials) -> None:
        """By the link in the person's last mail that has one."""
        users = api.get("users/", email=person["email"])["results"]
        if users[0]["is_confirmed"]:
            return
        found = _wait("the link to confirm the address", lambda: self._find_link(person["email"]), until=bool)
        _say(f"mail to {person['email']}: {found['url']}")
        api.post("confirmations/", {"link": found["link"]})
        _say(f"{person['email']} is confirmed")

    def _find_link(self, email: str) -> Json:
        bodies = [mail["body"] for mail in self._mails_to(email)]
        found = [match for body in bodies if (match := LINK.search(body))]
        return {"url": found[-1][0], "link": found[-1][1]} if found else {}

    def add_member(self, api: Api, member: Credentials) -> None:
        users = api.get("users/")["results"]
        if not any(user["email"] == member["email"] for user in users):
            user = api.post("users/", {**member, "role": "member"})
            _say(f"{user['full_name']} <{user['email']}> is a {user['role']} now")
            self._await_jobs(api, "the mail with the link", user["jobs"])
        self.confirm(api, member)

    def order(self, api: Api, organisation: Organisation) -> str:
        _title(f"{organisation['name']} places an order")
        order = api.post("orders/", {"currency": "EUR", "payment_token": "tok_ok", "lines": LINES})
        _say(f"order {order['id']}: {_money(order)}, {order['status']}")
        self._await_jobs(api, "its job", order["jobs"])
        order = _wait(
            "the payment",
            lambda: api.get(f"orders/{order['id']}/"),
            until=lambda order: order["status"] != "pending",
        )
        if order["status"] != "paid":
            raise DevstackError(f"order {order['id']} is {order['status']}, not paid")
        invoice = api.get("invoices/", order=order["id"])["results"][0]
        _say(f"invoice {invoice['number']}: {_money(invoice)}, {invoice['status']}")
        self._show_mail(organisation, invoice["number"])
        return str(order["id"])

    def show_isolation(self, organisations: list[Organisation], tokens: dict[str, str], orders: dict[str, str]) -> None:
        """Each organisation, asked with the other's token, and for the other's order with its own."""
        mine, other = (organisation["slug"] for organisation in organisations)
        _title(f"{other} sees none of it")
        api = Api(f"{other}.localhost", self._port, say=_say)
        api.use(tokens[other])
        _must(api.status_of(f"orders/{orders[mine]}/"), 404, f"{other} can read an order of {mine}")
        listed = {order["id"] for order in api.get("orders/")["results"]}
        if orders[mine] in listed:
            raise DevstackError(f"an order of {mine} is in the list of {other}")
        _say(f"{other} lists {len(listed)} of its own orders and none of {mine}")
        api.use(tokens[mine])
        _must(api.status_of("orders/"), 401, f"{other} takes a token of {mine}")
        _say(f"{other} takes no token of {mine}")

    def _await_jobs(self, api: Api, what: str, jobs: list[str]) -> None:
        for job in jobs:
            path = f"jobs/{job}/"
            done = _wait(what, partial(api.get, path), until=lambda job: job["state"] not in UNFINISHED)
            if done["state"] != "success":
                raise DevstackError(f"job {job} ({done['task']}) ended as {done['state']}: {done['error']}")
            _say(f"job {job}: {done['task']}, {done['state']}")

    def _show_mail(self, organisation: Organisation, number: str) -> None:
        mail = _wait("the receipt", lambda: self._find_mail(organisation, number), until=bool)
        _say(f"mail to {', '.join(mail['to'])}: {mail['subject']}")
        for line in mail["body"].strip().splitlines():
            _say(f"  │ {line}")

    def _find_mail(self, organisation: Organisation, number: str) -> Json:
        mails = self._mails_to(organisation["owner"]["email"])
        return next((mail for mail in reversed(mails) if number in mail["subject"] + mail["body"]), {})

    def _mails_to(self, email: str) -> list[Json]:
        mails: list[Json] = [json.loads(line) for line in self._mail_log.read_text().splitlines()]
        return [mail for mail in mails if email in mail["to"]]


def _sign_up_form(organisation: Organisation) -> Json:
    return {"name": organisation["name"], "slug": organisation["slug"], "owner": organisation["owner"]}


def _wait(what: str, ask: Callable[[], Json], *, until: Callable[[Json], bool]) -> Json:
    """Asks until the answer will do, with a dot for each second."""
    started = time.monotonic()
    dots = 0
    while not until(answer := ask()):
        waited = time.monotonic() - started
        if waited > PATIENCE_SECONDS:
            raise DevstackError(
                f"waited {PATIENCE_SECONDS} s for {what} in vain; the last answer was {json.dumps(answer)}"
            )
        if waited > dots:
            print("." if dots else f"  waiting for {what} .", end="", flush=True)
            dots += 1
        time.sleep(0.05)
    if dots:
        print(f" {time.monotonic() - started:.1f} s")
    return answer


def _must(status: int, expected: int, otherwise: str) -> None:
    if status != expected:
        raise DevstackError(f"{otherwise}: the answer was {status} instead of {expected}")


def _money(thing: Json) -> str:
    return f"{thing['total_amount'] / 100:.2f} {thing['currency']}"


def _title(text: str) -> None:
    print(f"\n{text}")


def _say(text: str) -> None:
    print(f"  {text}")
    sys.stdout.flush()
