"""Providers without a device: a recorded provider list and a session that answers from the CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from folding.ort import OrtSession, runtime
from folding.report import Verdict
from folding.verify import providers
from folding.verify.arithmetic import arithmetic_of
from folding.verify.model import load
from folding.verify.providers import Cpu, Cuda, Generic, cuda_libraries, latency
from folding.verify.providers.failures import DeviceLost, ProviderLostError
from folding.verify.verdict import LAYERWISE
from tests.unit.folding.verify import nets
from tests.unit.folding.verify.models import array, check, write

# What onnxruntime-gpu 1.31 on a machine with a device answers to get_available_providers().
RECORDED = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
PRODUCTS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))


class FakeSession:
    """Answers like the CPU, times a gain; remembers how it was opened."""

    opened: list[dict[str, Any]] = []  # noqa: RUF012 - shared on purpose, cleared by the fixture
    started = True
    gain: dict[str, float] = {}  # noqa: RUF012
    jitter = False
    says = ""  # what the runtime raises, in its words

    def __init__(self, model: Path, level: str, *, providers: list[Any]) -> None:
        self.inner = OrtSession(model, level)
        self.options = providers[0][1] if isinstance(providers[0], tuple) else {}
        FakeSession.opened.append({"model": model, "level": level, "providers": providers, "session": self})
        self.providers = (
            [p[0] if isinstance(p, tuple) else p for p in providers] if self.started else RECORDED[2:]
        )
        self.runs = 0

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.runs += 1
        if self.says:
            raise RuntimeError(self.says)
        kind = "exact" if self.options.get("use_tf32") == "0" else "tf32"
        gain = np.float32(1 + self.gain.get(kind, 0.0) + (1e-3 * self.runs if self.jitter else 0))
        return {name: value * gain for name, value in self.inner.run(feeds).items()}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    """A machine with a recorded CUDA provider."""
    FakeSession.opened, FakeSession.started, FakeSession.gain, FakeSession.jitter = [], True, {}, False
    FakeSession.says = ""

    def find(name: str) -> Any:
        if name == "cuda":
            return Cuda(lambda: RECORDED, FakeSession)
        return Cpu() if name == "cpu" else Generic(name, lambda: RECORDED, FakeSession)

    monkeypatch.setattr(providers, "find", find)
    return FakeSession


def test_cuda_is_judged_without_tf32_and_reported_with_it(device: type[FakeSession], tmp_path: Path) -> None:
    device.gain = {"tf32": 1e-3}
    pair = nets.build("plain", tmp_path, 1)
    found = check(pair.unfolded, pair.folded, providers=["cpu", "cuda"], require=["cuda"])
    assert found.verdict is Verdict.PASS, found.summary
    rows = {(r.provider, r.optimization_level): r for r in found.rows if r.reference == "onnx-unfolded"}
    assert rows["cuda", "disable_all"].status == rows["cuda", "enable_all"].status == "pass"
    assert rows["cuda", "disable_all"].judged
    assert rows["cuda tf32", "enable_all"].status == "reported"
    assert not rows["cuda tf32", "enable_all"].judged
    exact = [o["providers"][0] for o in device.opened if o["providers"][0][1]]
    layers = {r.provider: r for r in found.rows if r.reference == LAYERWISE}
    assert layers["cuda tf32"].judged
    assert (layers["cuda"].status, layers["cuda tf32"].status) == ("pass", "pass")
    assert layers["cuda tf32"].figures["arithmetic"] == "TF32"
    assert exact[0] == ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"})


def test_a_wrong_device_fails(device: type[FakeSession], tmp_path: Path) -> None:
    device.gain = {"exact": 1e-2}
    pair = nets.build("plain", tmp_path, 1)
    found = check(pair.unfolded, pair.folded, providers=["cpu", "cuda"])
    assert found.verdict is Verdict.FAIL
    assert "cuda" in found.summary


def test_determinism_is_checked_by_a_repeat(device: type[FakeSession], tmp_path: Path) -> None:
    pair = nets.build("mlp", tmp_path, 1)
    rows = check(pair.unfolded, pair.folded, providers=["cuda"]).rows
    assert all(r.figures["deterministic"] for r in rows if r.provider == "cuda" and r.reference != LAYERWISE)
    device.jitter = True
    rows = check(pair.unfolded, pair.folded, providers=["cuda"]).rows
    assert not any(
        r.figures["deterministic"] for r in rows if r.provider == "cuda" and r.reference != LAYERWISE
    )


def test_a_silent_fallback_to_the_cpu_is_unavailable(device: type[FakeSession], tmp_path: Path) -> None:
    device.started = False
    pair = nets.build("mlp", tmp_path, 1)
    found = check(pair.unfolded, pair.folded, providers=["cpu", "cuda"], require=["cuda"])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert {r.status for r in found.rows if r.provider.startswith("cuda")} == {"unavailable"}


@pytest.mark.parametrize(
    "said",
    [
        "CUDA failure 700: an illegal memory access was encountered ; GPU=0",
        "CUDNN failure 5000: ... CUDA_ERROR_LAUNCH_FAILED",
        "CUDA error cudaErrorECCUncorrectable: uncorrectable ECC error encountered",
    ],
)
def test_a_lost_device_ends_the_job_and_says_nothing_of_the_artifact(
    device: type[FakeSession], tmp_path: Path, said: str
) -> None:
    device.says = said
    pair = nets.build("mlp", tmp_path, 1)
    with pytest.raises(DeviceLost) as caught:
        check(pair.unfolded, pair.folded, providers=["cpu", "cuda"])
    assert caught.value.error_code == "device_lost"
    assert said[:40] in caught.value.message


def test_a_model_that_does_not_fit_is_unavailable(
    device: type[FakeSession], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNFOLD_DEVICE_MEMORY_BYTES", "1000000")
    device.says = "BFCArena: Available memory of 0 is smaller than requested bytes of 4096"
    pair = nets.build("mlp", tmp_path, 1)
    found = check(pair.unfolded, pair.folded, providers=["cpu", "cuda"], require=["cuda"])
    assert found.verdict is Verdict.INCONCLUSIVE
    rows = [r for r in found.rows if r.provider.startswith("cuda")]
    assert rows
    assert {r.status for r in rows} == {"unavailable"}
    assert "does not fit into the memory of the device within the limit of 1000000 bytes" in rows[0].detail
    options = [o["providers"][0][1] for o in device.opened]
    assert all(o["gpu_mem_limit"] == "1000000" for o in options)
    device.says = ""
    assert check(pair.unfolded, pair.folded, providers=["cpu", "cuda"]).verdict is Verdict.PASS


def test_another_failure_is_the_artifacts(device: type[FakeSession], tmp_path: Path) -> None:
    device.says = "Non-zero status code returned while running Conv node: invalid shape"
    pair = nets.build("mlp", tmp_path, 1)
    assert check(pair.unfolded, pair.folded, providers=["cpu", "cuda"]).verdict is Verdict.FAIL


def identity(opened: dict[str, Any]) -> tuple[str, str, str]:
    """Return what a session of the device computes: graph, level, options."""
    return Path(opened["model"]).name, opened["level"], str(opened["providers"][0])


def test_each_graph_is_opened_once_for_each_level_and_variant(
    device: type[FakeSession], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuDNN starts anew in each session, which takes longer than all runs of a small model."""
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    runs: list[OrtSession] = []
    run = OrtSession.run
    monkeypatch.setattr(OrtSession, "run", lambda self, *a, **k: (runs.append(self), run(self, *a, **k))[1])
    pair = nets.build("plain", tmp_path, 1)
    for options in ({}, {"latency": True}):
        device.opened, _ = [], runs.clear()
        found = check(pair.unfolded, pair.folded, providers=["cpu", "cuda"], **options)
        assert found.verdict is Verdict.PASS, found.summary
        opened = [identity(each) for each in device.opened]
        assert len(opened) == len(set(opened))
        # two levels of two variants; inner values of each variant; the source for its latency
        assert len(opened) == 6 + bool(options)
        mine = {each["session"].inner for each in device.opened}
        on_device = sum(session in mine for session in runs)
        if not options:
            assert on_device <= 3 * (len(runs) - on_device)
            assert on_device == 4 * (len(found.probes) + 1) + 2  # a repeat each, and the inner values


def test_latency_on_a_device_is_measured_at_several_batches(
    device: type[FakeSession], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    text = "plain (float[N,3] x) => (float[N,4] y) { h = MatMul(x, w)\n y = Relu(h) }"
    path = write(tmp_path / "free.onnx", text, w=array(3, 4))
    found = check(path, path, providers=["cpu", "cuda"], latency=True).latency
    assert found is not None
    assert next(iter(found["cpu"])) == "enable_all", "as it is run, before batches and threads"
    labels = [f"enable_all batch {rows}" for rows in (1, 8, 32)]
    assert list(found["cuda"]) == labels
    assert [found["cuda"][label]["shape"]["x"] for label in labels] == [[1, 3], [8, 3], [32, 3]]
    fixed = write(tmp_path / "fixed.onnx", text.replace("N", "2"), w=array(3, 4))
    found = check(fixed, fixed, providers=["cuda"], latency=True).latency
    assert found is not None
    assert list(found["cuda"]) == ["enable_all"]


def test_two_jobs_share_a_device(device: type[FakeSession], tmp_path: Path) -> None:
    pairs = []
    for index in range(2):
        (tmp_path / str(index)).mkdir()
        pairs.append(nets.build("mlp", tmp_path / str(index), index + 1))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda p: check(p.unfolded, p.folded, providers=["cpu", "cuda"]), pairs))
    assert [each.verdict for each in found] == [Verdict.PASS, Verdict.PASS]


def test_libraries_that_came_as_packages_are_loaded_first(
    device: type[FakeSession],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[int] = []

    def load() -> None:
        calls.append(len(device.opened))
        print("Failed to load libcudnn.so.9")

    monkeypatch.setattr(runtime(), "preload_dlls", load, raising=False)
    cuda_libraries.preload.cache_clear()
    pair = nets.build("mlp", tmp_path, 1)
    check(pair.unfolded, pair.folded, providers=["cuda"])
    assert calls == [0]  # once, before the first session
    assert cuda_libraries.preload() == "Failed to load libcudnn.so.9"
    assert "Failed" not in capsys.readouterr().out
    cuda_libraries.preload.cache_clear()


def test_a_silent_fallback_names_what_is_missing(device: type[FakeSession], tmp_path: Path) -> None:
    device.started = False
    pair = nets.build("mlp", tmp_path, 1)
    rows = check(pair.unfolded, pair.folded, providers=["cuda"]).rows
    detail = next(r.detail for r in rows if r.provider == "cuda" and r.reference != LAYERWISE)
    missing = cuda_libraries.what_is_missing()
    assert missing is None or missing[:60] in detail


def test_another_installed_provider_is_used_by_name(device: type[FakeSession], tmp_path: Path) -> None:
    pair = nets.build("mlp", tmp_path, 1)
    found = check(pair.unfolded, pair.folded, providers=["cpu", "tensorrt"], require=["tensorrt"])
    assert found.verdict is Verdict.PASS
    assert device.opened[0]["providers"][0] == "TensorrtExecutionProvider"


def test_the_installed_runtime_is_asked() -> None:
    without = Cuda(lambda: ["CPUExecutionProvider"])
    assert "cuda" in (without.unavailable() or "")
    assert Cuda(lambda: RECORDED).unavailable() is None
    assert "installed: CPUExecutionProvider" in (
        Generic("dml", lambda: ["CPUExecutionProvider"]).unavailable() or ""
    )
    assert Generic("TensorrtExecutionProvider", lambda: RECORDED).unavailable() is None
    assert providers.find("cpu").unavailable() is None
    assert isinstance(providers.find("openvino"), Generic)


def test_a_fallback_raises_rather_than_answering_from_the_cpu(tmp_path: Path) -> None:
    FakeSession.started = False
    pair = nets.build("mlp", tmp_path, 1)
    with pytest.raises(ProviderLostError):
        Cuda(lambda: RECORDED, FakeSession).open(pair.folded, "disable_all", "cuda")
    FakeSession.started = True


def test_layers_are_compared_on_the_device_too(device: type[FakeSession], tmp_path: Path) -> None:
    device.gain = {"exact": 1e-6}
    pair = nets.build("plain", tmp_path, 1)
    rows = check(pair.unfolded, pair.folded, providers=["cpu", "cuda"]).drift
    values = {kind: [row.value for row in rows if row.provider == kind] for kind in ("cpu", "cuda")}
    assert values["cpu"] == values["cuda"]
    assert len(values["cuda"]) > 3


def shortened(model: onnx.ModelProto, cut: bool) -> onnx.ModelProto:
    """Make each operand of a product a TF32 number: rounded by Veltkamp's splitting, or cut off."""
    nodes: list[onnx.NodeProto] = []
    scalars = {"tf32/split": np.float32(2**13 + 1), "tf32/down": np.float32(1 - 2.0**-11)}
    for node in model.graph.node:
        for i, name in enumerate(list(node.input[:2]) if node.op_type in PRODUCTS else []):
            short = f"{node.output[0]}/tf32/{i}"
            if cut:  # a little towards zero first: never rounded away from it
                nodes.append(helper.make_node("Mul", [name, "tf32/down"], [f"{short}/x"]))
            read = f"{short}/x" if cut else name
            nodes += [
                helper.make_node("Mul", [read, "tf32/split"], [f"{short}/big"]),
                helper.make_node("Sub", [f"{short}/big", read], [f"{short}/rest"]),
                helper.make_node("Sub", [f"{short}/big", f"{short}/rest"], [short]),
            ]
            node.input[i] = short
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in scalars.items())
    return model


class Tf32Session(FakeSession):
    """Computes products of TF32 factors, as a device does by default; `wrong` spoils one value by 1e-2."""

    cut = False
    wrong = 0.0

    def __init__(self, model: Path, level: str, *, providers: list[Any]) -> None:
        super().__init__(model, level, providers=providers)
        if self.options.get("use_tf32") != "0":
            made = shortened(onnx.load(str(model)), self.cut)
            if self.wrong:
                product = [n for n in made.graph.node if n.op_type in PRODUCTS][1]
                name, product.output[0] = product.output[0], "right"
                made.graph.initializer.append(numpy_helper.from_array(np.float32(1 + self.wrong), "by"))
                at = list(made.graph.node).index(product)
                made.graph.node.insert(at + 1, helper.make_node("Mul", ["right", "by"], [name]))
            self.inner = OrtSession(made.SerializeToString(), level)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("kind", ["plain", pytest.param("mobile", marks=pytest.mark.slow), "mlp"])
def test_tf32_is_judged_layer_by_layer_by_its_own_bound(
    kind: str, cut: bool, device: type[FakeSession], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short factors pass, though they are far beyond the limits of float32; a kernel off by 1e-2 fails."""
    found = {"cpu": Cpu(), "cuda": Cuda(lambda: RECORDED, Tf32Session)}
    monkeypatch.setattr(providers, "find", found.__getitem__)
    monkeypatch.setattr(Tf32Session, "cut", cut)
    pair = nets.build(kind, tmp_path, 1)
    right = check(pair.unfolded, pair.folded, providers=["cpu", "cuda"])
    assert right.verdict is Verdict.PASS, right.summary
    layers = {r.provider: r for r in right.rows if r.reference == LAYERWISE}
    assert layers["cuda tf32"].status == "pass"
    assert layers["cuda tf32"].figures["bounded"] > 1
    assert not [r for r in right.rows if r.status == "fail"]
    whole = [r for r in right.rows if r.provider == "cuda tf32" and r.reference == "onnx-unfolded"]
    assert {r.status for r in whole} == {"reported"}
    assert max(o.max_rel for r in whole for o in r.outputs) > 1e-5
    monkeypatch.setattr(Tf32Session, "wrong", 3e-2)
    wrong = check(pair.unfolded, pair.folded, providers=["cpu", "cuda"])
    failed = {(r.provider, r.reference) for r in wrong.rows if r.status == "fail"}
    assert failed == {("cuda tf32", LAYERWISE)}
    assert wrong.verdict is Verdict.FAIL
    assert "cuda tf32" in wrong.summary


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("g (float16[1,4] x) => (float16[1,4] y) { y = Relu(x) }", "float16"),
        ("g (bfloat16[1,4] x) => (bfloat16[1,4] y) { y = Relu(x) }", "bfloat16"),
        ("g (double[1,4] x) => (double[1,4] y) { y = Relu(x) }", "float64"),
        ("g (float[1,4] x) => (float[1,4] y) { h = Cast<to=10>(x)\n y = Cast<to=1>(h) }", "float16"),
        ("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }", "float32"),
    ],
)
def test_the_arithmetic_is_that_of_the_narrowest_type(text: str, name: str, tmp_path: Path) -> None:
    found = arithmetic_of(load(write(tmp_path / "m.onnx", text)))
    assert found.name == name
    exact, short = (Cuda().arithmetic(label, found) for label in ("cuda", "cuda tf32"))
    assert exact is not None
    assert short is not None
    assert (exact.u, exact.factors) == (found.u, 0.0)
    assert short.factors == 2.0**-10
    assert short.u == max(found.u, 2.0**-23)
    assert Cpu().arithmetic("cpu", found) is found
    assert Generic("dml").arithmetic("dml", found) is None


needs_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" not in runtime().get_available_providers(),
    reason="onnxruntime has no CUDAExecutionProvider here (onnxruntime-gpu and a device are needed)",
)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("kind", ["residual", "mobile", "unet", "mlp"])
def test_real_cuda_passes(kind: str, tmp_path: Path) -> None:
    pair = nets.build(kind, tmp_path, 1)
    found = check(pair.unfolded, pair.folded, providers=["cpu", "cuda"], require=["cuda"])
    assert found.verdict is Verdict.PASS, found.summary
    assert any(r.provider == "cuda" and r.status == "pass" for r in found.rows)


@pytest.mark.cuda
@needs_cuda
def test_real_cuda_catches_a_wrong_fold(tmp_path: Path) -> None:
    pair = nets.build("residual", tmp_path, 1, {3: "off_by_one"})
    found = check(pair.unfolded, pair.folded, providers=["cuda"], require=["cuda"])
    assert found.verdict is Verdict.FAIL


def test_a_name_that_the_runtime_never_heard_of_is_refused_before_the_work(tmp_path: Path) -> None:
    from folding import pipeline
    from folding.errors import UsageError
    from folding.options import FoldOptions

    with pytest.raises(UsageError, match="no execution provider called 'cpuu'") as caught:
        pipeline.fold(tmp_path / "not even there.onnx", tmp_path / "a.onnx", FoldOptions(providers=("cpuu",)))
    assert caught.value.error_code == "unknown_provider"
    assert "cuda" in (caught.value.hint or "")
