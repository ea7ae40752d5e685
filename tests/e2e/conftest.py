"""A real service and a real browser. Screenshots and the service's log stay under tests/output/e2e."""

# ruff: noqa: E501

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect, sync_playwright

from tests.support.live import Live, live_service
from tests.support.paths import ROOT

OUTPUT = ROOT / "tests" / "output" / "e2e"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


# Milliseconds until a page must show what a test waits for: long, since a busy machine is no failure.
PATIENCE = 180_000
expect.set_options(timeout=PATIENCE)


# Playwright's loop runs in this thread while it is open, and asyncio.run() refuses beside it: of this package, not
# of the session.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Headless Chromium, the system's own."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium on PATH ({', '.join(NAMES)}); `make test` installs it as root on Debian")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def service(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """`bnfold serve` as people run it, jailed runner and all."""
    with live_service(tmp_path_factory.mktemp("e2e"), log_format="text", slots="1", max_wait="300") as live:
        yield live


@dataclass
class Visit:
    """One page in one browser context, and what went wrong in it."""

    page: Page
    context: BrowserContext
    name: str
    url: str
    troubles: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def go(self, path: str) -> Page:
        """Open a page of the service."""
        self.page.goto(self.url + path)
        return self.page

    def picture(self, label: str, *, whole: bool = True) -> None:
        """Keep a screenshot."""
        OUTPUT.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=OUTPUT / f"{self.name}-{label}.png", full_page=whole)

    def watch(self, page: Page) -> None:
        """Note script errors, refused policies, dialogs and the hosts that are asked."""
        page.on("pageerror", lambda error: self.troubles.append(f"script: {error}"))
        page.on("console", lambda m: self.troubles.append(m.text) if _serious(m.type, m.text) else None)
        page.on(
            "dialog", lambda dialog: (self.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss())
        )
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or "data"))


def _serious(kind: str, text: str) -> bool:
    # A request that a test makes fail on purpose is no trouble of the page.
    return kind == "error" and not text.startswith("Failed to load resource")


@pytest.fixture
def visit(browser: Browser, service: Live, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A fresh visitor; afterwards no page may have had trouble or asked another machine."""
    wanted = getattr(request, "param", {})
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | wanted))
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")
    made = Visit(page, context, name, service.url)
    made.watch(page)
    context.on("page", made.watch)
    yield made
    try:
        if request.node.rep_call.failed:
            made.picture("failed")
    except (AttributeError, Error):
        pass
    context.close()
    assert made.troubles == []
    assert made.hosts <= {"127.0.0.1", "data"}, "a page asked another machine"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let fixtures know how the test went."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    setattr(item, f"rep_{report.when}", report)
