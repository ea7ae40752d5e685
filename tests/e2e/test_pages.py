"""Drop a model, look into it, watch the job, see the verdict, take the artifact: in a real browser."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import httpx
import onnx
import pytest
from playwright.sync_api import expect

from tests.e2e import page_actions
from tests.e2e.conftest import Visit
from tests.support import networks
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"


def test_drop_watch_verdict_download(visit: Visit, tmp_path: Path) -> None:
    model = networks.residual(tmp_path / "network.onnx", 30)
    page = page_actions.drop(visit, model)
    expect(page.locator("h1")).to_have_text("network.onnx")
    expect(page.locator("table.health tbody tr")).to_have_count(30)
    expect(page.locator("main")).to_contain_text("image")
    visit.picture("model")
    page_actions.send(page)
    expect(page.locator("#stages li.done").first).to_be_visible()
    visit.picture("live")
    assert page_actions.verdict(page) == "pass"
    expect(page.locator("#verdict")).to_contain_text("Equivalent; all 30 batch norms look healthy")
    page_actions.graph(page)
    visit.picture("result")
    with page.expect_download() as waiting:
        page.click("#download")
    data = Path(waiting.value.path()).read_bytes()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    assert page.inner_text("#artifact-digest") == digest
    served = httpx.get(f"{visit.url}/v1/artifacts/{digest}", trust_env=False)
    assert hashlib.sha256(served.content).hexdigest() == digest.removeprefix("sha256:")
    kinds = [node.op_type for node in onnx.load_from_string(data).graph.node]
    assert "BatchNormalization" not in kinds


def test_what_another_tool_made_is_compared(visit: Visit, tmp_path: Path) -> None:
    """By the page, then by one request with the same two files, which is answered from the cache."""
    source = networks.residual(tmp_path / "network.onnx", 4)
    wrong = onnx.load(source)
    norm = [node for node in wrong.graph.node if node.op_type == "BatchNormalization"][1]
    beta = next(item for item in wrong.graph.initializer if item.name == norm.input[2])
    beta.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(beta) + 0.25, beta.name))
    artifact = tmp_path / "optimized.onnx"
    onnx.save(wrong, artifact)
    page = visit.go("/")
    page.click("nav a[href='/verify']")
    page.set_input_files("#source", source)
    page.set_input_files("#artifact", artifact)
    page.click("#compare-send")
    page.wait_for_url("**/jobs/**")
    assert page_actions.verdict(page) == "fail"
    expect(page.locator("#first-divergence")).to_contain_text(norm.output[0])
    expect(page.locator("table.folds tbody tr")).to_have_count(4)
    page_actions.graph(page)
    visit.picture("comparison")
    with httpx.Client(base_url=visit.url, trust_env=False, timeout=240) as client:
        files = {
            "model": ("network.onnx", source.read_bytes()),
            "artifact": ("a.onnx", artifact.read_bytes()),
        }
        answer = client.post("/v1/verify", files=files, headers={"prefer": "wait=200"})
        assert (answer.status_code, answer.headers["bnfold-verdict"]) == (200, "fail")
        assert answer.headers["bnfold-cache"] == "hit"
        assert answer.json()["first_divergence"] == norm.output[0]
        lone = client.post("/v1/verify", files={"model": files["model"]})
        assert (lone.status_code, lone.json()["detail"]) == (400, "The form has no `artifact` file.")


def test_several_files_travel_as_one_archive(visit: Visit) -> None:
    folder = EXAMPLES / "tf1_checkpoint"
    page = page_actions.pick(
        visit, *(path for path in folder.iterdir() if path.name.startswith("model.ckpt"))
    )
    expect(page.locator("dl.figures")).to_contain_text("checkpoint")
    page_actions.send(page)
    assert page_actions.verdict(page) == "pass"
    visit.picture("result")


def test_unhealthy_statistics_are_told_before_and_after(visit: Visit) -> None:
    folder = EXAMPLES / "never_updated"
    page = page_actions.pick(
        visit, *(path for path in folder.iterdir() if path.name.startswith("model.ckpt"))
    )
    expect(page.locator(".notice.unsure")).to_contain_text("never updated")
    page.locator(".finding summary").first.click()
    expect(page.locator(".finding p").first).to_be_visible()
    visit.picture("model")
    page_actions.send(page)
    page_actions.verdict(page)
    expect(page.locator("#health-rows")).to_contain_text("never updated")


def test_statistics_are_measured_again_from_data(visit: Visit) -> None:
    folder = EXAMPLES / "never_updated"
    page = page_actions.pick(
        visit, *(path for path in folder.iterdir() if path.name.startswith("model.ckpt"))
    )
    page.click("summary:has-text('Statistics')")
    page.check("[data-option=recalibrate] input")
    page.set_input_files("#calibration", folder / "calibration.npz")
    page_actions.send(page)
    assert page_actions.verdict(page) == "pass"
    expect(page.locator("section[aria-labelledby=calibration]")).to_contain_text(
        "The measured statistics were folded."
    )
    visit.picture("result")


def test_cancel_stops_a_running_job(visit: Visit, tmp_path: Path) -> None:
    page = page_actions.pick(visit, networks.residual(tmp_path / "deep.onnx", 900))
    job = page_actions.send(page)
    page.wait_for_selector("#stages li.now")
    page.click("#cancel")
    expect(page.locator(".verdict h2")).to_have_text("Cancelled")
    visit.picture("cancelled")
    assert httpx.get(f"{visit.url}/v1/jobs/{job}", trust_env=False).json()["state"] == "cancelled"
    expect(page.locator("text=Run again")).to_be_visible()


def test_a_failing_verdict_keeps_the_artifact_back(visit: Visit, tmp_path: Path) -> None:
    page = page_actions.pick(visit, networks.residual(tmp_path / "strict.onnx", 4))
    page_actions.option(page, "rtol", "0")
    page_actions.option(page, "atol", "0")
    job = page_actions.send(page)
    assert page_actions.verdict(page) == "fail"
    expect(page.locator("#verdict")).to_contain_text("Not equivalent: the artifact differs")
    expect(page.locator("#download")).to_have_count(0)
    expect(page.locator("main")).to_contain_text("quarantined")
    visit.picture("result")
    found = httpx.get(f"{visit.url}/v1/jobs/{job}", trust_env=False).json()
    assert found["state"] == "rejected"
    assert httpx.get(f"{visit.url}{found['links']['artifact']}", trust_env=False).status_code == 403


def test_a_file_that_is_no_model_says_what_to_do(visit: Visit, tmp_path: Path) -> None:
    junk = tmp_path / "notes.onnx"
    junk.write_text("These are my notes.")
    page = visit.go("/")
    page.set_input_files("#files", junk)
    page.wait_for_url("**/models/**")
    expect(page.locator("section.verdict.fail")).to_contain_text("What to do:")
    expect(page.locator("#options-form")).to_have_count(0)
    visit.picture("problem")


def test_hostile_names_are_text(visit: Visit, tmp_path: Path) -> None:
    model = networks.residual(tmp_path / "hostile.onnx", 2, prefix=networks.HOSTILE)
    page = page_actions.pick(visit, model)
    expect(page.locator("table.health")).to_contain_text(networks.HOSTILE)
    page_actions.send(page)
    page_actions.verdict(page)
    expect(page.locator("#health-rows")).to_contain_text(networks.HOSTILE)
    page.locator("#graph-view").scroll_into_view_if_needed()
    page.click("#graph-next")
    expect(page.locator(".graph-detail")).to_contain_text(networks.HOSTILE)
    assert page.locator("main img").count() == 0
    assert page.evaluate("[...document.scripts].every((s) => s.src.startsWith(location.origin + '/static/'))")
    visit.picture("result")
    page.goto(page.url + "/report.html")
    assert networks.HOSTILE in page.inner_text("body")
    visit.picture("report")


def test_uploads_go_on_after_a_lost_connection_and_after_a_reload(visit: Visit, tmp_path: Path) -> None:
    model = networks.residual(tmp_path / "large.onnx", 1, bytes_more=40 << 20)
    page = visit.go("/")
    began: list[str] = []
    page.on("request", lambda r: began.append(r.method) if r.url.endswith("/v1/uploads") else None)
    patches: list[str] = []

    def break_the_second(route: object) -> None:
        patches.append(route.request.headers["upload-offset"])  # type: ignore[attr-defined]
        route.continue_() if len(patches) == 1 else route.abort()  # type: ignore[attr-defined]

    page.route(
        "**/v1/uploads/*",
        lambda route: break_the_second(route) if route.request.method == "PATCH" else route.continue_(),
    )
    page.set_input_files("#files", model)
    expect(page.locator("#upload-state")).to_contain_text("Interrupted")
    visit.picture("interrupted")
    page.unroute_all()
    page.reload()
    page.set_input_files("#files", model)
    page_actions.inspected(page)
    assert began == ["POST"], "the second try began anew"
    assert patches[:2] == ["0", str(32 << 20)]
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert httpx.head(f"{visit.url}/v1/blobs/sha256:{digest}", trust_env=False).status_code == 200


def test_an_upload_can_be_paused_and_given_up(visit: Visit, tmp_path: Path) -> None:
    model = networks.residual(tmp_path / "slow.onnx", 1, bytes_more=33 << 20)
    page = visit.go("/")
    page.route(
        "**/v1/uploads/*", lambda route: None if route.request.method == "PATCH" else route.continue_()
    )
    page.set_input_files("#files", model)
    expect(page.locator("#upload-name")).to_have_text("slow.onnx")
    page.click("#upload-pause")
    expect(page.locator("#upload-state")).to_have_text("Paused.")
    page.click("#upload-stop")
    expect(page.locator(".drop-idle")).to_be_visible()
    page.unroute_all()


@pytest.mark.parametrize("link", ["Artifact in Netron", "Source in Netron"])
def test_netron_opens_both_sides(visit: Visit, tmp_path: Path, link: str) -> None:
    page = page_actions.pick(visit, networks.residual(tmp_path / "look.onnx", 2))
    page_actions.send(page)
    page_actions.verdict(page)
    with visit.context.expect_page() as opening:
        page.click(f"text={link}")
    netron = opening.value
    expect(netron).to_have_title(re.compile("onnx"))
    netron.wait_for_selector("#canvas .node-item", state="attached")
    words = netron.locator("#canvas").text_content() or ""
    assert "Conv" in words
    assert ("BatchNormalization" in words) is (link == "Source in Netron")
    visit.troubles[:] = [text for text in visit.troubles if "javascript:" not in text]


def test_a_release_is_made_and_listed(visit: Visit, tmp_path: Path) -> None:
    page = page_actions.pick(visit, networks.residual(tmp_path / "released.onnx", 2))
    page_actions.send(page)
    assert page_actions.verdict(page) == "pass"
    for version in (1, 2):
        page.fill("#release-name", "resnet")
        page.click("#release-form button")
        expect(page.locator("#release-state")).to_have_text(f"resnet / stable is now version {version}.")
    page.goto(f"{visit.url}/releases")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("details summary", has_text="versions").click()
    expect(page.locator(".history li")).to_have_count(2)
    visit.picture("releases")
