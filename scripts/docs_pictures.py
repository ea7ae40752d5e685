"""Screenshots of the pages for the documentation: `make docs-pictures`.

Starts a service, sends the Keras example through the page as a visitor would, and writes docs/pictures/*.png.
Needs Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

from tests.support.live import live_service  # noqa: E402

OUT = ROOT / "docs" / "pictures"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
WAIT = 120_000  # milliseconds; a busy machine is slow, not broken


def main() -> int:
    """Take all pictures."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        print("no Chromium on PATH: no pictures", file=sys.stderr)
        return 1
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, live_service(Path(folder), log_format="text") as live:
        model = build(Path(folder))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            result = tour(visitor(browser), live.url, model)
            again(visitor(browser, color_scheme="dark"), result, "result-dark")
            phone = {"viewport": {"width": 390, "height": 760}}
            again(visitor(browser, **phone), result, "result-phone")
            browser.close()
    return 0


def visitor(browser: Browser, **how: Any) -> Page:
    """A fresh browser window."""
    context = browser.new_context(**({"viewport": {"width": 1120, "height": 760}} | how))
    context.set_default_timeout(WAIT)
    return context.new_page()


def build(folder: Path) -> Path:
    """The Keras example."""
    script = ROOT / "examples" / "keras_network.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, stderr=subprocess.DEVNULL)
    return folder / "network.keras"


def tour(page: Page, url: str, model: Path) -> str:
    """From the start page to the result and the API reference; the address of the result."""
    page.goto(url)
    take(page, "start")
    # What the inspection is for: statistics that are wrong, seen before any job is sent.
    upload(page, *sorted((ROOT / "examples" / "never_updated").glob("model.ckpt.*")))
    take(page, "inspection")
    page.goto(url)
    upload(page, model)
    page.click("#options-form button[type=submit]")
    page.wait_for_url("**/jobs/**")
    page.wait_for_selector("#stages .now")
    take(page, "live")
    page.wait_for_selector("section.verdict")
    result = page.url
    take(page, "result")
    for section in ("folds", "layers", "graph"):
        if page.locator(f"#{section}").count():
            page.goto(f"{result}#{section}")
            page.wait_for_timeout(1000)  # the graph is drawn when it comes into view
            if section == "graph":
                for _ in range(3):  # a batch norm with its affine
                    page.click("#graph-next")
            take(page, section)
    page.goto(f"{url}/docs")
    take(page, "api")
    return result


def upload(page: Page, *files: Path) -> None:
    """Choose files on the start page and wait for their inspection."""
    page.set_input_files("#files", list(files))
    page.wait_for_url("**/models/**")
    page.wait_for_selector("#options")


def again(page: Page, address: str, name: str) -> None:
    """The same page, seen otherwise."""
    page.goto(address)
    page.wait_for_selector("section.verdict")
    take(page, name)


def take(page: Page, name: str) -> None:
    """One picture, as large as the window."""
    page.screenshot(path=OUT / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
