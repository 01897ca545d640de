"""Who may talk to the app: the rules, without a server (tests/e2e/test_access.py asks a running one)."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from sam3_lora.errors import ConfigError
from sam3_lora.ui import access
from sam3_lora.ui.access import AccessGuard, AccessRules
from tests.ui.helpers import boxes, new_app

LOCAL = AccessRules()
SETTINGS = {
    "server.address": "localhost",
    "browser.serverAddress": "localhost",
    "browser.serverPort": 8501,
    "server.allowedHosts": [],
    "server.corsAllowedOrigins": [],
    "server.baseUrlPath": "",
    "server.sslCertFile": None,
}


def rules(monkeypatch: pytest.MonkeyPatch, token: str | None = None, **settings: object) -> AccessRules:
    """The rules of these settings, with "_" for the dot in their names."""
    given = SETTINGS | {name.replace("_", "."): value for name, value in settings.items()}
    monkeypatch.setattr(access.st, "get_option", given.__getitem__)
    monkeypatch.delenv(access.TOKEN_VARIABLE, raising=False)
    if token is not None:
        monkeypatch.setenv(access.TOKEN_VARIABLE, token)
    return AccessRules.from_settings()


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8501", "LocalHost:9", "127.0.0.1:8501", "[::1]:8501", "[::1]", "localhost.:8501"]
)
def test_this_machine_is_answered_under_any_port(host: str) -> None:
    assert LOCAL.allow_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "evil.test", "evil.test:8501", "localhost.evil.test", "evil.localhost", "localhost@evil.test"),
        *(
            "localhost:8501@evil.test",
            "localhost:port",
            "localhost:8501:1",
            "localhost/",
            "localhost#",
            "localhost, evil",
        ),
        *("0.0.0.0:8501", "10.0.0.7:8501", "[::]:8501", "[::ffff:127.0.0.1]", "127.0.0.1.nip.test", "2130706433"),
        *(
            "0x7f.1",
            "127.1",
            "::1",
            "[localhost]",
            "*",
            "*.test",
            "lоcalhost",
            "localhost\x00",
            "localhost\n",
            ".",
            "-",
        ),
    ],
)
def test_every_other_name_is_refused(host: str) -> None:
    assert not LOCAL.allow_host(host)


def test_the_configured_address_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = rules(monkeypatch, server_address="GPU1.lab", browser_serverAddress="https://sam.lab/")
    assert all(map(lab.allow_host, ("gpu1.lab:8501", "sam.lab", "localhost:8501")))
    assert not lab.allow_host("gpu2.lab")
    everywhere = rules(monkeypatch, server_address="0.0.0.0")
    assert everywhere.hosts == access.LOCAL, "an address that is no name adds none"


def test_a_list_of_hosts_is_the_whole_list(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = rules(monkeypatch, server_allowedHosts=["Gpu1.lab", "*.example.test", "[fe80::1]"])
    assert all(map(listed.allow_host, ("gpu1.lab:1", "a.example.test", "a.b.example.test", "[fe80::1]:8501")))
    assert not any(map(listed.allow_host, ("localhost", "example.test", "badexample.test", "lab")))
    assert rules(monkeypatch, server_allowedHosts=["*"]).allow_host("anything.test")


def test_only_its_own_pages_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LOCAL.allow_origin("http://localhost:8501", "localhost:8501")
    assert LOCAL.allow_origin("https://LOCALHOST:8501", "localhost:8501")
    for other in (
        "http://localhost:9999",
        "http://localhost",
        "http://evil.test",
        "null",
        "",
        "file://",
        "http://[",
        "x",
    ):
        assert not LOCAL.allow_origin(other, "localhost:8501"), other
    proxied = rules(monkeypatch, browser_serverAddress="sam.lab", server_corsAllowedOrigins=["http://a.test:1"])
    assert proxied.allow_origin("https://sam.lab", "localhost:8501"), "a proxy asks under another name"
    assert proxied.allow_origin("http://a.test:1", "localhost:8501")
    assert not proxied.allow_origin("http://a.test:2", "localhost:8501")
    assert not proxied.allow_origin("http://localhost:9999", "localhost:8501")


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 15, "with space and more", "ünïcödé-is-no-token", "a" * 16 + "\n"]
)
def test_a_token_that_could_be_guessed_or_misread_stops_the_start(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    with pytest.raises(ConfigError, match="SAM3_LORA_TOKEN") as refused:
        rules(monkeypatch, token)
    assert not token or token not in str(refused.value), "the terminal's text may be kept"


def test_a_token_is_taken_made_or_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rules(monkeypatch).token is None
    assert rules(monkeypatch, "0123456789abcdef").token == "0123456789abcdef"
    made = {rules(monkeypatch, "auto").token for _ in range(2)}
    assert len(made) == 2 and all(token and len(token) >= 32 for token in made)


def test_the_link_names_what_a_browser_can_open(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "0123456789abcdef"
    assert access.link(rules(monkeypatch, token)) == f"http://localhost:8501/?token={token}"
    assert access.link(rules(monkeypatch, server_address="0.0.0.0")) == "http://localhost:8501/"
    assert access.link(rules(monkeypatch, server_address="::1")) == "http://[::1]:8501/"
    proxied = rules(
        monkeypatch, browser_serverAddress="sam.lab", server_baseUrlPath="studio", server_sslCertFile="c.pem"
    )
    assert access.link(proxied) == "https://sam.lab:8501/studio/"
    assert (
        access.link(rules(monkeypatch, browser_serverAddress="sam.lab", browser_serverPort=443)) == "https://sam.lab/"
    )


def test_the_terminal_says_who_can_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def says(token: str | None, address: str) -> list[str]:
        return access.start_messages(rules(monkeypatch, token, server_address=address))

    assert [says(None, name) for name in ("localhost", "127.0.0.2", "::1")] == [[], [], []]
    for address in ("0.0.0.0", "::", "", "gpu1.lab", "10.0.0.7"):
        (warning,) = says(None, address)
        assert access.TOKEN_VARIABLE in warning
        (line,) = says("auto", address)
        assert urlsplit(line.split()[-1]).query.startswith("token=")


def test_the_cookie_tells_nothing_of_the_token() -> None:
    name, value = access.cookie_of("0123456789abcdef")
    assert "0123456789abcdef" not in name + value
    assert (name, value) == access.cookie_of("0123456789abcdef")
    assert {name, value}.isdisjoint(access.cookie_of("0123456789abcdeg"))


def test_a_page_that_nothing_guards_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AccessGuard, "in_use", False)  # another file was started, or Streamlit has changed
    app = new_app().run()
    (sentence,) = boxes(app)
    assert "streamlit run app.py" in sentence and not app.title and not app.button
