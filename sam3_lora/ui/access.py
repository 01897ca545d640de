"""Who may talk to the app: host names, origins and the access token, checked before Streamlit sees a request."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.websockets import WebSocket

from sam3_lora.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_VARIABLE = "SAM3_LORA_TOKEN"
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERY_INTERFACE = {"", "0.0.0.0", "::"}
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{1,5})?")
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,}")  # what an address can hold unquoted, and nobody guesses
_PARAMETER = "token"  # in the address

_WRONG_HOST = (
    "SAM 3 LoRA Studio does not answer to this host name: if the name is right, add it to server.allowedHosts in "
    ".streamlit/config.toml.\n"
)
_WRONG_ORIGIN = "SAM 3 LoRA Studio answers to its own pages only: this request was sent by a page of another site.\n"
_NO_TOKEN = "SAM 3 LoRA Studio opens with the link that it has printed in the terminal when it was started."
_TOKEN_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>SAM 3 LoRA Studio</title>{head}
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<body style="font-family: sans-serif; line-height: 1.5; margin: 4rem auto; max-width: 40rem; padding: 0 1rem">
<p>{sentence}</p><p><a href="{target}">{link}</a></p>
"""
# Inside another site's frame, a click could be made to start or to delete something here.
_HEADERS = {"Content-Security-Policy": "frame-ancestors 'self'", "Referrer-Policy": "same-origin"}


@dataclass(frozen=True)
class AccessRules:
    """What a request must have to be answered.

    Attributes:
        hosts: names in the Host header, lower case; "*.lab" stands for every name below "lab", "*" for every name.
        public: the name that a reverse proxy answers to, which may be in Origin while Host has another; "" for none.
        origins: further origins whose pages may send requests.
        token: the access token; None asks for none.
    """

    hosts: frozenset[str] = LOCAL
    public: str = ""
    origins: frozenset[str] = frozenset()
    token: str | None = None

    @classmethod
    def from_settings(cls) -> AccessRules:
        """The rules that Streamlit's settings and SAM3_LORA_TOKEN describe.

        Raises:
            ConfigError: the token is too short or has other characters than letters, digits and ``._~-``.
        """
        address = _bare(st.get_option("server.address") or "")
        public = _bare(st.get_option("browser.serverAddress") or "")
        # Where this list is not empty, Streamlit itself refuses websockets of all other names, so it is the whole list.
        listed = frozenset(map(_bare, st.get_option("server.allowedHosts")))
        return cls(
            hosts=listed or LOCAL.union({address, public} - _EVERY_INTERFACE),
            public="" if public in LOCAL else public,
            origins=frozenset(st.get_option("server.corsAllowedOrigins")),
            token=_token(),
        )

    def allow_host(self, host: str) -> bool:
        """Whether a request with this Host header, "name:port", is answered."""
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = _bare(match["v6"] or match["name"])
        parents = {f"*.{parent}" for parent in _parents(name)}
        return not self.hosts.isdisjoint({name, "*"} | parents)

    def allow_origin(self, origin: str, host: str) -> bool:
        """Whether a page of this origin, "scheme://name:port", may send requests to this host.

        Other ports of the same name belong to other servers, on a shared machine to other people.
        """
        try:
            parts = urlsplit(origin.lower())
        except ValueError:
            return False
        same = bool(parts.netloc) and parts.netloc == host.lower()
        return same or origin in self.origins or (bool(self.public) and parts.hostname == self.public)


def _bare(name: str) -> str:
    """A host's name without scheme, port, brackets and the dot that ends a complete name, lower case."""
    name = name.strip().lower()
    if name.count(":") != 1 and "/" not in name:  # IPv6, or a name alone
        return name.strip("[]").removesuffix(".")
    return (urlsplit(name if "//" in name else f"//{name}").hostname or "").removesuffix(".")


def _parents(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels))]


def _token() -> str | None:
    token = os.environ.get(TOKEN_VARIABLE)
    if token == "auto":
        return secrets.token_urlsafe(24)
    if token is not None and not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"{TOKEN_VARIABLE} must have at least 16 characters, letters, digits and '._~-' only, but has {len(token)}",
            f"Set {TOKEN_VARIABLE}=auto, which makes a token at each start, or unset it",
        )
    return token


def link(rules: AccessRules) -> str:
    """The address to open, with the token if there is one."""
    address = _bare(st.get_option("server.address") or "")
    name = rules.public or ("localhost" if address in _EVERY_INTERFACE else address)
    port = st.get_option("browser.serverPort")
    scheme = "https" if st.get_option("server.sslCertFile") or port == 443 else "http"
    host = (f"[{name}]" if ":" in name else name) + ("" if port in (80, 443) else f":{port}")
    path = f"/{st.get_option('server.baseUrlPath').strip('/')}/".replace("//", "/")
    return f"{scheme}://{host}{path}" + (f"?{_PARAMETER}={rules.token}" if rules.token else "")


def start_messages(rules: AccessRules) -> list[str]:
    """What the terminal says about access when the app starts."""
    if rules.token:
        return [f"Only this link opens it: {link(rules)}"]
    if _reachable_from_outside(_bare(st.get_option("server.address") or "")):
        return [f"Everybody who reaches this machine can use it: set {TOKEN_VARIABLE}=auto to ask for an access token."]
    return []


def _reachable_from_outside(address: str) -> bool:
    try:
        return not ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address not in LOCAL


class AccessGuard:
    """ASGI middleware around Streamlit: refuses with 403 and one sentence what the rules do not allow.

    Args:
        app: what answers to allowed requests.
        rules: what is allowed.
    """

    in_use = False  # whether this process serves through one

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self._app, self._rules = app, rules
        AccessGuard.in_use = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or hands it on."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        response = self._answer(HTTPConnection(scope))
        if response is None:
            return await self._app(scope, receive, _with_headers(send))
        if scope["type"] == "websocket":
            return await WebSocket(scope, receive, send).send_denial_response(response)
        return await response(scope, receive, _with_headers(send))

    def _answer(self, request: HTTPConnection) -> Response | None:
        """The refusal, or the page that takes over a token; None where the request is allowed."""
        hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
        if len(hosts) != 1 or not self._rules.allow_host(hosts[0]):
            return PlainTextResponse(_WRONG_HOST, 403)
        if not all(self._rules.allow_origin(origin, hosts[0]) for origin in origins):
            return PlainTextResponse(_WRONG_ORIGIN, 403)
        if self._rules.token is None:
            return None
        return _check_token(request, self._rules.token)


def _check_token(request: HTTPConnection, token: str) -> Response | None:
    name, value = cookie_of(token)
    known = _equal(request.cookies.get(name, ""), value)
    given = request.query_params.get(_PARAMETER)
    if given is None or request.scope.get("method") not in {"GET", "HEAD"}:
        return None if known else _refused()
    if not known and not _equal(given, token):
        return _refused()
    return _let_in(request, name, value)


def cookie_of(token: str) -> tuple[str, str]:
    """Name and value of the cookie that stands for a token.

    Servers on other ports of the same host receive it, too: it does not tell them the token, and two of them do not
    overwrite each other's.
    """
    name, value = (hmac.digest(token.encode(), purpose, "sha256").hex() for purpose in (b"name", b"value"))
    return f"sam3_lora_{name[:12]}", value


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def _refused() -> Response:
    # A link in another site's page brings no cookie of SameSite=Strict; the one on this page does.
    page = _TOKEN_PAGE.format(head="", sentence=_NO_TOKEN, target="", link="Try again")
    return HTMLResponse(page, 403)


def _let_in(request: HTTPConnection, name: str, value: str) -> Response:
    """The page that sets the cookie and goes on to the same address without the token.

    No redirect: after a click on a link in another site's page, such as a terminal in the browser, a browser sends the
    new cookie only to where a page of this site leads.
    """
    query = [pair for pair in parse_qsl(request.url.query, keep_blank_values=True) if pair[0] != _PARAMETER]
    page_name = request.scope["path"].rpartition("/")[2]
    target = f"./{quote(page_name)}" + (f"?{urlencode(query)}" if query else "")
    target = target.replace("&", "&amp;")
    head = f'<meta http-equiv="refresh" content="0; url={target}">'
    page = _TOKEN_PAGE.format(head=head, sentence="SAM 3 LoRA Studio is opening.", target=target, link="Open it")
    response = HTMLResponse(page, headers={"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"})
    response.set_cookie(name, value, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
