"""Deployment files: parsed, checked against the code, and their commands run as processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from service.runner.config import environment
from service.runner.jail.sandbox import CUDA_FILES
from service.settings import Settings
from service.store.migrate import HEAD
from tests.support.deployment import Deployment, deployment, free_port, http
from tests.support.paths import ROOT

COMPOSE = {name: yaml.safe_load((ROOT / name).read_text())
           for name in ("docker-compose.yml", "deploy/compose/scale.yml")}  # fmt: skip
ONE_MACHINE: dict[str, dict[str, Any]] = COMPOSE["docker-compose.yml"]["services"]
SCALE: dict[str, dict[str, Any]] = COMPOSE["deploy/compose/scale.yml"]["services"]
SERVICES = ONE_MACHINE | SCALE
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")
OURS = [name for name, service in SERVICES.items() if str(service.get("image", "")).startswith("bnfold:")]
SETTINGS = {f"BNFOLD_{name.upper()}" for name in Settings.model_fields}
METRICS = re.compile(r"bnfold_[a-z_]+")


def exported() -> set[str]:
    """Names of our metrics, as Prometheus stores them."""
    text = (ROOT / "service" / "api" / "metrics.py").read_text()
    names = set(re.findall(r'"(bnfold_[a-z_]+)"', text))
    return names | {f"{name}{end}" for name in names for end in ("_total", "_bucket", "_sum", "_count")}


def in_profile(profile: str) -> set[str]:
    return {name for name, service in ONE_MACHINE.items() if profile in service["profiles"]}


def interpolated(text: str, **values: str) -> str:
    """Put variables into a compose file's text. Raises: KeyError for one that must be given and is not."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if name in values:
            return values[name]
        if kind == "-":
            return str(rest)
        raise KeyError(name)

    return VARIABLE.sub(value, text)


SECRETS = {"POSTGRES_PASSWORD", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "BNFOLD_PEPPER"}


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_files_fit_the_specification(name: str) -> None:
    text = interpolated((ROOT / name).read_text(), **dict.fromkeys(SECRETS, "given"))
    document = yaml.safe_load(text)
    parsed = PyCompose.from_json(json.dumps(document))
    assert set(parsed.service_names()) == set(COMPOSE[name]["services"])
    document["services"][min(document["services"])]["mem_limits"] = "1g"
    with pytest.raises(ValueError, match="mem_limits"):
        PyCompose.from_json(json.dumps(document))


def test_no_secret_has_a_default() -> None:
    found = {}
    for name in COMPOSE:
        for variable, kind, rest in VARIABLE.findall((ROOT / name).read_text()):
            found.setdefault(variable, set()).add((kind, bool(rest)))
    assert {name for name, how in found.items() if how == {("?", True)}} == SECRETS
    assert set(found) - SECRETS == {"BNFOLD_MEMORY"}
    with pytest.raises(KeyError):
        interpolated((ROOT / "deploy/compose/scale.yml").read_text())
    # One machine starts with nothing given: compose asks for the variables of every service of a file.
    interpolated((ROOT / "docker-compose.yml").read_text())


def test_every_container_has_a_memory_limit_and_a_version() -> None:
    for name, service in SERVICES.items():
        assert "mem_limit" in service, name
        assert service["image"].rpartition(":")[2] not in ("", "latest"), name


def test_files_that_compose_mounts_exist() -> None:
    for file, document in COMPOSE.items():
        for name, service in document["services"].items():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("."):
                    assert (ROOT / file).parent.joinpath(source).exists(), (name, source)
                else:
                    assert source in document["volumes"], (name, source)


def test_the_proxy_asks_the_api_processes() -> None:
    text = (ROOT / "deploy" / "compose" / "nginx.conf").read_text()
    assert "server api:8750 resolve" in text
    assert "client_max_body_size 0;" in text
    for switched_off in ("proxy_request_buffering off;", "proxy_buffering off;"):
        assert switched_off in text, "uploads and events are streamed"
    assert "ports" not in SCALE["api"]
    assert SCALE["proxy"]["ports"] == ["127.0.0.1:8750:8750"]


def test_monitoring_reads_what_is_there() -> None:
    scrape = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (target,) = scrape["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.split(":")[0] in ONE_MACHINE
    assert target.split(":")[0] in ONE_MACHINE["bnfold-cuda"]["networks"]["default"]["aliases"]
    assert [(ROOT / "deploy" / "prometheus" / name).exists() for name in scrape["rule_files"]] == [True]
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    board = yaml.safe_load((provisioning / "dashboards" / "bnfold.yml").read_text())
    places = [volume.split(":")[1] for volume in ONE_MACHINE["grafana"]["volumes"]]
    assert any(place.startswith(board["providers"][0]["options"]["path"] + "/") for place in places)
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"


def test_profiles() -> None:
    assert in_profile("default") == {"bnfold"}
    assert in_profile("cuda") == {"bnfold-cuda"}
    assert in_profile("monitoring") == {"prometheus", "grafana"}
    assert set(SCALE) == {"migrate", "api", "proxy", "worker", "postgres", "store", "store-bucket"}
    assert SERVICES["api"]["deploy"]["replicas"] == 2
    assert SERVICES["worker"]["deploy"]["replicas"] == 3


@pytest.mark.parametrize("name", OURS)
def test_containers_are_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    for place in service.get("ports", []):
        assert place.startswith("127.0.0.1:"), "published on loopback; a proxy with TLS goes in front"
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["environment"]["BNFOLD_REQUIRE_KEYS"] == "true"
    assert set(service.get("environment", {})) <= SETTINGS


def test_dependencies_exist_in_the_same_profile() -> None:
    for document in COMPOSE.values():
        for name, service in document["services"].items():
            for needed in service.get("depends_on", {}):
                other = document["services"][needed]
                assert set(service.get("profiles", [])) <= set(other.get("profiles", [])), (name, needed)


def sent_to_the_builder(path: str) -> bool:
    """Whether .dockerignore lets a file or folder of the build pass; it begins by excluding everything."""
    first, *rest = (ROOT / ".dockerignore").read_text().split()
    assert first == "*"
    passed = [PurePath(line[1:].removesuffix("/**")) for line in rest if line.startswith("!")]
    return any(PurePath(path) == each or PurePath(path).match(str(each)) for each in passed)


def test_dockerfile() -> None:
    text = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+ AS (\w+)", text, re.MULTILINE)
    assert stages == ["site", "build", "cpu", "cuda"]
    assert {service["build"]["target"] for name, service in SERVICES.items() if name in OURS} <= set(stages)
    for stage in text.split("FROM ")[3:]:
        assert "USER 10001:10001" in stage
        assert "HEALTHCHECK" in stage
        assert stage.index("USER") > stage.index("RUN")
    assert "--require-hashes" in text
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path
            assert sent_to_the_builder(path), f"{path} is kept from the build by .dockerignore"


def test_every_package_of_the_images_is_pinned_and_hashed() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for line in re.findall(r"pip install ([^&\n]+)", text):
        assert "--no-deps" in line
        assert "--require-hashes -r /tmp/" in line or "--no-build-isolation /src" in line, line
    pinned = [(ROOT / "constraints" / f"{name}.txt").read_text() for name in ("runtime", "cuda")]
    plain, cuda = (re.search(r"^onnxruntime(?:-gpu)?==(\S+)", each, re.MULTILINE) for each in pinned)
    assert plain is not None
    assert cuda is not None
    assert plain[1] == cuda[1], "scripts/lock.sh writes both"
    assert "--hash=sha256:" in pinned[1]


def test_the_cuda_image_is_the_one_that_the_how_to_describes() -> None:
    text, guide = (ROOT / "Dockerfile").read_text(), (ROOT / "docs" / "how-to" / "cuda.md").read_text()
    stage = next(part for part in text.split("FROM ") if part.startswith("nvidia/cuda:"))
    base = re.match(r"nvidia/cuda:(\d+)\.\S+-cudnn-runtime-\S+ AS cuda\n", stage)
    assert base is not None
    built = f"built for CUDA {base[1]} and cuDNN 9; the host needs a driver of R580 or newer"
    assert built in text
    for words in (
        f"CUDA {base[1]} and cuDNN 9",
        "a driver of R580 or newer",
        "the driver comes from the host",
    ):
        assert words in guide
    service = SERVICES["bnfold-cuda"]
    assert f"docker compose --profile {service['profiles'][0]} up" in guide
    assert service["build"]["target"] == "cuda"
    (asked,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert asked == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}, "the how-to: one device"
    pools = f"BNFOLD_POOLS={service['environment']['BNFOLD_POOLS']}"
    assert pools == "BNFOLD_POOLS=cpu,cuda"
    assert pools in stage
    assert pools in guide
    capabilities = re.search(r"NVIDIA_DRIVER_CAPABILITIES=(\S+)", stage)
    assert capabilities is not None
    assert "compute" in capabilities[1].split(",")


def test_what_the_cuda_how_to_names_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "how-to" / "cuda.md").read_text()
    named = set(re.findall(r"`(BNFOLD_[A-Z_]+|LD_LIBRARY_PATH)", guide))
    assert {"BNFOLD_POOLS", "BNFOLD_DEVICE_MEMORY_BYTES", "LD_LIBRARY_PATH"} <= named
    for name in named - SETTINGS:
        monkeypatch.setenv(name, "given")
        assert environment(Path("/tmp"), cuda=True)[name] == "given", "a CUDA runner does not get it"
        assert name not in environment(Path("/tmp"), cuda=False)
    assert "/usr/local/nvidia" in guide
    assert "/usr/local/nvidia" in CUDA_FILES
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["cuda"]
    assert any(package.startswith("onnxruntime-gpu") for package in extra)
    assert "'bnfold[cuda]'" in guide


def test_kubernetes_example() -> None:
    parts = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "bnfold.yaml").read_text()))
    kinds = [part["kind"] for part in parts]
    assert kinds == ["ConfigMap", "Deployment", "Deployment", "Service", "PodDisruptionBudget"]
    assert set(parts[0]["data"]) <= SETTINGS
    for part in parts[1:3]:
        pod = part["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["args"][0] in ("serve", "worker")
        assert (
            part["spec"]["template"]["metadata"]["labels"].items()
            >= part["spec"]["selector"]["matchLabels"].items()
        )


def test_tags_in_the_documentation_are_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    major = version.split(".")[0]
    pages = [ROOT / "README.md", ROOT / "docs" / "how-to" / "fold-in-ci.md", ROOT / "docs" / "quickstart.md"]
    text = "\n".join(page.read_text() for page in pages)
    found = re.findall(r"(?:bnfold/bnfold(?:/fold)?@|rev: )(v[\w.]+)", text)
    assert len(found) >= 4, "the action, twice; the component; the hook"
    assert set(found) == {f"v{major}"}
    assert f"git tag --sign --annotate v{version}" in text


def test_dashboard_and_alerts_use_metrics_that_exist() -> None:
    known = exported()
    alerts = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    rules = alerts["groups"][0]["rules"]
    expressions = [rule["expr"] for rule in rules]
    board = json.loads((ROOT / "deploy" / "grafana" / "bnfold.json").read_text())
    expressions += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(rules) >= 5
    assert len(board["panels"]) >= 8
    for expression in expressions:
        used = set(METRICS.findall(expression))
        assert used <= known, (expression, used - known)
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)


def command(service: dict[str, Any], **replaced: str) -> list[str]:
    """The container's command line, run by this interpreter, with other addresses."""
    words = [replaced.get(word, word) for word in service["command"]]
    return [sys.executable, "-c", "from service.cli import main; main()", *words]


def bnfold(arguments: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", *arguments],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(made: Deployment, words: list[str], **more: str) -> subprocess.Popen[bytes]:
    log = (made.folder / f"log-{len(made.processes)}.txt").open("ab")
    process = subprocess.Popen(
        words, env=made.environment(**more), cwd=ROOT, stdout=log, stderr=log, start_new_session=True
    )
    made.processes.append(process)
    return process


def test_default_profile_as_processes(tmp_path: Path) -> None:
    """`serve --host 0.0.0.0` before there is a key (here: on loopback), the first key by the command that
    both files and the chart show, then a request."""
    scopes = "keys create first --scope admin --scope submit --scope read"
    with deployment(tmp_path, **ONE_MACHINE["bnfold"]["environment"]) as made:
        env = made.environment()
        port = free_port()
        start(made, command(SERVICES["bnfold"], **{"0.0.0.0": "127.0.0.1"}), BNFOLD_PORT=str(port))
        url = f"http://127.0.0.1:{port}"
        made.ready(url)
        with http(url) as client:
            assert client.get("/v1/jobs").status_code == 401
            for name in (*COMPOSE, "deploy/helm/bnfold/templates/NOTES.txt"):
                assert f"bnfold {scopes}\n" in (ROOT / name).read_text(), name
            secret = re.search(r"bnf_[0-9a-z]{20}\.[\w-]{43}", bnfold(scopes.split(), env))
            assert secret
            assert client.get("/v1/jobs", headers={"authorization": f"Bearer {secret[0]}"}).status_code == 200


def test_migrate_prepares_an_empty_database_and_ends(tmp_path: Path) -> None:
    with deployment(tmp_path) as made:
        arguments = SCALE["migrate"]["command"]
        assert json.loads(bnfold([*arguments, "--json"], made.environment())) == {"revision": HEAD}
        assert f"at revision {HEAD}" in bnfold(arguments, made.environment())


def test_public_bind_without_key_refuses_to_start(tmp_path: Path) -> None:
    env = {**os.environ, "BNFOLD_DATA_DIR": str(tmp_path), "BNFOLD_RUNNER": "memory"}
    done = subprocess.run(
        command(SERVICES["bnfold"]),
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "API key" in done.stderr
