"""Every page: what it says, the headers it has, and that names stay text whatever they are."""

# ruff: noqa: E501  rows of data

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from folding.report import Verdict
from service.web import views
from service.web.headers import CSP, NETRON_CSP
from tests.unit.service.web import fake, sample
from tests.unit.service.web.conftest import Client, Tags

PAGES = (
    "/",
    "/verify",
    "/jobs",
    "/jobs/job_1",
    "/models/model_1",
    "/releases",
    "/docs",
    "/session",
    "/problems/usage",
)
Open = Callable[..., Client]


@pytest.mark.parametrize("path", PAGES)
def test_pages_carry_the_policy_and_nothing_inline(open_client: Open, path: str) -> None:
    answer = open_client().get(path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == CSP
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    page = Tags(answer.text)
    for tag, attributes in page.tags:
        assert tag != "style", "a style sheet inside the page"
        assert tag != "script" or attributes.get("src", "").startswith("/static/"), "a script inside the page"
        inline = [name for name in attributes if name == "style" or name.startswith("on")]
        assert not inline, f"<{tag}> has {inline}"
        for name in ("src", "href", "action"):
            value = attributes.get(name) or ""
            assert not value.startswith(("http:", "https:", "//", "javascript:")), f"<{tag}> leads to {value}"


@pytest.mark.parametrize(
    "path", ["/static/nope.js", "/static/..%2fpages.py", "/netron/..%2fserver.py", "/netron/server.py"]
)
def test_only_the_listed_files_are_served(open_client: Open, path: str) -> None:
    answer = open_client().get(path)
    assert answer.status_code == 404
    assert answer.headers["content-security-policy"]


def test_assets_are_named_by_their_bytes_and_kept(open_client: Open) -> None:
    client = open_client()
    sheets = [
        a["href"] for tag, a in Tags(client.get("/").text).tags if tag == "link" and a["rel"] == "stylesheet"
    ]
    assert sheets
    for address in sheets:
        answer = client.get(str(address))
        assert answer.headers["content-type"].startswith("text/css")
        assert "immutable" in answer.headers["cache-control"]


def test_a_hostile_name_is_text_on_every_page(open_client: Open) -> None:
    job = fake.JOB | {"filename": sample.HOSTILE}
    client = open_client(jobs=[job], report=sample.report(hostile=True))
    for path in ("/", "/jobs", "/jobs/job_1"):
        page = Tags(client.get(path).text)
        assert sample.HOSTILE in page.text, f"{path} does not show the name"
        assert not [a for tag, a in page.tags if tag == "img"], f"{path} made an element of it"
        assert all(
            "alert" not in (value or "") for tag, a in page.tags if tag == "script" for value in a.values()
        )


def test_a_hostile_inspection_is_text(open_client: Open) -> None:
    client = open_client()
    app_models = client.app.state.models
    inspection = sample.inspection(hostile=True).model_dump(mode="json", by_alias=True)
    app_models["model_1"] = app_models["model_1"] | {"filename": sample.HOSTILE, "inspection": inspection}
    page = Tags(client.get("/models/model_1").text)
    assert page.text.count(sample.HOSTILE) >= 4
    assert not [a for tag, a in page.tags if tag == "img"]


@pytest.mark.parametrize(
    ("verdict", "state", "words"),
    [(Verdict.PASS, "succeeded", "Equivalent, but"), (Verdict.FAIL, "rejected", "Not equivalent"),
     (Verdict.INCONCLUSIVE, "rejected", "Equivalence was not shown")],
)  # fmt: skip
def test_the_verdict_comes_first(open_client: Open, verdict: Verdict, state: str, words: str) -> None:
    job = fake.JOB | {"state": state, "verdict": verdict.value}
    page = Tags(open_client(jobs=[job], report=sample.report(verdict)).get("/jobs/job_1").text)
    assert (
        page.text.index(words)
        < page.text.index("Health of the statistics")
        < page.text.index("What was folded")
    )
    downloads = [a for tag, a in page.tags if tag == "a" and a.get("id") == "download"]
    assert bool(downloads) is (verdict is Verdict.PASS), "only a pass is handed out"


def test_a_result_shows_everything_that_the_report_has(open_client: Open) -> None:
    text = Tags(
        open_client(report=sample.report(Verdict.FAIL), jobs=[fake.JOB | {"state": "rejected"}])
        .get("/jobs/job_1")
        .text
    ).text
    for words in ("pad fusion", "PadFusion", "First divergence: block3/relu", "7 of 8", "32 → 24", "never updated",
                  "Run the UPDATE_OPS", "The node before it is a Sigmoid.", "No CUDA device is here.", "1.27× faster",
                  "8 times the float noise", "structure-first", "is_training", "cuda", "rounding 5.6e−08"):  # fmt: skip
        assert words in text, f"{words!r} is missing"


def test_histograms_speak_to_screen_readers(open_client: Open) -> None:
    page = Tags(open_client().get("/jobs/job_1").text)
    pictures = [a for tag, a in page.tags if tag == "svg" and a.get("role") == "img"]
    assert len(pictures) >= 40
    assert all(a.get("aria-label") for a in pictures)


def test_many_batch_norms_are_shown_on_demand(open_client: Open) -> None:
    client = open_client(report=sample.report(names=700, layers=2))
    short = client.get("/jobs/job_1").text
    assert "Show 400 more" in short
    assert len(client.get("/jobs/job_1?norms=all").text) > 2 * len(short)


def test_a_failed_job_says_what_to_do(open_client: Open) -> None:
    error = {"code": "ambiguous_model", "message": "Two outputs fit.", "hint": "Name one.", "stage": "read",
             "layer": sample.HOSTILE, "details": {"candidates": ["a:0", sample.HOSTILE]}}  # fmt: skip
    job = fake.JOB | {"state": "failed", "verdict": None, "artifact": None, "error": error}
    page = Tags(open_client(jobs=[job]).get("/jobs/job_1").text)
    for words in ("Two outputs fit.", "Name one.", "a:0", sample.HOSTILE, "ambiguous_model", "--output NAME"):
        assert words in page.text


@pytest.mark.parametrize("state", ["queued", "running", "stopping"])
def test_a_job_that_runs_is_followed(open_client: Open, state: str) -> None:
    answer = open_client(jobs=[fake.JOB | {"state": state, "verdict": None, "artifact": None}]).get(
        "/jobs/job_1"
    )
    assert "live.js" in answer.text
    assert "Cancel the job" in answer.text


def test_a_report_of_another_version_still_has_a_page(open_client: Open) -> None:
    odd = SimpleNamespace(
        to_json=lambda: sample.report().to_json().replace('"verdict": "pass"', '"verdict": "splendid"')
    )
    page = open_client(report=odd).get("/jobs/job_1")
    assert page.status_code == 200
    assert "another version" in page.text


def test_unknown_things_get_a_page_and_their_status(open_client: Open) -> None:
    client = open_client()
    for path in ("/jobs/nope", "/models/nope", "/problems/nope", "/jobs/job_1/report.exe"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"].startswith("text/html")


def test_the_list_pages_on(open_client: Open) -> None:
    client = open_client(jobs=[fake.JOB, fake.JOB | {"id": "job_2", "state": "failed"}])
    assert "job_2" not in client.get("/jobs?state=succeeded").text
    links = [
        a["href"]
        for tag, a in Tags(client.get("/jobs").text).tags
        if tag == "a" and "page_token" in (a.get("href") or "")
    ]
    assert links == ["/jobs?page_token=a+token%26more"] or links == ["/jobs?page_token=a%20token%26more"]


def test_the_report_as_a_page_has_no_script(open_client: Open) -> None:
    answer = open_client().get("/jobs/job_1/report.html")
    policy = answer.headers["content-security-policy"]
    assert "script-src" not in policy
    assert "default-src 'none'" in policy
    assert "sandbox" in policy


def test_netron_has_its_own_policy_and_asks_nobody(open_client: Open) -> None:
    answer = open_client().get("/netron/?url=/v1/artifacts/x&identifier=model.onnx")
    assert answer.headers["content-security-policy"] == NETRON_CSP
    for source in ("script-src 'self';", "connect-src 'self';", "default-src 'none'"):
        assert source in NETRON_CSP
    assert '<meta name="version" content="0.0.0"' in answer.text  # no analytics, no demand for an update
    assert "consent=" in answer.headers["set-cookie"]


def test_the_api_reference_lists_every_operation(open_client: Open) -> None:
    client = open_client()
    text = Tags(client.get("/docs").text).text
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in text


def test_a_page_that_is_not_there_is_a_page_for_browsers_only(open_client: Open) -> None:
    client = open_client()
    page = client.get("/nowhere", headers={"accept": "text/html,*/*"})
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (404, "text/html")
    for path, accept in (("/nowhere", "*/*"), ("/v1/nowhere", "text/html")):
        answer = client.get(path, headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (404, "application/json")


def test_a_layer_that_needs_a_look_is_never_among_the_hidden_ones(open_client: Open) -> None:
    report = sample.report(layers=2, names=1000)
    sick = sample.norm("late/bn", 1, sick=True)
    kept = sample.norm("kept/bn", 2, kept=True)
    report = report.model_copy(update={"batch_norms": [*report.batch_norms[:990], sick, kept]})
    page = open_client(report=report).get("/jobs/job_1").text
    assert "late/bn" in page
    assert "kept/bn" in page
    assert "Show 690 more" in page


def test_the_page_says_which_provider_is_missing_and_why(open_client: Open) -> None:
    page = Tags(open_client().get("/jobs/job_1").text).text
    assert page.count("No CUDA device is here.") == 1, "one row for a provider that is not there"
    report = sample.report()
    rows = [row for row in report.verification if row.provider == "cpu"]
    drift = [row for row in report.drift if row.provider == "cpu"]
    alone = report.model_copy(update={"verification": rows, "drift": drift})
    assert "CUDA was not asked for" in Tags(open_client(report=alone).get("/jobs/job_1").text).text


def test_the_largest_difference_is_that_of_the_answer() -> None:
    report = sample.report()
    layers = report.verification[0].model_copy(deep=True)
    layers.reference = "onnx-unfolded, layer by layer"
    layers.outputs[0].max_rel = 1.0
    report.verification.append(layers)
    worst = views.worst_output(report)
    assert worst is not None
    assert worst.max_rel < 1.0
    layers.outputs[0].passed = False
    assert views.worst_output(report) == layers.outputs[0]


def test_the_list_never_shows_green_over_unhealthy_statistics(open_client: Open) -> None:
    title = "Equivalent, but the model looks untrained: 53 of 53 batch norms were never updated"
    sick = {"state": "unhealthy", "title": title, "code": "never_updated", "detail": "", "remedy": "Train."}
    jobs = [
        fake.JOB | {"id": "job_sick", "headline": sick, "name": "my resnet"},
        fake.JOB | {"id": "job_well", "headline": {"state": "healthy", "title": "Equivalent", "code": None}},
    ]
    client = open_client(jobs=jobs)
    page = Tags(client.get("/jobs").text)
    assert "equivalent, unhealthy" in page.text
    assert "never updated" in page.text
    assert "my resnet" in page.text
    amber = [a for tag, a in page.tags if "badge" in (a.get("class") or "") and "unsure" in a["class"]]
    assert len(amber) == 1
    found = client.get("/jobs", params={"health": "unhealthy", "search": "RESNET"}).text
    assert "job_sick" in found
    assert "job_well" not in found
    assert "No job matches" in client.get("/jobs", params={"search": "nothing like it"}).text


def test_a_comparison_offers_nothing_to_publish(open_client: Open) -> None:
    """Both files were given: no download, no release; the first value that differs stands above all."""
    job = fake.JOB | {
        "kind": "verify",
        "state": "rejected",
        "verdict": "fail",
        "artifact": None,
        "candidate": sample.DIGEST,
    }
    report = sample.report().model_copy(update={"verdict": Verdict.FAIL, "first_divergence": "layer3/Relu:0"})
    page = Tags(open_client(jobs=[job], report=report).get("/jobs/job_1").text)
    assert "First value that differs: layer3/Relu:0" in page.text
    assert "What became of each batch norm" in page.text
    assert "/v1/verify" in page.text
    for absent in ("Download the artifact", "Artifact quarantined", "Release this artifact"):
        assert absent not in page.text
