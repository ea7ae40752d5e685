"""What a verdict rests on: each way to pass, to fail and to be inconclusive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from folding.errors import UsageError
from folding.norms.base import BatchNorm
from folding.ort import OrtSession
from folding.report import Certificate, Verdict
from folding.rules.base import Decision
from folding.verify.pipeline import verify_fold
from folding.verify.verdict import EXACT_LAYERS, LAYERWISE
from tests.unit.folding.verify import nets
from tests.unit.folding.verify.models import FoldOptions, array, check, write

TWICE = "g (float[N,4] x) => (float[N,3] y) { z = MatMul(x, w) y = Concat<axis=0>(z, z) }"
SCALED = "g (float[N,4] x, float[4] s) => (float[N,3] y) { z = Mul(x, s) y = MatMul(z, w) }"
UNSCALED = "g (float[N,4] x, float[4] s) => (float[N,3] y) { y = MatMul(x, w) }"
WIDE = "g (double[N,4] x) => (float[N,3] y) { z = Cast<to=1>(x) y = MatMul(z, w) }"
LINEAR = "g (float[N,4] x) => (float[N,3] y) { y = MatMul(x, w) }"


@pytest.mark.parametrize("kind", list(nets.NETWORKS))
def test_a_correct_fold_passes(kind: str, tmp_path: Path) -> None:
    pair = nets.build(kind, tmp_path, 3)
    found = verify_fold(
        unfolded=pair.unfolded,
        artifact=pair.folded,
        reference=None,
        options=FoldOptions(),
        fold_sites=pair.sites,
    )
    assert found.verdict is Verdict.PASS, found.summary
    assert bool(found)
    levels = {row.optimization_level for row in found.rows if row.provider == "cpu"}
    assert levels == {"disable_all", "enable_all"}
    assert {row.reference for row in found.rows} == {"onnx-unfolded", "float64", LAYERWISE, EXACT_LAYERS}
    assert found.first_divergence is None
    assert len(found.drift) > pair.norms


@pytest.mark.parametrize("fault", nets.FAULTS)
def test_a_wrong_fold_fails_and_the_layer_is_named(fault: str, tmp_path: Path) -> None:
    pair = nets.build("residual", tmp_path, 4, {5: fault})
    found = verify_fold(
        unfolded=pair.unfolded,
        artifact=pair.folded,
        reference=None,
        options=FoldOptions(),
        fold_sites=pair.sites,
    )
    assert found.verdict is Verdict.FAIL
    assert found.first_divergence == pair.sites[5]
    assert pair.sites[5] in found.summary


def test_the_same_seed_gives_the_same_verification(tmp_path: Path) -> None:
    pair = nets.build("mobile", tmp_path, 5)
    first, second = (check(pair.unfolded, pair.folded, seed=9) for _ in range(2))
    assert first == second
    other = check(pair.unfolded, pair.folded, seed=10)
    assert other.probes[0]["digest"] != first.probes[0]["digest"]


def test_probes_are_signed_varied_and_recorded(tmp_path: Path) -> None:
    pair = nets.build("plain", tmp_path, 6)
    found = check(pair.unfolded, pair.folded)
    names = [probe["name"] for probe in found.probes]
    assert {"normal", "mixed-batch", "zeros", "negative", "large", "small", "extremes"} <= set(names)
    assert {p["inputs"]["x"]["shape"][0] for p in found.probes} >= {1, 3}
    assert all(p["digest"].startswith("sha256:") and p["seed"] == 0 for p in found.probes)


def test_dynamic_dimensions_are_tried_at_several_sizes(tmp_path: Path) -> None:
    pair = nets.build("wave", tmp_path, 6)
    found = check(pair.unfolded, pair.folded)
    assert len({p["inputs"]["x"]["shape"][2] for p in found.probes}) >= 2


def test_renamed_outputs_and_changed_inputs_fail(tmp_path: Path) -> None:
    a = write(tmp_path / "a.onnx", LINEAR, w=array(4, 3))
    renamed = "g (float[N,4] x) => (float[N,3] z) { z = MatMul(x, w) }"
    b = write(tmp_path / "b.onnx", renamed, w=array(4, 3))
    found = check(a, b)
    assert found.verdict is Verdict.FAIL
    assert "outputs differ" in found.summary
    c = write(tmp_path / "c.onnx", WIDE,
              w=array(4, 3))  # fmt: skip
    assert check(a, c).verdict is Verdict.FAIL


def test_another_output_shape_fails(tmp_path: Path) -> None:
    a = write(tmp_path / "a.onnx", LINEAR, w=array(4, 3))
    b = write(tmp_path / "b.onnx", TWICE,
              w=array(4, 3))  # fmt: skip
    found = check(a, b)
    assert found.verdict is Verdict.FAIL
    assert "shape" in found.rows[0].outputs[0].tolerance.why


def test_an_artifact_that_does_not_load_fails(tmp_path: Path) -> None:
    a = write(tmp_path / "a.onnx", LINEAR, w=array(4, 3))
    b = write(tmp_path / "b.onnx", "g (float[N,4] x) => (float[N,3] y) { y = MatMul(x, w) }", w=array(5, 3))
    found = check(a, b)
    assert found.verdict is Verdict.FAIL
    assert any("does not load" in row.detail or "probe" in row.detail for row in found.rows)


def test_nan_in_the_artifact_alone_fails(tmp_path: Path) -> None:
    a = write(tmp_path / "a.onnx", "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    b = write(tmp_path / "b.onnx", "g (float[N,4] x) => (float[N,4] y) { z = Sqrt(x) y = Mul(z, z) }")
    found = check(a, b)
    assert found.verdict is Verdict.FAIL
    assert "finite on one side only" in found.rows[0].outputs[0].tolerance.why


def test_outputs_that_react_to_nothing_are_no_evidence(tmp_path: Path) -> None:
    """A dead network: equal outputs prove nothing, even when they are equal."""
    text = (
        "g (float[N,4] x) => (float[N,3] y) { z = Sigmoid(x) h = MatMul(z, w) k = Sub(h, big) y = Relu(k) }"
    )
    tensors = {"w": array(4, 3), "big": np.full(3, 1e4, np.float32)}
    path = write(tmp_path / "a.onnx", text, **tensors)
    found = check(path, path)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "did not change" in found.summary
    assert not any(probe["evidence"] for probe in found.probes)


def test_a_constant_output_passes_with_its_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", "g (float[N,4] x) => (float[3] y) { y = Relu(c) }", c=array(3))
    found = check(path, path)
    assert found.verdict is Verdict.PASS
    assert "do not depend on the inputs" in found.summary


def test_random_operators_are_inconclusive(tmp_path: Path) -> None:
    text = "g (float[2,4] x) => (float[2,4] y) { r = RandomNormalLike<seed=1.0>(x) y = Add(x, r) }"
    path = write(tmp_path / "a.onnx", text)
    found = check(path, path)
    assert found.verdict is not Verdict.PASS


def test_a_required_provider_that_is_absent_is_inconclusive(tmp_path: Path) -> None:
    pair = nets.build("mlp", tmp_path, 1)
    found = check(pair.unfolded, pair.folded, providers=["cpu", "nosuch"], require=["nosuch"])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "required" in found.summary
    rows = [row for row in found.rows if row.provider == "nosuch"]
    assert rows
    assert all(row.status == "unavailable" for row in rows)


def test_an_optional_provider_that_is_absent_passes_with_the_limit_said(tmp_path: Path) -> None:
    pair = nets.build("mlp", tmp_path, 1)
    found = check(pair.unfolded, pair.folded, providers=["cpu", "nosuch"])
    assert found.verdict is Verdict.PASS
    assert "nosuch not checked" in found.summary


def test_only_absent_providers_prove_nothing(tmp_path: Path) -> None:
    pair = nets.build("mlp", tmp_path, 1)
    assert check(pair.unfolded, pair.folded, providers=["nosuch"]).verdict is Verdict.INCONCLUSIVE


def test_a_certificate_that_does_not_hold_fails(tmp_path: Path) -> None:
    pair = nets.build("mlp", tmp_path, 1)
    norm = BatchNorm("bn", "onnx", None, None, (), None, None, None, None, 1e-3, 1, None)
    broken = Certificate(holds=False, max_relative_rounding=1.0, bound=2.0**-24, detail="overflow")
    found = verify_fold(
        unfolded=pair.unfolded,
        artifact=pair.folded,
        reference=None,
        options=FoldOptions(),
        decisions=[Decision(norm, True, certificate=broken)],
    )
    assert found.verdict is Verdict.FAIL
    assert "certificate of 'bn'" in found.summary


def test_user_tolerances_are_used_and_recorded(tmp_path: Path) -> None:
    pair = nets.build("mlp", tmp_path, 1)
    strict = check(pair.unfolded, pair.folded, rtol=0.0, atol=0.0)
    assert strict.verdict is Verdict.FAIL
    loose = check(pair.unfolded, pair.folded, rtol=1e-3, atol=1e-3)
    chosen = loose.rows[0].outputs[0].tolerance
    assert (chosen.rtol, chosen.atol) == (1e-3, 1e-3)
    assert "given by the user" in chosen.why


def test_the_users_own_probe_is_used(tmp_path: Path) -> None:
    pair = nets.build("plain", tmp_path, 1)
    mine = array(5, 3, 16, 16)
    found = check(pair.unfolded, pair.folded, probe={"x": mine})
    assert found.verdict is Verdict.PASS
    assert found.probes[0]["name"] == "user"
    assert found.probes[0]["inputs"]["x"]["shape"] == [5, 3, 16, 16]


@pytest.mark.parametrize("probe", [{}, {"x": array(1, 12), "z": array(1)}, {"x": array(1, 13)}])
def test_a_probe_that_does_not_fit_is_refused(probe: dict, tmp_path: Path) -> None:
    pair = nets.build("mlp", tmp_path, 1)
    if not probe:
        probe = {"q": array(1, 12)}
    with pytest.raises(UsageError) as caught:
        check(pair.unfolded, pair.folded, probe=probe)
    assert caught.value.error_code == "probe_inputs"


class Framework:
    """A source framework: the unfolded graph under another name, or something wrong."""

    name = "framework"
    precision = "float32"

    def __init__(self, path: Path, gain: float = 1.0, broken: bool = False) -> None:
        from folding.ort import OrtSession

        self.session, self.gain, self.broken = OrtSession(path), gain, broken

    def run(self, feeds: dict) -> dict:
        if self.broken:
            raise RuntimeError("no answer")
        return {name: np.float32(self.gain) * value for name, value in self.session.run(feeds).items()}

    def close(self) -> None:
        """Nothing to free."""


def test_the_source_framework_is_a_reference_of_its_own(tmp_path: Path) -> None:
    pair = nets.build("plain", tmp_path, 1)
    found = check(pair.unfolded, pair.folded, reference=Framework(pair.unfolded))
    assert found.verdict is Verdict.PASS
    assert {row.optimization_level for row in found.rows if row.reference == "framework"} == {
        "disable_all",
        "enable_all",
    }


def test_a_framework_that_disagrees_fails(tmp_path: Path) -> None:
    """The conversion before the fold was wrong: unfolded and folded agree with each other only."""
    pair = nets.build("plain", tmp_path, 1)
    found = check(pair.unfolded, pair.folded, reference=Framework(pair.unfolded, gain=1.001))
    assert found.verdict is Verdict.FAIL
    assert "framework" in found.summary


def test_the_step_to_blame_is_said(tmp_path: Path) -> None:
    """Where each layer of the fold agrees, the conversion is at fault, and the summary says so."""
    pair = nets.build("plain", tmp_path, 1)
    found = check(pair.unfolded, pair.folded, reference=Framework(pair.unfolded, gain=1.01))
    assert found.verdict is Verdict.FAIL
    assert "every layer of the fold agrees, so the conversion is to blame" in found.summary
    assert found.first_divergence is None
    wrong = nets.build("plain", tmp_path, 1, {0: "off_by_one"})
    found = check(wrong.unfolded, wrong.folded, reference=Framework(wrong.unfolded))
    assert found.first_divergence
    assert f"first divergence at {found.first_divergence!r}" in found.summary
    assert "to blame" not in found.summary


def test_a_fold_of_unknown_origin_may_round_its_constants_more_than_once(tmp_path: Path) -> None:
    """Weights that are four units off, as several roundings leave them where our own fold makes one."""
    pair = nets.build("plain", tmp_path, 1)
    model = onnx.load_model(str(pair.folded))
    for tensor in model.graph.initializer:
        stored = numpy_helper.to_array(tensor)
        if stored.dtype == np.float32 and stored.ndim == 4:
            tensor.CopyFrom(numpy_helper.from_array(stored * np.float32(1 + 2.0**-22), tensor.name))
    onnx.save_model(model, str(tmp_path / "other.onnx"))
    assert check(pair.unfolded, tmp_path / "other.onnx").verdict is Verdict.PASS
    strict = verify_fold(unfolded=pair.unfolded, artifact=tmp_path / "other.onnx", reference=None,
                         options=FoldOptions(), fold_sites=pair.sites)  # fmt: skip
    assert strict.verdict is Verdict.FAIL  # our own folds round once, and their certificates say so
    wrong = nets.build("plain", tmp_path, 1, {0: "corrupt_channel"})
    assert check(wrong.unfolded, wrong.folded).verdict is Verdict.FAIL


def test_a_judgement_of_a_fold_that_bounds_prove_measures_no_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven sessions, three runs for each probe; what is beyond any execution's rounding pays more."""
    opened: list[OrtSession] = []
    runs: list[OrtSession] = []
    start, run = OrtSession.__init__, OrtSession.run
    monkeypatch.setattr(
        OrtSession, "__init__", lambda self, *a, **k: (opened.append(self), start(self, *a, **k))[1]
    )
    monkeypatch.setattr(OrtSession, "run", lambda self, *a, **k: (runs.append(self), run(self, *a, **k))[1])
    pair = nets.build("plain", tmp_path, 1)
    found = check(pair.unfolded, pair.folded)
    assert found.verdict is Verdict.PASS
    assert found.coverage is not None
    assert found.coverage.bounded == found.coverage.segments
    assert "noise of the source was not measured" in found.rows[0].outputs[0].tolerance.why
    assert len(opened) <= 7
    assert len(runs) <= 3 * len(found.probes) + 8
    assert sum(row.reference == "float64" and row.figures["probes"] == 1 for row in found.rows) == 2
    opened.clear(), runs.clear()
    wrong = nets.build("plain", tmp_path, 1, {0: "corrupt_channel"})
    assert check(wrong.unfolded, wrong.folded).verdict is Verdict.FAIL
    assert len(runs) > 3 * len(found.probes) + 8


def test_a_framework_that_answers_nothing_is_inconclusive(tmp_path: Path) -> None:
    pair = nets.build("plain", tmp_path, 1)
    found = check(pair.unfolded, pair.folded, reference=Framework(pair.unfolded, broken=True))
    assert found.verdict is Verdict.INCONCLUSIVE


def test_an_ill_conditioned_model_passes_for_the_right_reason(tmp_path: Path) -> None:
    """Means of 1e4 cost the source four digits; the fold is nearer to float64 than its source."""
    a, b = ill_conditioned(tmp_path)
    found = check(a, b)
    assert found.verdict is Verdict.PASS, found.summary
    exact = next(
        row for row in found.rows if row.reference == "float64" and row.optimization_level == "disable_all"
    )
    assert exact.figures["artifact_error"] <= exact.figures["source_error"] * 1.5
    assert exact.outputs[0].max_rel < 1e-4


def logarithm_at_silence(folder: Path, spoil: float = 1.0) -> tuple[Path, Path]:
    """On zeros the norm cancels its bias to the last digit, and a logarithm shows what is left of it."""
    weight, bias, gamma = array(8, 3, 3, 3, scale=0.2), array(8, salt=1), 1 + array(8, scale=0.3)
    mean, variance = array(8, salt=2), np.full(8, 0.7, np.float32)
    scale = gamma.astype(float) / np.sqrt(variance.astype(float) + float(np.float32(0.001)))
    beta = (-(bias.astype(float) - mean) * scale).astype(np.float32)
    tail = "s = Mul(n, n) d = Add(s, tiny) r = Relu(n) l = Log(d) y = Add(l, r) }"
    a = write(folder / "a.onnx", f"""g (float[N,3,6,6] x) => (float[N,8,4,4] y) {{
        c = Conv(x, w, b) n = BatchNormalization<epsilon=0.001>(c, g, beta, m, v) {tail}""",
              w=weight, b=bias, g=gamma.astype("f"), beta=beta, m=mean, v=variance,
              tiny=np.float32(1e-20))  # fmt: skip
    folded = weight * (scale * np.where(np.arange(8) == 3, spoil, 1))[:, None, None, None]
    b = write(folder / "b.onnx", f"g (float[N,3,6,6] x) => (float[N,8,4,4] y) {{ n = Conv(x, w, b) {tail}",
              w=folded.astype("f"), b=((bias.astype(float) - mean) * scale + beta).astype("f"),
              tiny=np.float32(1e-20))  # fmt: skip
    return a, b


def test_ill_conditioning_is_told_with_its_probe_layer_and_factor(tmp_path: Path) -> None:
    found = check(*logarithm_at_silence(tmp_path))
    assert found.verdict is Verdict.PASS, found.summary
    (told,) = found.conditioning
    assert (told.probe, told.output, told.layer) == ("zeros", "y", "n")
    assert told.difference > 1e-3
    assert told.factor > 1e3
    (hazard,) = [h for h in found.hazards if h.code == "ill_conditioned"]
    assert "'zeros'" in hazard.detail
    assert "first at 'n' (by a factor of" in hazard.detail
    assert not [h for h in check(*[tmp_path / "a.onnx"] * 2).hazards if h.code == "ill_conditioned"]


def test_a_fault_in_an_ill_conditioned_model_is_no_conditioning(tmp_path: Path) -> None:
    a, b = logarithm_at_silence(tmp_path, spoil=1.001)
    found = verify_fold(unfolded=a, artifact=b, reference=None, options=FoldOptions(), fold_sites=("n",))
    assert found.verdict is Verdict.FAIL
    assert found.first_divergence == "n"
    assert not found.conditioning


def ill_conditioned(folder: Path, spoil: float = 1.0) -> tuple[Path, Path]:
    """Conv with bias 1e4 into a batch norm of mean 1e4: cancels in the source, not in the fold."""
    weight, mean, beta = array(8, 3, 3, 3, scale=0.2), 1e4 + array(8, scale=2.0), array(8)
    bias, gamma, variance = np.full(8, 1e4, np.float32), 1 + array(8, scale=0.3), np.full(8, 0.7, np.float32)
    text = """g (float[N,3,12,12] x) => (float[N,8,?,?] y) {
        c = Conv(x, w, b)
        y = BatchNormalization<epsilon=0.001>(c, gamma, beta, mean, variance) }"""
    scale = gamma.astype(float) / np.sqrt(variance.astype(float) + float(np.float32(0.001)))
    a = write(folder / "a.onnx", text, w=weight, b=bias, gamma=gamma.astype("f"), beta=beta,
              mean=mean.astype("f"), variance=variance)  # fmt: skip
    folded_bias = (bias - mean.astype("f").astype(float)) * scale + beta
    folded = (weight * scale[:, None, None, None]).astype("f")
    folded[3] *= np.float32(spoil)
    b = write(folder / "b.onnx", "g (float[N,3,12,12] x) => (float[N,8,?,?] y) { y = Conv(x, w, b) }",
              w=folded, b=folded_bias.astype("f"))  # fmt: skip
    return a, b


def test_an_ill_conditioned_model_that_is_really_wrong_fails(tmp_path: Path) -> None:
    a, b = ill_conditioned(tmp_path, spoil=1.05)
    assert check(a, b).verdict is Verdict.FAIL


def test_overridable_initializers_must_stay_overridable(tmp_path: Path) -> None:
    """An artifact that took such an input's default into its weights agrees until somebody feeds it."""
    a = write(tmp_path / "a.onnx", SCALED,
              s=np.full(4, 2.0, np.float32), w=array(4, 3))  # fmt: skip
    b = write(tmp_path / "b.onnx", UNSCALED,
              s=np.full(4, 2.0, np.float32), w=2 * array(4, 3))  # fmt: skip
    found = check(a, b)
    assert found.verdict is Verdict.FAIL
    assert "overridden" in {o.worst_probe for row in found.rows for o in row.outputs if not o.passed}
    assert check(a, a).verdict is Verdict.PASS


def test_a_source_that_the_runtime_cannot_load_is_inconclusive(tmp_path: Path) -> None:
    text = 'g (float[2,3] x) => (float[2,3] y) { y = Einsum<equation="ij,jk->ik">(x, w) }'
    path = write(tmp_path / "a.onnx", text, w=array(4, 3))
    found = check(path, path)
    assert found.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("dtype", "kind", "gain"),
    [(np.float16, 10, 1.0), (np.float16, 10, 1.1), (np.float64, 11, 1.0), (np.float64, 11, 1.000001)],
)
def test_other_widths_are_judged_by_their_own_rounding(
    dtype: type, kind: int, gain: float, tmp_path: Path
) -> None:
    """Half precision rounds at 1e-3, double precision at 1e-16: faults are seen above that."""
    name = {10: "float16", 11: "double"}[kind]
    head = f"g ({name}[N,12] x) => ({name}[N,6] y)"
    w, k = array(12, 16, scale=0.3), array(16, 6, scale=0.3)
    gamma, beta, mean, var = (array(16, salt=i).astype(dtype) for i in range(4))
    var = (np.abs(var) + dtype(0.5)).astype(dtype)
    a = write(tmp_path / "a.onnx", head + """ {
        h = MatMul(x, w) n = BatchNormalization(h, gamma, beta, mean, var) r = Relu(n) y = MatMul(r, k) }""",
        w=w.astype(dtype), k=k.astype(dtype), gamma=gamma, beta=beta, mean=mean, var=var)  # fmt: skip
    scale = gamma.astype(float) / np.sqrt(var.astype(float) + float(np.float32(1e-5)))
    folded = w.astype(dtype).astype(float) * scale
    folded[:, 5] *= gain
    bias = (beta.astype(float) - mean.astype(float) * scale).astype(dtype)
    b = write(tmp_path / "b.onnx", head + " { n = Gemm(x, w, c) r = Relu(n) y = MatMul(r, k) }",
              w=folded.astype(dtype), c=bias, k=k.astype(dtype))  # fmt: skip
    found = check(a, b)
    assert found.verdict is (Verdict.PASS if gain == 1.0 else Verdict.FAIL), found.summary


HALVED = "g (float[N,4] x) => (float[N,3] y) { h = Cast<to=16>(x) z = Cast<to=1>(h) y = MatMul(z, w) }"


@pytest.mark.parametrize(("gain", "verdict"), [(1.0, Verdict.PASS), (1.001, Verdict.FAIL)])
def test_inner_values_that_no_array_can_hold_are_not_asked_for(
    tmp_path: Path, gain: float, verdict: Verdict
) -> None:
    """A bfloat16 value between others: the runtime computes it and cannot hand it out."""
    a = write(tmp_path / "a.onnx", HALVED, w=array(4, 3))
    b = write(tmp_path / "b.onnx", HALVED, w=array(4, 3) * np.float32(gain))
    assert check(a, b).verdict is verdict


def test_outputs_whose_size_depends_on_the_data(tmp_path: Path) -> None:
    """A sign that flips changes how many there are: a difference, found and not stumbled over."""
    text = "g (float[N,4] x) => (int64[2,M] y) { z = MatMul(x, w) r = Relu(z) y = NonZero(r) }"
    a = write(tmp_path / "a.onnx", text, w=array(4, 3))
    b = write(tmp_path / "b.onnx", text, w=array(4, 3) * np.array([1, -1, 1], np.float32))
    assert check(a, a).verdict is Verdict.PASS
    assert check(a, b).verdict is Verdict.FAIL


def test_a_mask_of_minus_infinity_is_no_noise(tmp_path: Path) -> None:
    """Attention scores masked with the most negative double: squares of them overflow."""
    text = """g (float[N,4] x, bool[N,3] m) => (float[N,3] y) {
        z = MatMul(x, w) d = Cast<to=11>(z) s = Where(m, d, low) p = Softmax(s) y = Cast<to=1>(p) }"""
    a = write(tmp_path / "a.onnx", text, w=array(4, 3), low=np.float64(-1e300))
    b = write(tmp_path / "b.onnx", text, w=array(4, 3) * np.float32(1.001), low=np.float64(-1e300))
    assert check(a, a).verdict is Verdict.PASS
    assert check(a, b).verdict is Verdict.FAIL


@pytest.mark.parametrize(("gain", "verdict"), [(1.0, Verdict.PASS), (1.01, Verdict.FAIL)])
def test_infinities_in_a_layer_leave_the_rest_of_it_comparable(
    tmp_path: Path, gain: float, verdict: Verdict
) -> None:
    """Padding with minus infinity: its neighbours' limits come from the finite numbers beside it."""
    text = """g (float[1,2,6,6] x) => (float[1,3,7,7] y) {
        p = Pad(x, pads, low) c = Conv(p, w) y = BatchNormalization(c, g, b, m, v) }"""
    folded = "g (float[1,2,6,6] x) => (float[1,3,7,7] y) { p = Pad(x, pads, low) y = Conv(p, f, h) }"
    rest = {"pads": np.array([0, 0, 1, 1, 0, 0, 0, 0]), "low": np.float32(-np.inf)}
    g, b, m, v = array(3), array(3, salt=1), array(3, salt=2), np.abs(array(3, salt=3)) + np.float32(0.1)
    w, scale = array(3, 2, 1, 1), g / np.sqrt(v + np.float32(1e-5))
    f, h = w * scale.reshape(-1, 1, 1, 1) * np.float32(gain), b - m * scale
    source = write(tmp_path / "a.onnx", text, w=w, g=g, b=b, m=m, v=v, **rest)
    artifact = write(tmp_path / "b.onnx", folded, f=f, h=h, **rest)
    assert check(source, artifact).verdict is verdict
