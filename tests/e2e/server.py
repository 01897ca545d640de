"""Requests to a running app that no browser would send: any header, any path, any websocket."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.e2e.browser import App

XSRF_COOKIE = "_streamlit_xsrf"


@dataclass(frozen=True)
class Reply:
    """status; text of the body; headers with names in lower case; cookies set."""

    status: int
    text: str
    headers: dict[str, str]
    cookies: dict[str, str]


def netloc(app: App) -> str:
    return urlsplit(app.url).netloc


def ask(
    app: App,
    path: str = "/",
    method: str = "GET",
    host: str | Iterable[str] | None = None,
    cookies: dict[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = 20,
    **headers: str,
) -> Reply:
    """Sends exactly this path and these headers ("_" is "-"); host: one Host header or several, by default its own."""
    connection = http.client.HTTPConnection(netloc(app), timeout=timeout_s)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for value in (netloc(app),) if host is None else (host,) if isinstance(host, str) else host:
        connection.putheader("Host", value)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    if cookies:
        connection.putheader("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))
    if body is not None and "Content_Length" not in headers:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    try:
        answer = connection.getresponse()
        set_cookies = [header.split(";")[0].split("=", 1) for header in answer.headers.get_all("Set-Cookie") or []]
        text = answer.read().decode("utf-8", "replace")
        return Reply(answer.status, text, {k.lower(): v for k, v in answer.getheaders()}, dict(map(tuple, set_cookies)))
    finally:
        connection.close()


@contextmanager
def websocket(app: App, host: str | None = None, origin: str | None = None, cookies: dict[str, str] | None = None):
    """A websocket to the app's stream; raises InvalidStatus with the reply where it is refused."""
    address = urlsplit(app.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as plain:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else None
        uri = f"ws://{host or address.netloc}/_stcore/stream"
        with connect(
            uri, sock=plain, origin=origin, additional_headers=headers, subprotocols=["streamlit"], proxy=None
        ) as connection:
            yield connection


def refusal(app: App, **options) -> tuple[int, str]:
    """Status and text with which a websocket is refused; status 101 where it is not."""
    try:
        with websocket(app, **options):
            return 101, ""
    except InvalidStatus as error:
        return error.response.status_code, error.response.body.decode()


def open_session(connection: ClientConnection) -> str:
    """Runs the app in a new session; its id."""
    message = BackMsg()
    message.rerun_script.query_string = ""
    connection.send(message.SerializeToString())
    while True:
        forward = ForwardMsg.FromString(connection.recv(timeout=60))
        if forward.WhichOneof("type") == "new_session":
            return forward.new_session.initialize.session_id
