"""The Helm chart: linted and rendered by helm, every object against the schemas of Kubernetes."""

from __future__ import annotations

import json
import subprocess
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from service.api.metrics import DatabaseGauges
from service.jobs.model import Kind
from service.settings import Settings
from tests.support.chart_tools import reason_no_chart_tools, tools
from tests.support.paths import ROOT

CHART = ROOT / "deploy" / "helm" / "bnfold"
SETTINGS = {f"BNFOLD_{name.upper()}" for name in Settings.model_fields}
GIVEN = ["--set", "existingSecret=mine"]
OWN_SECRET = [
    "--set", "secret.databaseUrl=postgresql://u:p@db/bnfold", "--set", "secret.pepper=0123456789abcdef",
    "--set", "secret.s3AccessKeyId=id", "--set", "secret.s3SecretAccessKey=key",
]  # fmt: skip
EVERYTHING = [
    *OWN_SECRET, "--set", "ingress.enabled=true", "--set", "ingress.host=bnfold.example.org",
    "--set", "ingress.tlsSecret=tls", "--set", "ingress.className=nginx",
    "--set", "workers.cuda.enabled=true",
    "--set", "workers.cpu.autoscaling.enabled=true", "--set", "workers.cuda.autoscaling.enabled=true",
    "--set", "api.autoscaling.enabled=true", "--set", "serviceMonitor.enabled=true",
    "--set", "store.endpoint=http://store:9000", "--set", "settings.BNFOLD_RETENTION_DAYS=90",
]  # fmt: skip

needs_tools = pytest.mark.skipif(reason_no_chart_tools() is not None, reason=str(reason_no_chart_tools()))


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tools() / "helm", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@cache
def rendered(values: tuple[str, ...]) -> list[dict[str, Any]]:
    done = helm("template", "release", str(CHART), "--namespace", "bnfold", *values)
    assert done.returncode == 0, done.stderr
    return [part for part in yaml.safe_load_all(done.stdout) if part]


def of_kind(parts: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [part for part in parts if part["kind"] == kind]


def pods(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part["spec"]["template"] for part in parts if part["kind"] in ("Deployment", "Job")]


class Schemas:
    """The JSON schemas of one version of Kubernetes, read from the package that brings them."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        names = self._archive.namelist()
        (self._folder,) = {n.rsplit("/", 1)[0] for n in names if "/v1.37.0-local/_definitions.json" in n}
        definitions = Resource.from_contents(self._read("_definitions.json"), DRAFT7)
        self._registry = Registry().with_resource("_definitions.json", definitions)

    def _read(self, name: str) -> Any:
        return json.loads(self._archive.read(f"{self._folder}/{name}"))

    def problems(self, part: dict[str, Any]) -> list[str]:
        group, _, version = part["apiVersion"].rpartition("/")
        words = [part["kind"].lower(), *([group.split(".")[0]] if group else []), version]
        schema = self._read("-".join(words) + ".json")
        found = Draft7Validator(schema, registry=self._registry).iter_errors(part)
        return [f"{'/'.join(map(str, error.path))}: {error.message[:200]}" for error in found]


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas(tools() / "kubernetes-schemas.zip")


@needs_tools
@pytest.mark.parametrize("values", [GIVEN, OWN_SECRET, EVERYTHING], ids=["secret", "own", "everything"])
def test_lint(values: list[str]) -> None:
    done = helm("lint", "--strict", str(CHART), *values)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_tools
@pytest.mark.parametrize("values", [GIVEN, OWN_SECRET, EVERYTHING], ids=["secret", "own", "everything"])
def test_every_object_fits_the_schema_of_its_kind(values: list[str], schemas: Schemas) -> None:
    parts = rendered(tuple(values))
    assert {"Deployment", "Job", "Service", "NetworkPolicy"} <= {part["kind"] for part in parts}
    for part in parts:
        if part["apiVersion"] != "monitoring.coreos.com/v1":  # a custom resource: Kubernetes has no schema
            assert schemas.problems(part) == [], (part["kind"], part["metadata"]["name"])


@needs_tools
def test_the_schemas_do_refuse(schemas: Schemas) -> None:
    part = json.loads(json.dumps(of_kind(rendered(tuple(GIVEN)), "Deployment")[0]))
    part["spec"]["replicas"] = "two"
    part["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    assert len(schemas.problems(part)) >= 1


@needs_tools
def test_no_secret_has_a_default() -> None:
    done = helm("template", "release", str(CHART))
    assert done.returncode != 0
    assert "existingSecret" in done.stderr
    assert of_kind(rendered(tuple(GIVEN)), "Secret") == []
    (secret,) = of_kind(rendered(tuple(OWN_SECRET)), "Secret")
    assert set(secret["stringData"]) <= SETTINGS
    assert secret["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


@needs_tools
@pytest.mark.parametrize(
    "wrong",
    ["image.digest=sha256:short", "workers.gpu.enabled=true", "settings.PORT=1", "store.url=http://x",
     "secret.databaseUrl=sqlite:///x", "workers.cpu.slots=0"],
)  # fmt: skip
def test_wrong_values_are_refused(wrong: str) -> None:
    done = helm("template", "release", str(CHART), *GIVEN, "--set", wrong)
    assert done.returncode != 0
    assert "values don't meet the specifications" in done.stderr


@needs_tools
def test_processes_run_as_the_sandbox_needs_and_no_more() -> None:
    for template in pods(rendered(tuple(EVERYTHING))):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        inside = container["securityContext"]
        assert inside["readOnlyRootFilesystem"] is True
        assert inside["allowPrivilegeEscalation"] is False
        assert inside["capabilities"] == {"drop": ["ALL"]}
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp"}
        names = {variable["name"] for variable in container["env"]}
        assert names <= SETTINGS, names - SETTINGS
        assert {"BNFOLD_ENGINE", "BNFOLD_REQUIRE_KEYS"} <= names, "API pods start before there is a key"
        assert "memory" in container["resources"]["limits"]


@needs_tools
def test_migration_runs_first_and_every_part_has_probes() -> None:
    parts = rendered(tuple(EVERYTHING))
    (job,) = of_kind(parts, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (secret,) = of_kind(parts, "Secret")
    weights = [int(part["metadata"]["annotations"]["helm.sh/hook-weight"]) for part in (secret, job)]
    assert weights[0] < weights[1], "the job reads the secret"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]
    deployments = {part["metadata"]["name"]: part for part in of_kind(parts, "Deployment")}
    assert deployments.keys() == {"release-api", "release-worker-cpu", "release-worker-cuda"}
    for name, part in deployments.items():
        (container,) = part["spec"]["template"]["spec"]["containers"]
        assert {"startupProbe", "livenessProbe"} <= container.keys()
        variables = {row["name"]: row["value"] for row in container["env"]}
        assert variables["BNFOLD_POOLS"] == "cpu,cuda"
        if name == "release-api":
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
            assert container["args"][0] == "serve"
            assert int(variables["BNFOLD_DRAIN_SECONDS"]) > container["readinessProbe"]["periodSeconds"]
        else:
            pool = name.rsplit("-", 1)[1]
            assert container["args"][:3] == ["worker", "--pool", pool]
            assert container["image"] == f"bnfold:{pool}"
            assert variables["BNFOLD_ALIVE_FILE"] in " ".join(container["livenessProbe"]["exec"]["command"])


@needs_tools
def test_selectors_find_their_pods_and_only_those() -> None:
    parts = rendered(tuple(EVERYTHING))
    labels = {part["metadata"]["name"]: part["spec"]["template"]["metadata"]["labels"]
              for part in parts if part["kind"] in ("Deployment", "Job")}  # fmt: skip

    def chosen(selector: dict[str, str]) -> set[str]:
        return {name for name, has in labels.items() if selector.items() <= has.items()}

    for part in of_kind(parts, "Deployment"):
        assert chosen(part["spec"]["selector"]["matchLabels"]) == {part["metadata"]["name"]}
    (service,) = of_kind(parts, "Service")
    assert chosen(service["spec"]["selector"]) == {"release-api"}


@needs_tools
def test_workers_scale_on_a_metric_that_exists() -> None:
    scalers = {part["metadata"]["name"]: part for part in
               of_kind(rendered(tuple(EVERYTHING)), "HorizontalPodAutoscaler")}  # fmt: skip
    assert scalers.keys() == {"release-api", "release-worker-cpu", "release-worker-cuda"}
    (metric,) = scalers["release-worker-cuda"]["spec"]["metrics"]
    asked = metric["external"]["metric"]
    names = DatabaseGauges.queues.__code__.co_consts
    assert asked["name"] in names
    assert asked["selector"]["matchLabels"] == {"pool": "cuda", "lane": Kind.FOLD.value}
    for part in of_kind(rendered(tuple(EVERYTHING)), "Deployment"):
        assert "replicas" not in part["spec"], "the autoscaler's number would be overwritten at each upgrade"


@needs_tools
def test_an_image_can_be_pinned_by_digest() -> None:
    digest = "sha256:" + "ab" * 32
    parts = rendered((*GIVEN, "--set", f"image.digest={digest}", "--set", "workers.cuda.enabled=true"))
    images = {template["spec"]["containers"][0]["image"] for template in pods(parts)}
    assert images == {f"bnfold@{digest}", "bnfold:cuda"}, "a part with a tag of its own keeps it"


def test_the_chart_has_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
