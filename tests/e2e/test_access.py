"""Who may talk to a running app: forged hosts and origins, the access token, uploads, paths that lead elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.e2e.browser import App, failures, open_page, running_app, tab, wait_until_idle
from tests.e2e.server import XSRF_COOKIE, ask, netloc, open_session, refusal, websocket

TOKEN = "a-token-of-this-test-file"
CANVAS = "/component/streamlit_drawable_canvas.st_canvas"
# Every kind of address that Streamlit has, and one that it has not.
PATHS = (
    *("/", "/train", "/static/none.js", "/_stcore/health", "/_stcore/host-config", "/_stcore/metrics", "/nothing"),
    *(
        "/media/none.png",
        "/component/streamlit_drawable_canvas.st_canvas/index.html",
        "/_stcore/bidi-components/x/y.js",
    ),
    *("/_stcore/agent/openapi.json", "/app/static/app.py", "/_stcore/script-health-check", "/oauth2callback"),
)
OTHER_HOSTS = ("evil.test", "evil.test:8501", "localhost.evil.test", "10.0.0.7", "[::ffff:127.0.0.1]")
OTHER_ORIGINS = ("http://evil.test", "http://localhost:1", "null", "file://")
UPLOAD = "/_stcore/upload_file/{session}/file"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app as it is started by default."""
    with running_app(tmp_path_factory.mktemp("served")) as app:
        yield app


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with a token, under a further name."""
    names = ("--server.allowedHosts", "gpu1.lab", "--server.allowedHosts", "localhost")
    with running_app(tmp_path_factory.mktemp("locked"), *names, SAM3_LORA_TOKEN=TOKEN) as app:
        yield app


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_under_another_name_nothing_is_answered(served: App, host: str) -> None:
    for path in PATHS:
        reply = ask(served, path, host=host)
        assert reply.status == 403 and reply.text.count("\n") == 1 and not reply.cookies, path
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"):
        assert ask(served, UPLOAD.format(session="x"), method, host=host).status == 403, method
    assert refusal(served, host=host)[0] == 403


def test_one_host_and_no_more(served: App) -> None:
    for hosts in ((), ("",), ("a@localhost",), ("localhost", "evil.test"), ("evil.test", "localhost")):
        assert ask(served, host=hosts).status in (400, 403)
    assert ask(served, f"http://{netloc(served)}/", host="evil.test").status == 403
    assert ask(served, host="evil.test", X_Forwarded_Host=netloc(served), Forwarded="host=localhost").status == 403


@pytest.mark.parametrize("origin", OTHER_ORIGINS)
def test_pages_of_other_sites_get_nothing(served: App, origin: str) -> None:
    for path in PATHS:
        reply = ask(served, path, Origin=origin)
        assert reply.status == 403 and "access-control-allow-origin" not in reply.headers, path
    status, text = refusal(served, origin=origin)
    assert status == 403 and text.count("\n") == 1


def test_its_own_pages_get_everything(served: App) -> None:
    for name in ("localhost", "127.0.0.1"):
        host = netloc(served).replace("localhost", name)
        assert ask(served, host=host).status == 200
        assert refusal(served, host=host, origin=f"http://{host}") == (101, "")
    assert refusal(served) == (101, ""), "programs send no Origin"
    assert ask(served).headers["content-security-policy"] == "frame-ancestors 'self'"
    assert json.loads(ask(served, "/_stcore/host-config").text)["allowedOrigins"] == [], "nobody else steers the page"


def multipart(content: bytes, name: str = "image.png") -> tuple[bytes, str]:
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


def test_an_upload_needs_a_session_and_the_page_s_own_secret(served: App) -> None:
    body, kind = multipart(b"uploaded")
    xsrf = ask(served, "/_stcore/health").cookies
    secret = {"Content_Type": kind, "X_Xsrftoken": xsrf[XSRF_COOKIE]}
    with websocket(served) as connection:
        own = UPLOAD.format(session=open_session(connection))
        assert ask(served, own, "PUT", body=body, Content_Type=kind).status == 403
        assert ask(served, own, "PUT", body=body, cookies=xsrf, Content_Type=kind).status == 403
        assert ask(served, own, "PUT", body=body, Content_Type=kind, X_Xsrftoken=xsrf[XSRF_COOKIE]).status == 403
        assert ask(served, own, "PUT", body=body, cookies=xsrf, Origin="http://evil.test", **secret).status == 403
        assert ask(served, own, "DELETE").status == 403
        assert ask(served, UPLOAD.format(session="other"), "PUT", body=body, cookies=xsrf, **secret).status == 400
        assert ask(served, own, "PUT", body=body, cookies=xsrf, **secret).status == 204
        assert "uploaded" not in ask(served, own).text, "what was uploaded cannot be fetched"


def test_an_upload_above_the_bound_is_refused_before_it_is_read(served: App) -> None:
    xsrf = ask(served, "/_stcore/health").cookies
    with websocket(served) as connection:
        own = UPLOAD.format(session=open_session(connection))
        headers = {"Content_Type": "multipart/form-data; boundary=x", "X_Xsrftoken": xsrf[XSRF_COOKIE]}
        assert ask(served, own, "PUT", cookies=xsrf, Content_Length=str(1001 << 20), **headers).status == 413
        with pytest.raises(TimeoutError):  # a run's archive with two adapters: the server waits for the content
            ask(served, own, "PUT", cookies=xsrf, Content_Length=str(999 << 20), timeout_s=2, **headers)


def ways_to(file: Path) -> list[str]:
    """Paths that would lead from below any folder to the file if they were followed."""
    ups = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..%252f", "./../", "..;/", "x/../../")
    ways = [up * 14 + str(file).removeprefix("/") for up in ups]
    return [
        *ways,
        str(file),
        f"/{file}",
        f"%2f{file}",
        f"file://{file}",
        f"{file}%00.png",
        f"C:{file}",
        f"%5c%5clocalhost{file}",
    ]


@pytest.mark.parametrize(
    "below", ["", "/media", CANVAS, "/static", "/app/static", "/_stcore/bidi-components/sam3_lora.x"]
)
def test_no_path_leads_to_a_file_of_the_machine(served: App, tmp_path: Path, below: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("this is no page of the app")
    for path in (*ways_to(secret), "app.py", "../app.py", "%2e%2e/app.py", ".streamlit/config.toml"):
        reply = ask(served, f"{below}/{path}")
        assert reply.status in (200, 400, 404), path  # 200: the page that is shown for every unknown path
        assert not any(content in reply.text for content in ("no page of the app", "import ", "[server]")), path


def test_the_interface_for_programs_is_off(served: App) -> None:
    for path in ("/_stcore/agent/interact", "/_stcore/agent/mcp"):
        assert ask(served, path, "POST", body=b"{}", Content_Type="application/json").status in (400, 403)


def test_without_the_token_nothing_is_answered(locked: App) -> None:
    name, value = cookie(locked)
    for wrong in (
        *({}, {name: ""}, {name: TOKEN}, {name: value[:-1]}, {name: value + "0"}, {name: "\u00e9"}),
        *({"sam3_lora": value}, {"token": TOKEN}),
    ):
        for path in PATHS:
            reply = ask(locked, path, cookies=wrong)
            assert reply.status == 403 and not reply.cookies, path
        status, text = refusal(locked, cookies=wrong, origin=locked.url)
        assert status == 403 and "printed in the terminal" in text
    for given in (
        "",
        "token=",
        f"token={TOKEN[:-1]}",
        f"token={TOKEN}x",
        f"TOKEN={TOKEN}",
        "token=%00",
        "token=%e2%82",
    ):
        reply = ask(locked, f"/?{given}")
        assert reply.status == 403 and not reply.cookies, given
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(locked, f"/_stcore/upload_file/a/b?token={TOKEN}", method).status == 403
    assert ask(locked, f"/?token={TOKEN}", host="evil.test").status == 403
    assert ask(locked, Authorization=f"token {TOKEN}").status == 403


def cookie(app: App) -> tuple[str, str]:
    (pair,) = ask(app, f"/?token={TOKEN}").cookies.items()
    return pair


def test_the_link_gives_a_cookie_and_goes_on_without_the_token(locked: App) -> None:
    reply = ask(locked, f"/inference?a=1&token={TOKEN}&b=%22%3E%3Cb%3E&c=")
    assert reply.status == 200 and TOKEN not in reply.text + str(reply.headers)
    (target,) = re.findall(r'url=(.*?)"', reply.text)
    assert target == "./inference?a=1&amp;b=%22%3E%3Cb%3E&amp;c="
    assert reply.headers["referrer-policy"] == "no-referrer" and reply.headers["cache-control"] == "no-store"
    attributes = {part.strip().lower() for part in reply.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} == attributes
    assert "Secure" in ask(locked, f"/?token={TOKEN}", X_Forwarded_Proto="https").headers["set-cookie"]

    known = dict([cookie(locked)])
    assert all(ask(locked, path, cookies=known).status != 403 for path in PATHS)
    assert refusal(locked, cookies=known, origin=locked.url) == (101, "")
    assert refusal(locked, cookies=known, origin="http://localhost:1")[0] == 403, "a cookie goes to every port"
    again = ask(locked, "/train?token=wrong", cookies=known)
    assert again.status == 200 and "./train" in again.text, "an old link still opens what is open"


@pytest.mark.parametrize(
    "path", ["//evil.test", "/\\evil.test", "/%5cevil.test", "//evil.test/..", "/javascript:alert(1)"]
)
def test_the_link_leads_nowhere_else(locked: App, path: str) -> None:
    reply = ask(locked, f"{path}?token={TOKEN}")
    targets = re.findall(r'url=(.*?)"', reply.text)
    assert reply.status in (200, 400) and all(target.startswith("./") and "\\" not in target for target in targets)


def test_the_token_is_written_once_and_only_in_the_link(locked: App) -> None:
    for path in ("/", "/train", "/nothing", "/media/x"):
        ask(locked, f"{path}?token={TOKEN}")
        ask(locked, f"{path}?token={TOKEN}", host="evil.test")
    refusal(locked, origin="http://evil.test")
    log = locked.log.read_text()
    assert log.count(TOKEN) == 1 and f"{locked.url}/?token={TOKEN}" in log
    assert cookie(locked)[1] not in log


def test_a_token_that_is_too_short_stops_the_start_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ended at once"), running_app(tmp_path, SAM3_LORA_TOKEN="short"):
        pass
    log = (tmp_path / "server.log").read_text()
    assert log.count("SAM3_LORA_TOKEN must have") == 1 and "Traceback" not in log


def test_a_list_of_names_is_answered_and_no_other(locked: App) -> None:
    known = dict([cookie(locked)])
    assert ask(locked, host="gpu1.lab:8501", cookies=known).status == 200
    assert refusal(locked, host="gpu1.lab:8501", origin="http://gpu1.lab:8501", cookies=known) == (101, "")
    assert ask(locked, host=netloc(locked).replace("localhost", "127.0.0.1"), cookies=known).status == 403


@pytest.mark.slow
def test_with_a_token_the_app_opens_by_its_link_only(browser, locked: App, tmp_path: Path) -> None:
    (link,) = re.findall(r"http://\S+token=\S+", locked.log.read_text())
    with tab(browser) as (page, errors):
        for name in ("", "train"):
            assert page.goto(f"{locked.url}/{name}").status == 403
            expect(page.get_by_text("opens with the link")).to_be_visible()
            assert page.get_by_test_id("stApp").count() == 0
        errors.clear()

        page.goto(
            "data:text/html," + quote(f'<a href="{link}">from another site, such as a terminal in the browser</a>')
        )
        page.get_by_role("link").click()
        page.get_by_test_id("stHeading").first.wait_for(timeout=120_000)
        assert page.url == f"{locked.url}/"
        assert page.evaluate("document.cookie").count("sam3_lora") == 0, "no script of a page can read it"
        for name in ("dataset", "label", "configure", "train", "evaluate", "inference"):
            open_page(page, locked, name)
            expect(page.get_by_role("heading", name=name.capitalize(), exact=True)).to_be_visible()
            assert failures(page) == []

        picture = tmp_path / "picture.png"
        Image.new("RGB", (64, 48), (90, 60, 40)).save(picture)
        open_page(page, locked, "inference", phrases="circle")
        page.get_by_role("radio", name="Upload").click()
        page.locator('.st-key-image-file input[type="file"]').set_input_files(picture)
        wait_until_idle(page)
        page.get_by_role("button", name="Prompt", exact=True).click()
        shown = page.locator('[class*="st-key-predictions-"] img').first
        expect(shown).to_be_visible(timeout=120_000)
        assert shown.evaluate("async image => (await image.decode(), image.naturalWidth)") > 0, "/media brings it"

        page.goto("data:text/html," + quote(f'<a href="{locked.url}/train">a colleague\'s link, in a chat</a>'))
        page.get_by_role("link").click()
        page.get_by_role("link", name="Try again").click()
        expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible(timeout=120_000)
        assert [error for error in errors if "403" not in error] == []
