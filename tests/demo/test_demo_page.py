"""The demo's page in a real browser: log in, play, be refused, win, and see others play."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.servers import Server, wait_until
from tools.screenshot_demo import FLAGS, chromium

ROOT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def arcade(*arguments: str) -> Iterator[str]:
    """Arcade with two workers and nobody in it: its address."""
    command = [sys.executable, "-m", "demo", "--players", "0", "--port", "0", *arguments]
    demo = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    try:
        first = demo.stdout.readline()
        assert first.startswith("Arcade is at http://"), first
        yield first.split()[-1]
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)
    assert demo.returncode == 0


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with arcade() as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A fresh visitor's page, which must not complain on the console."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    # A browser logs every answer above 399, and some of those are the point of a test.
    page.on("console", lambda m: trouble.append(m.text) if m.type == "error" and "status of 4" not in m.text else None)
    page.goto(address)
    expect(page.locator("#connection")).to_have_text("Live", timeout=30_000)
    yield page
    context.close()
    assert trouble == []


@pytest.fixture
def name() -> str:
    return f"Visitor {uuid.uuid4().hex[:6]}"


def log_in(page: Page, name: str) -> None:
    page.get_by_label("Pick a name to play").fill(name)
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page.locator("#who")).to_have_text(name)


def test_a_visitor_logs_in_and_plays(page: Page, name: str) -> None:
    """The session is the server's: it outlives a reload; its row is marked as one's own."""
    log_in(page, name)
    page.get_by_role("button", name="Spin").click()

    expect(page.locator("#result")).to_contain_text("point")
    expect(page.locator("#spins")).to_have_text("1")
    expect(page.locator("tr.me")).to_contain_text(name)
    page.reload()
    expect(page.locator("#who")).to_have_text(name)
    expect(page.locator("#spins")).to_have_text("1")
    expect(page.locator("tr.me")).to_contain_text(name)


def test_a_visitor_who_is_too_fast_is_refused_and_told_how_long(page: Page, name: str) -> None:
    """The button counts the seconds down that the server named, and then works again."""
    log_in(page, name)
    spin = page.locator("#spin")
    for _ in range(40):
        if spin.is_enabled():
            spin.click(timeout=5_000)
        if spin.inner_text().startswith("Wait"):
            break

    expect(page.locator("#result")).to_have_text("Too fast: the limit per player is reached.")
    expect(spin).to_be_disabled()
    expect(spin).to_have_text("Spin", timeout=10_000)
    expect(spin).to_be_enabled()


def test_the_board_changes_when_somebody_else_plays(page: Page, address: str, name: str) -> None:
    """Another player's score appears, and grows, on a page that nobody touches."""
    with httpx.Client(base_url=address) as other:
        assert other.post("/api/login", json={"name": name}).status_code == 200
        for _ in range(2):
            answer = other.post("/api/play").json()
            assert answer["player"] == name

            row = page.locator("#board tr", has_text=name)
            expect(row.locator("td").last).to_have_text(f"{answer['score']:,}", timeout=10_000)


def test_a_visitor_wins_a_jackpot_once(page: Page, name: str) -> None:
    """Whoever claims an open round alone gets it, and the next round comes."""
    log_in(page, name)
    claim = page.get_by_role("button", name="Claim it")
    expect(claim).to_be_enabled(timeout=10_000)
    number = page.locator("#round").inner_text()
    claim.click()

    expect(page.locator("#result")).to_contain_text("is yours")
    expect(page.locator("#last")).to_contain_text("went to you")
    expect(page.locator("#round")).not_to_have_text(number)


def test_a_visitor_logs_out(page: Page, name: str) -> None:
    """The page forgets who it was, the server too."""
    log_in(page, name)
    page.get_by_role("button", name="Log out").click()

    expect(page.get_by_label("Pick a name to play")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Pick a name to play")).to_be_visible()


def test_the_page_fits_a_phone(page: Page, name: str) -> None:
    """Nothing is wider than 375 pixels, before and after logging in."""
    page.set_viewport_size({"width": 375, "height": 700})
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) <= 375
    log_in(page, name.ljust(20, "W"))

    assert page.evaluate(width) <= 375


def test_requests_that_make_no_sense_are_told_so(address: str) -> None:
    """400, 401 and 422 with a sentence; a cookie that was never issued is nobody's."""
    with httpx.Client(base_url=address, cookies={"arcade": "never.issued"}) as client:
        assert client.get("/api/me").status_code == 401
        assert client.post("/api/play").status_code == 401
        assert client.post("/api/login", content=b"{").status_code == 400
        assert client.post("/api/login", json=["Ada"]).status_code == 400
        for name in ("", "   ", "x" * 21, "a\nb\x00", 7, None):
            answer = client.post("/api/login", json={"name": name})
            assert answer.status_code == 422
            assert answer.json()["error"] == "A name has 1 to 20 printable characters."


def test_a_server_that_is_away_is_a_503_and_comes_back(browser: Browser, name: str) -> None:
    """Nothing hangs and nothing is a traceback: a sentence, and when the server is back the session still counts."""
    with Server(appendonly="yes", appendfsync="always") as server, arcade("--url", server.url()) as address:
        page = browser.new_page()
        page.goto(address)
        log_in(page, name)
        server.kill()
        with httpx.Client(base_url=address, cookies={"arcade": page.context.cookies()[0]["value"]}) as client:
            answer = client.post("/api/play", timeout=10)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["error"] == "The arcade is closed for a moment. Nothing is lost; try again."
            page.locator("#spin").click()
            expect(page.locator("#result")).to_contain_text("closed for a moment")
            expect(page.locator("#connection")).to_have_text("Server unreachable", timeout=10_000)

            server.start()
            wait_until(lambda: client.get("/api/me").status_code == 200, 15, "the server's return")
            expect(page.locator("#connection")).to_have_text("Live", timeout=10_000)
            assert client.post("/api/play").json()["player"] == name
        page.close()
