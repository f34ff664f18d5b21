"""The nginx of docs/how-to/deploy.md, in front of web."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django.apps import apps
from django_tenants.utils import tenant_context
from knox.models import AuthToken

from devstack import CHECKOUT, folders
from devstack.ports import answers, free_port
from devstack.processes import Process
from tenants.models import Tenant
from tests.people import add_user
from tests.tls import make_certificate
from tests.tools import find_tool

pytestmark = [
    pytest.mark.usefixtures("committed_db"),
    pytest.mark.needs("nginx", "openssl"),
    pytest.mark.skipif(not apps.is_installed("billing"), reason="an order needs it"),
]

GUIDE = CHECKOUT / "docs/how-to/deploy.md"
EXAMPLE = re.compile(r"^```nginx\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
LINE = {"description": "Tea", "quantity": 1, "unit_amount": 1}
ORDER = {"currency": "EUR", "payment_token": "tok_ok", "lines": [LINE]}


@pytest.fixture
def client(acme: Tenant, tmp_path: Path) -> Iterator[httpx.Client]:
    """Ada of acme, who speaks TLS with nginx."""
    with tenant_context(acme):
        _, token = AuthToken.objects.create(user=add_user(acme, "ada"))
    web_port, port = free_port(), free_port()
    env = {**os.environ, "BEHIND_TLS_PROXY": "1", "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{web_port} --workers=1"}
    web = Process.from_procfile("web", log=tmp_path / "web.log", env=env, ready=lambda: answers(web_port))
    with folders.temporary() as folder, web, nginx(folder, port, web_port):
        headers = {"Host": "acme.localhost", "Authorization": f"Bearer {token}"}
        certificate = str(folder / "certificate.pem")
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", headers=headers, verify=certificate) as client:
            yield client


def nginx(folder: Path, port: int, web_port: int) -> Process:
    program = find_tool("nginx")
    assert program
    certificate = make_certificate(folder)
    [example] = EXAMPLE.findall(GUIDE.read_text())
    for old, new in {
        "127.0.0.1:8000": f"127.0.0.1:{web_port}",
        "443 ssl": f"127.0.0.1:{port} ssl",
        "/etc/ssl/example.com.pem": str(certificate),
        "/etc/ssl/example.com.key": str(certificate.with_suffix(".key")),
    }.items():
        assert old in example
        example = example.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
    file = folder / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    file.write_text(
        f"{user}daemon off;\npid {folder / 'pid'};\nevents {{}}\nhttp {{\naccess_log off;\n{places}{example}}}\n"
    )
    command = [program, "-c", str(file), "-e", "stderr"]
    return Process("nginx", command, log=folder / "nginx.log", ready=lambda: answers(port))


def test_orders_come_through(client: httpx.Client) -> None:
    placed = client.post("/api/v1/orders/", json=ORDER)
    assert placed.status_code == 201
    assert client.get(f"/api/v1/orders/{placed.json()['id']}/").json()["id"] == placed.json()["id"]


def test_its_links_have_https(client: httpx.Client) -> None:
    for _ in range(2):
        client.post("/api/v1/orders/", json=ORDER)
    assert client.get("/api/v1/orders/?page_size=1").json()["next"].startswith("https://acme.localhost/")


def test_a_large_body_is_refused(client: httpx.Client) -> None:
    assert client.post("/api/v1/orders/", content=b" " * 2_000_000).status_code == 413
