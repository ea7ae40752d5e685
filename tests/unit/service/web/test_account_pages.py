"""Pages of the account, of two jobs side by side and of one layer; errors that pass."""

# ruff: noqa: E501  rows of data

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from folding.report import GraphMap
from service.web import compare
from service.web.headers import CSP
from tests.unit.service.web import fake, sample
from tests.unit.service.web.conftest import Client, Tags

Open = Callable[..., Client]
SIGNED_IN = {"cookie": "bnfold_key=bnf_x.y", "sec-fetch-site": "same-origin"}
TWO = [fake.JOB, fake.JOB | {"id": "job_2", "name": "second", "options": {"opset": 17, "strict": True}}]


@pytest.mark.parametrize(
    "path",
    ["/account", "/keys", "/webhooks", "/compare?job=job_1&job=job_2", "/jobs/job_1/layer?name=block3/bn"],
)
def test_the_new_pages_carry_the_policy_and_nothing_inline(open_client: Open, path: str) -> None:
    answer = open_client(jobs=TWO).get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-security-policy"] == CSP
    for tag, attributes in Tags(answer.text).tags:
        assert tag not in ("style", "img")
        assert tag != "script" or str(attributes.get("src")).startswith("/static/")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_the_account_says_tenant_key_scopes_expiry_and_usage(open_client: Open) -> None:
    page = Tags(open_client().get("/account").text)
    for words in (
        "acme",
        "laptop",
        "bnf_mine",
        "read, submit",
        "2027-01-31",
        "5.0 MB",
        "10.0 MB",
        "no limit",
    ):
        assert words in page.text
    shares = [a["value"] for tag, a in page.tags if tag == "progress"]
    assert shares == ["0.25", "0.5"]


def test_the_menu_is_there_only_for_those_who_signed_in(open_client: Open) -> None:
    client = open_client()
    assert "data-account" not in client.get("/").text
    page = client.get("/", headers=SIGNED_IN).text
    assert "data-account" in page
    assert ">Sign in<" not in page
    assert "Sign out" in page


def test_a_visitor_without_a_key_is_asked_to_sign_in_before_uploading(open_client: Open) -> None:
    client = open_client(key="bnf_x.y")
    page = client.get("/").text
    assert "Sign in to upload" in page
    assert 'type="file"' not in page
    assert 'type="file"' in client.get("/", headers=SIGNED_IN).text


def test_keys_show_their_state_and_the_own_one_is_named_before_it_goes(open_client: Open) -> None:
    page = Tags(open_client().get("/keys").text)
    assert sample.HOSTILE in page.text
    assert "revoked" in page.text
    buttons = [a for tag, a in page.tags if tag == "button" and "data-remove" in a]
    assert [a["data-remove"] for a in buttons] == ["/v1/keys/bnf_mine"], (
        "a revoked key cannot be revoked again"
    )
    assert "sign out" in str(buttons[0]["data-question"])


def test_webhooks_show_their_deliveries(open_client: Open) -> None:
    page = Tags(open_client().get("/webhooks").text)
    for words in (sample.HOSTILE, "job.failed", "failed", "503", "1 try"):
        assert words in page.text


def test_two_jobs_are_compared_fact_by_fact_and_norm_by_norm(open_client: Open) -> None:
    page = Tags(open_client(jobs=TWO).get("/compare?job=job_1&job=job_2").text)
    for words in (
        "Option opset",
        "17",
        "Option strict",
        "default",
        "Batch norms folded",
        "0 of 8 differ",
        "block3/bn",
    ):
        assert words in page.text
    places = [a["data-graph"] for tag, a in page.tags if "data-graph" in a]
    assert places == ["/compare/graph.json?job=job_1&job=job_2"]


@pytest.mark.parametrize("query", ["", "?job=job_1", "?job=job_1&job=job_1", "?job=a&job=b&job=c"])
def test_a_comparison_takes_two_jobs(open_client: Open, query: str) -> None:
    answer = open_client(jobs=TWO).get(f"/compare{query}")
    assert answer.status_code == 422
    assert "Tick two jobs" in answer.text


def test_what_differs_of_a_batch_norm_is_named() -> None:
    left = [sample.norm("a", 1), sample.norm("b", 2), sample.norm("gone", 3)]
    right = [sample.norm("a", 1), sample.norm("b", 4, kept=True, sick=True), sample.norm("new", 3)]
    found = {pair.name: pair.changes for pair in compare.norm_pairs(left, right)}
    assert list(found) == ["a", "b", "gone", "new"]
    assert found["a"] == []
    assert {"decision", "where to", "health", "mean"} <= set(found["b"])
    assert (found["gone"], found["new"]) == (["only in the first"], ["only in the second"])


def test_both_artifacts_graphs_are_one_aligned_map() -> None:
    left, right = sample.graph(4), sample.graph(6)
    merged = compare.beside(left, right)
    assert merged.before.names == left.after.names
    assert merged.after.names == right.after.names
    both = [(a, b) for a, b in merged.rows if a >= 0 and b >= 0]
    assert len(both) == len(left.after.names), "every node of the shorter one has its partner"
    assert all(left.after.names[a] == right.after.names[b] for a, b in both)
    for side in (merged.before, merged.after):
        assert max(side.ops) < len(merged.op_types)


def test_the_drawing_of_two_graphs_has_the_form_of_one_job(open_client: Open) -> None:
    found = open_client(jobs=TWO).get("/compare/graph.json?job=job_1&job=job_2").json()
    assert GraphMap.model_validate(found["graph_map"]).rows
    assert found["layout"]


def test_a_layer_has_its_histograms_with_axes_and_files(open_client: Open) -> None:
    report = sample.report()
    row = {"name": "block3/bn", "measured": True, "mean": [0.1, 0.2], "variance": [1.0, 2.0], "stored_mean": [0.0, 0.0],
           "stored_variance": [1.0, 1.0], "mean_shift": 2.0, "variance_ratio": [1.0, 2.0]}  # fmt: skip
    report.calibration = {"samples": 8, "applied": False, "layers": [row], "outputs": {}}
    client = open_client(report=report)
    page = Tags(client.get("/jobs/job_1/layer?name=block3/bn").text)
    assert "never updated" in page.text
    files = [str(a["href"]) for tag, a in page.tags if tag == "a" and ".svg" in (a.get("href") or "")]
    assert len(files) == 7, "old and new mean and variance, and five arrays"
    for address in files:
        answer = client.get(address)
        assert answer.status_code == 200
        ET.fromstring(answer.text)
    assert "stored" in client.get(files[0]).text
    assert client.get("/jobs/job_1/layer?name=nope").status_code == 404
    assert "Farthest off" in client.get("/jobs/job_1").text


def test_long_tables_are_closed_and_what_matters_stands_before_them(open_client: Open) -> None:
    page = open_client(report=sample.report(names=53)).get("/jobs/job_1").text
    shown, closed = page.split('<details class="more" id="all-norms">')
    assert "never updated" in shown
    assert "All 53 batch norms" in closed
    assert "block5/bn" in page.split("kept: ")[1][:200], "kept ones are named before the table"
    assert 'id="all-norms"' not in open_client().get("/jobs/job_1").text, "a short table is simply there"


def test_the_calibration_form_repeats_the_job(open_client: Open) -> None:
    import json

    page = Tags(open_client().get("/jobs/job_1").text)
    (form,) = (a for tag, a in page.tags if a.get("id") == "calibrate-form")
    assert json.loads(str(form["data-body"])) == {
        "input": sample.SOURCE,
        "filename": "resnet50.h5",
        "options": {"opset": 18},
    }


def test_an_error_that_passes_says_when(open_client: Open) -> None:
    answer = open_client().get("/jobs/job_busy")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    page = Tags(answer.text)
    assert "Too many requests" in page.text
    assert "7.0 s" in page.text
    assert [a for tag, a in page.tags if a.get("data-wait") == "7"]
    assert "rate_limited" in page.text


def test_the_list_is_sorted_and_two_can_be_ticked(open_client: Open) -> None:
    page = Tags(open_client(jobs=TWO).get("/jobs?sort=name").text)
    assert [a["value"] for tag, a in page.tags if tag == "option" and "selected" in a] == ["name"]
    assert [a["value"] for tag, a in page.tags if a.get("name") == "job"] == ["job_1", "job_2"]
    more = [a["href"] for tag, a in page.tags if tag == "a" and "page_token" in (a.get("href") or "")]
    assert "sort=name" in str(more[0])
