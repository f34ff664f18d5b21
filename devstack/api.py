"""A client of the product's HTTP API, as anybody would write one."""

from collections.abc import Callable
from typing import Any

import httpx

from devstack import DevstackError

Json = dict[str, Any]


class Api:
    """Talks to one host of a server on this machine.

    It connects to 127.0.0.1 and names the host in a header, since not every system resolves `acme.localhost`.
    """

    def __init__(self, host: str, port: int, *, say: Callable[[str], None]) -> None:
        self.host = f"{host}:{port}"
        self._say = say
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1/", headers={"Host": self.host}, timeout=30, trust_env=False
        )

    def log_in(self, email: str, password: str) -> str:
        """The token, which later calls carry."""
        token: str = self.post("tokens/", {"email": email, "password": password})["token"]
        self.use(token)
        return token

    def use(self, token: str) -> None:
        self._http.headers["Authorization"] = f"Bearer {token}"

    def post(self, path: str, body: Json) -> Json:
        return self._expect(self._send("POST", path, json=body), {201, 202, 204})

    def get(self, path: str, **params: str) -> Json:
        return self._expect(self._send("GET", path, params=params, quiet=True), {200})

    def close(self) -> None:
        self._http.close()

    def status_of(self, path: str, *, quiet: bool = False) -> int:
        return self._send("GET", path, quiet=quiet).status_code

    def _send(self, method: str, path: str, *, quiet: bool = False, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise DevstackError(f"{method} http://{self.host}/api/v1/{path}: {error}") from None
        if not quiet:
            self._say(f"{method} http://{self.host}/api/v1/{path} → {response.status_code}")
        return response

    def _expect(self, response: httpx.Response, statuses: set[int]) -> Json:
        if response.status_code not in statuses:
            asked = f"{response.request.method} http://{self.host}{response.request.url.path}"
            raise DevstackError(f"{asked} answered {response.status_code}: {response.text[:500]}")
        answer: Json = response.json() if response.content else {}
        return answer
