"""For everybody: axe-core, keyboard, phone, dark, a signed-in browser, and graphs of ten thousand nodes."""

# ruff: noqa: E501

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.e2e import page_actions
from tests.e2e.conftest import Visit
from tests.support import networks
from tests.support.live import Live, live_service

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
DARK = {"color_scheme": "dark"}


@pytest.fixture(scope="module")
def finished(service: Live, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of pages with something on them: one job that passed, one that failed its proof."""
    folder = tmp_path_factory.mktemp("reach")
    paths = {"home": "/", "jobs": "/jobs", "releases": "/releases", "docs": "/docs", "session": "/session",
             "explain": "/problems/ambiguous_model", "missing": "/jobs/nope"}  # fmt: skip
    with httpx.Client(base_url=service.url, trust_env=False, timeout=300) as client:
        for name, options in (("passed", {"latency": True}), ("failed", {"rtol": 0.0, "atol": 0.0})):
            body = networks.residual(folder / f"{name}.onnx", 6).read_bytes()
            uploaded = client.post("/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": str(len(body)),
                                   "Content-Type": "application/offset+octet-stream"}, content=body)  # fmt: skip
            digest = uploaded.headers["bnfold-digest"]
            model = client.post("/v1/models", json={"digest": digest, "filename": f"{name}.onnx"}).json()
            job = client.post("/v1/jobs", json={"model": model["id"], "options": options}).json()
            done = client.get(f"/v1/jobs/{job['id']}", params={"wait": 240}).json()
            assert done["verdict"] == ("pass" if name == "passed" else "fail"), done
            client.get(f"/v1/jobs/{model['inspection_job']['id']}", params={"wait": 240})
            paths |= {name: f"/jobs/{job['id']}", "model": f"/models/{model['id']}"}
    jobs = [paths[name].rsplit("/", 1)[1] for name in ("passed", "failed")]
    paths |= {"account": "/account", "keys": "/keys", "webhooks": "/webhooks",
              "compare": f"/compare?job={jobs[0]}&job={jobs[1]}", "layer": f"{paths['passed']}/layer?name=block0/bn"}  # fmt: skip
    return paths


def serious(page: Page) -> list[str]:
    """What axe-core finds serious or critical, in words."""
    found = Axe().run(page).response["violations"]
    return [
        f"{item['id']}: {item['help']} ({', '.join(node['html'][:120] for node in item['nodes'][:3])})"
        for item in found
        if item["impact"] in ("serious", "critical")
    ]


def opened(visit: Visit, path: str) -> Page:
    """The page with everything on it shown, the graphs too."""
    page = visit.go(path)
    page.evaluate("for (const item of document.querySelectorAll('details')) item.open = true")
    if page.locator("#graph-view").count():
        page.locator("#graph-view").scroll_into_view_if_needed()
        page.click("#graph-next")
    page.evaluate("scrollTo(0, 0)")
    return page


PAGES = ["home", "jobs", "releases", "docs", "session", "explain", "missing", "model", "passed", "failed",
         "account", "keys", "webhooks", "compare", "layer"]  # fmt: skip


@pytest.mark.parametrize("visit", [{}, DARK], ids=["light", "dark"], indirect=True)
def test_axe_finds_nothing_serious(visit: Visit, finished: dict[str, str]) -> None:
    wrong = {}
    # The second theme changes colours only: the pages that have all of them are enough.
    for name in PAGES if visit.name.endswith("light") else ("home", "model", "passed", "failed", "compare"):
        page = opened(visit, finished[name])
        visit.picture(name)
        if found := serious(page):
            wrong[name] = found
    assert wrong == {}, json.dumps(wrong, indent=1)


@pytest.mark.parametrize("visit", [PHONE], ids=["phone"], indirect=True)
def test_pages_fit_a_phone(visit: Visit, finished: dict[str, str]) -> None:
    for name in PAGES:
        page = opened(visit, finished[name])
        visit.picture(name)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} pixels wider than the phone"
        small = page.evaluate(
            "[...document.querySelectorAll('main button, main a.button, main select')].filter((e) => e.offsetParent"
            " && e.getBoundingClientRect().height < 24).map((e) => e.outerHTML.slice(0, 80))"
        )
        assert small == [], f"{name} has things too small to touch"


def test_everything_works_by_keyboard(visit: Visit, finished: dict[str, str]) -> None:
    page = visit.go(finished["passed"])
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page_actions.graph(page)
    page.focus(".graph-scroll")
    page.keyboard.press("n")
    expect(page.locator(".graph-detail")).to_contain_text("Its affine")
    page.keyboard.press("ArrowUp")
    expect(page.locator("[aria-selected=true]")).to_have_attribute("aria-label", "before: Conv block0/conv; after: Conv block0/conv, absorbed a batch norm")  # fmt: skip
    chosen = page.get_attribute(".graph-scroll", "aria-activedescendant")
    expect(page.locator(f"#{chosen}")).to_be_visible()
    page.focus("details.menu summary")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("details.menu a").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("details.menu summary").first).to_be_focused()


BOXES = """() => [...document.querySelectorAll(".graph-space > svg > svg")].map((pane) => {
  const left = pane.getBoundingClientRect().left;
  return Object.fromEntries([...pane.querySelectorAll("g[data-row]")].map((box) => {
    const at = box.querySelector(".g-box").getBoundingClientRect();
    return [box.dataset.row, [Math.round(at.left - left), Math.round(at.top)]];
  }));
})"""


# 0 while the nodes are drawn anew
WIDTH = """() => document.querySelector(".g-box")?.getBoundingClientRect().width ?? 0"""


def test_the_graphs_are_drawn_with_branches_side_by_side_and_both_sides_aligned(
    visit: Visit, service: Live, tmp_path: Path
) -> None:
    job = page_actions.submitted(service.url, networks.branches(tmp_path / "branches.onnx"))
    page = visit.go(f"/jobs/{job}")
    page.locator("#graph-view").scroll_into_view_if_needed()
    page.click("#graph-next")
    before, after = page.evaluate(BOXES)
    assert set(after) < set(before), "nodes of the folded graph that the other has not"
    assert all(after[row] == before[row] for row in after), "the sides are not aligned"
    assert len({place[1] for place in before.values()}) < len(before), "no branches beside each other"
    assert page.locator(".graph-space > svg > svg >> nth=1 >> .g-ghost").count() == 1, "the gap is not shown"
    assert page.locator(".g-row.partner").count() == 1, "the node that took it is not marked"
    assert page.locator(".g-edge").count() >= len(before) + len(after) - 4
    assert page.locator(".g-edge.hot").count() == 2, "the lines of the chosen node are not marked"
    wide = page.wait_for_function(WIDTH).json_value()
    page.click("#graph-larger")
    page.wait_for_function(f"wide => ({WIDTH})() > 1.2 * wide", arg=wide)
    page.click("#graph-fit")
    page.focus(".graph-scroll")
    places = {}
    for key in ("Home", "ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
        places[key] = page.get_attribute(".graph-scroll", "aria-activedescendant")
    assert len(set(places.values())) == 3
    visit.picture("graph", whole=False)
    page.select_option("#graph-shown", "after")
    assert len(page.evaluate(BOXES)) == 1
    page.select_option("#graph-shown", "list")
    expect(page.locator(".g-lane").first).to_be_attached()


def test_a_graph_that_did_not_come_is_asked_for_again(visit: Visit, finished: dict[str, str]) -> None:
    visit.page.route("**/graph.json", lambda route: route.abort())
    page = visit.go(finished["passed"])
    page.locator("#graph-view").scroll_into_view_if_needed()
    expect(page.locator("#graph-view .notice")).to_contain_text("does not answer")
    page.unroute_all()
    page.click("#graph-again")
    expect(page.locator("#graph-next")).to_be_visible()


def test_the_theme_is_remembered(visit: Visit) -> None:
    page = visit.go("/")
    page.click("#theme")
    assert page.get_attribute("html", "data-theme") == "dark"
    page.goto(visit.url + "/jobs")
    assert page.get_attribute("html", "data-theme") == "dark"


def test_copying_a_snippet(visit: Visit, finished: dict[str, str]) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.go(finished["passed"])
    page.locator("[data-copy]").first.click()
    expect(page.locator("[data-copy]").first).to_have_text("Copied")
    assert "sha256sum --check" in page.evaluate("navigator.clipboard.readText()")


def test_charts_are_downloaded_as_svg_and_png(visit: Visit, finished: dict[str, str]) -> None:
    page = visit.go(finished["passed"])
    page.locator("#chart-error-of-each-layer").scroll_into_view_if_needed()
    page.locator("#chart-error-of-each-layer .mark title").first.wait_for(state="attached")
    for link, begins in (("a[download]", b"<svg"), ("[data-png]", b"\x89PNG\r\n")):
        with page.expect_download() as wanted:
            page.click(f"#chart-error-of-each-layer {link}")
        body = Path(wanted.value.path()).read_bytes()
        assert body.startswith(begins)
        assert len(body) > 2000, "an empty picture"
    visit.picture("charts")


def test_two_jobs_are_ticked_and_compared(visit: Visit, finished: dict[str, str]) -> None:
    page = visit.go("/jobs")
    for name in ("passed", "failed"):
        page.check(f"input[name=job][value='{finished[name].rsplit('/', 1)[1]}']")
    page.click("text=Compare two jobs")
    expect(page.locator("h1")).to_have_text("Two jobs side by side")
    page.check("#norm-flagged")
    page_actions.graph(page)
    expect(page.locator(".graph-heads")).to_have_text("FirstSecond")
    visit.picture("compare")


def test_statistics_are_compared_with_data_from_the_page_of_a_job(
    visit: Visit, finished: dict[str, str], tmp_path: Path
) -> None:
    data = np.random.default_rng(1).normal(0.5, 2.0, (16, 4, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=data)
    page = visit.go(finished["passed"])
    page.set_input_files("#calibrate-file", tmp_path / "data.npz")
    page.click("#calibrate-form button")
    page.wait_for_url(lambda address: "/jobs/" in address and not address.endswith(finished["passed"]))
    page_actions.verdict(page)
    expect(page.locator("#chart-calibration-mean .stored").first).to_be_attached()
    expect(page.locator("#chart-calibration-mean .measured").first).to_be_attached()
    visit.picture("calibration")


@pytest.mark.parametrize("visit", [PHONE], ids=["phone"], indirect=True)
def test_pages_of_resnet50_size_stay_short_on_a_phone(visit: Visit, service: Live, tmp_path: Path) -> None:
    job = page_actions.submitted(service.url, networks.residual(tmp_path / "resnet50.onnx", 53))
    page = visit.go(f"/jobs/{job}")
    page_actions.graph(page)
    assert page.evaluate("document.documentElement.scrollHeight") < 6000
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.picture("resnet50")


def test_a_layer_is_found_in_the_health_table(visit: Visit, finished: dict[str, str]) -> None:
    page = visit.go(finished["passed"])
    page.fill("#norm-filter", "BLOCK4")
    expect(page.locator("#health-rows tbody tr:visible")).to_have_count(1)
    page.check("#norm-flagged")
    expect(page.locator("#health-rows tbody tr:visible")).to_have_count(0)


SCROLL = """async (steps) => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const place = document.querySelector(".graph-scroll");
  const times = [];
  for (let step = 0; step < steps; step += 1) {
    const began = performance.now();
    place.scrollTop = (place.scrollHeight * step) / steps;
    await frame(); await frame();
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  return times[Math.floor(times.length * 0.9)];
}"""


def test_a_graph_of_ten_thousand_nodes_stays_usable(visit: Visit, tmp_path: Path) -> None:
    model = networks.residual(tmp_path / "ten-thousand.onnx", 2500).read_bytes()
    digest = "sha256:" + hashlib.sha256(model).hexdigest()
    with httpx.Client(base_url=visit.url, trust_env=False, timeout=300) as client:
        client.put(f"/v1/blobs/{digest}", content=model).raise_for_status()
        # Without the proof: what is tried here is the page.
        job = client.post("/v1/jobs", json={"input": digest, "options": {"verify": False}}).json()
    page = visit.go(f"/jobs/{job['id']}")
    assert page_actions.verdict(page) == "inconclusive"
    page.locator("#graph-view").scroll_into_view_if_needed()
    began = time.perf_counter()
    page.wait_for_selector(".graph-scroll [data-row]")
    assert time.perf_counter() - began < 20
    expect(page.locator("#graph-count")).to_have_text("10,002 rows")
    assert page.evaluate(SCROLL, 120) < 250, "a frame of scrolling takes too long"
    assert page.locator("#graph-view *").count() < 2500, "rows out of sight are in the document"
    page.fill("#graph-search", "block2499/relu")
    expect(page.locator(".graph-detail")).to_contain_text("block2499/relu")
    visit.picture("end", whole=False)
    page.focus(".graph-scroll")
    page.keyboard.press("Home")
    page.keyboard.press("n")
    expect(page.locator(".graph-detail")).to_contain_text("block0/bn")
    page.check("#graph-only")
    expect(page.locator("#graph-count")).to_have_text("5,000 rows")
    visit.picture("changes", whole=False)


def test_a_signed_in_browser(browser: Browser, tmp_path: Path) -> None:
    with live_service(tmp_path, runner="memory", allow_unsandboxed="true", require_keys="true") as live:
        made = subprocess.run(
            [sys.executable, "-c", "from service.cli import main; main()", "keys", "create", "e2e", "--json"],
            env=os.environ | {"BNFOLD_DATA_DIR": str(live.folder / "data")}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        key = next(
            value
            for value in json.loads(made.stdout).values()
            if str(value).startswith("bnf_") and "." in value
        )
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{live.url}/jobs")
        expect(page.locator("h1")).to_have_text("Sign in first")
        page.click("text=Sign in >> nth=-1")
        page.fill("#key", "bnf_wrong.key")
        page.click("main button")
        expect(page.locator(".notice.fail")).to_be_visible()
        page.fill("#key", key)
        page.click("main button")
        expect(page.locator(".top-tools")).to_contain_text("Account")
        page.click("[data-account] summary")
        expect(page.locator("#account-facts")).to_contain_text("Tenant default")
        expect(page.locator("#account-facts")).to_contain_text("Key e2e")
        assert page.evaluate("document.cookie") == "", "scripts can read the key"
        order = tmp_path / "order.json"
        order.write_text('{"seconds": 0.5}')
        page.set_input_files("#files", order)
        page_actions.inspected(page)
        page_actions.send(page)
        assert page_actions.verdict(page) == "pass"
        with page.expect_download():
            page.click("#download")
        context.close()
