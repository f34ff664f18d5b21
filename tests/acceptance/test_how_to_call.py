"""docs/how-to/call-the-api.md as it stands: its commands, and its programs on clients that generators make.

What the page installs is there already, in locked versions.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from devstack import CHECKOUT

PAGE = (CHECKOUT / "docs/how-to/call-the-api.md").read_text()
# Locked versions of what `npm install` takes on the page
NPM = Path(__file__).parent / "npm"
OUTPUT = """\
placed 20 orders of 2500 cents
listed 20 orders
the job billing.tasks.bill_order ended as success
400 invalid: #/lines min_length
logged out
"""


def blocks(language: str, port: int, *, section: str) -> str:
    """The page's code in this language, from the sections whose title matches, for a server on this port."""
    chosen = [text for text in PAGE.split("\n## ")[1:] if re.match(section, text)]
    found = re.findall(rf"^```{language}\n(.*?)^```", "\n".join(chosen), flags=re.MULTILINE | re.DOTALL)
    return "".join(found).replace("localhost:8000", f"localhost:{port}")


def run(*command: str, folder: Path, **environ: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environ}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def without(install: str, commands: str) -> str:
    lines = commands.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(install)]
    assert len(kept) < len(lines)
    return "".join(kept)


@pytest.mark.needs("curl", "bash")
def test_the_commands(product: int, tmp_path: Path) -> None:
    commands = blocks("sh", product, section="(?!In )")
    output = run("bash", "-euo", "pipefail", "-c", commands, folder=tmp_path)

    assert '"status":"active"' in output
    assert '"email":"ian@initech.example"' in output
    assert output.count("HTTP/1.1 201 Created") == 2
    assert output.count("Idempotent-Replayed: true") == 1
    assert '"code":"idempotency_key_reused"' in output
    assert '"pointer":"#/lines"' in output
    assert '"number":"INV-000001"' in output
    assert '"state":"success"' in output


@pytest.mark.parametrize("slugs", [("acme", "globex"), ("acme", "acme"), ("", "acme")])
def test_the_header_comes_once(product: int, slugs: tuple[str, ...]) -> None:
    headers = [("Tenant", slug) for slug in slugs]
    answer = httpx.get(f"http://127.0.0.1:{product}/api/v1/users/me/", headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_tenant")


@pytest.mark.needs("openapi-python-client")
def test_a_client_in_python(product: int, tmp_path: Path) -> None:
    commands = without("pip install", blocks("sh", product, section="In Python"))
    output = run("bash", "-euo", "pipefail", "-c", commands, folder=tmp_path)
    program = tmp_path / "orders.py"
    program.write_text(blocks("python", product, section="In Python"))
    client = tmp_path / "tenantry-client"

    # A warning says what of the schema the client lacks.
    assert output == f"Generating {client}\n"
    assert run(sys.executable, str(program), folder=tmp_path, PYTHONPATH=str(client)) == OUTPUT
    run(sys.executable, "-m", "mypy", "--strict", str(program), folder=tmp_path, MYPYPATH=str(client))


@pytest.mark.needs("node", "npm")
def test_a_client_in_typescript(product: int, tmp_path: Path) -> None:
    for file in NPM.iterdir():
        shutil.copy(file, tmp_path)
    run("npm", "ci", "--no-audit", "--no-fund", folder=tmp_path)
    commands = without("npm install", blocks("sh", product, section="In TypeScript"))
    (tmp_path / "orders.mts").write_text(blocks("ts", product, section="In TypeScript"))

    assert run("bash", "-euo", "pipefail", "-c", commands, folder=tmp_path).endswith(OUTPUT)
