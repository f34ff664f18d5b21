"""Calls that figures make in a system's own Python, with its settings: a line of JSON there, a line back.

This file is both sides, so it imports nothing that peers don't have.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from devstack import CHECKOUT, DevstackError


class Driver:
    """The figures' side, for a `with` block: a process on the `python` of the environment's PATH."""

    def __init__(self, calls: str, *, env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._popen = subprocess.Popen(
                ["python", "-m", "bench.driver", calls],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **env},
                cwd=CHECKOUT,
                text=True,
            )
        self._read()

    def call(self, name: str, **arguments: Any) -> Any:
        """Raises DevstackError with the traceback of what failed there."""
        assert self._popen.stdin
        self._popen.stdin.write(json.dumps([name, arguments]) + "\n")
        self._popen.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._popen.stdout
        line = self._popen.stdout.readline()
        if not line:
            raise DevstackError(f"the driver ended:\n{self._log.read_text()[-2000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise DevstackError(answer["error"])
        return answer["returned"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It ends with its standard input, as it does when this process dies."""
        self._popen.communicate()


def main(module: str) -> None:
    import django

    django.setup()
    calls = import_module(module)
    print(json.dumps({"returned": None}), flush=True)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(_answer(getattr(calls, name), arguments)), flush=True)


def _answer(call: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"returned": call(**arguments)}
    except Exception:
        return {"error": traceback.format_exc()}


if __name__ == "__main__":
    main(sys.argv[1])
