"""What a visitor does, in a few words."""

# ruff: noqa: E501

from __future__ import annotations

import base64
import contextlib
import hashlib
from pathlib import Path

import httpx
from playwright.sync_api import Page, TimeoutError

from tests.e2e.conftest import Visit

DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.getElementById("upload").dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}"""


def drop(visit: Visit, path: Path) -> Page:
    """Drag a file onto the start page; ends on the model's page, inspected."""
    page = visit.go("/")
    page.evaluate(DROP, [path.name, base64.b64encode(path.read_bytes()).decode()])
    return inspected(page)


def pick(visit: Visit, *paths: Path) -> Page:
    """The same with the file picker."""
    page = visit.go("/")
    page.set_input_files("#files", list(paths))
    return inspected(page)


def inspected(page: Page) -> Page:
    """Wait for the inspection."""
    page.wait_for_url("**/models/**")
    page.wait_for_selector("#options")
    return page


def send(page: Page) -> str:
    """Press the button; the job's id."""
    page.click("#options-form button[type=submit]")
    page.wait_for_url("**/jobs/**")
    return page.url.rsplit("/", 1)[1]


def verdict(page: Page) -> str:
    """Wait for the result page; the verdict."""
    page.wait_for_selector("section.verdict", timeout=240_000)
    ended = page.inner_text("section.verdict")
    assert page.locator("[data-verdict]").count(), f"the job has no verdict: {ended}"
    return str(page.get_attribute("[data-verdict]", "data-verdict"))


def submitted(url: str, model: Path) -> str:
    """Send a model by the interface and wait for its end; the job's id."""
    body = model.read_bytes()
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    with httpx.Client(base_url=url, trust_env=False, timeout=240) as client:
        client.put(f"/v1/blobs/{digest}", content=body).raise_for_status()
        job = client.post("/v1/jobs", json={"input": digest, "filename": model.name}).json()
        while job["state"] in ("queued", "running"):
            job = client.get(f"/v1/jobs/{job['id']}", params={"wait": 30}).json()
    assert job["state"] in ("succeeded", "rejected"), job
    return str(job["id"])


def option(page: Page, name: str, value: str) -> None:
    """Fill in one option, wherever its group is."""
    field = page.locator(f"[data-option={name}]")
    group = field.locator("xpath=ancestor::details")
    if group.get_attribute("open") is None:
        group.locator("summary").first.click()
    field.locator("input").first.fill(value)


def graph(page: Page) -> None:
    """Come to the graph, which is drawn once it is in sight; the page may still have replaced itself meanwhile."""
    for _ in range(12):
        page.locator("#graph-view").scroll_into_view_if_needed()
        with contextlib.suppress(TimeoutError):
            page.wait_for_selector(".graph-scroll", timeout=5_000)
            return
    page.wait_for_selector(".graph-scroll")
