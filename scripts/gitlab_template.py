"""Writes templates/fold/template.yml: the GitLab component, with deploy/ci/step.py inside it.

A component is one file, and a runner that uses it has no clone of this repository; so the step travels in the
template. tests/unit/docs compares the two.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "templates" / "fold" / "template.yml"

HEAD = """\
# GitLab CI/CD component: fold a trained model, fail unless the result is proved equivalent.
# Written by scripts/gitlab_template.py; the step itself is deploy/ci/step.py.
spec:
  inputs:
    model:
      description: The model, a file or a folder.
    url:
      description: Address of the bnfold service.
    options:
      description: Options of the fold as JSON.
      default: "{}"
    out:
      description: Where the artifact goes.
      default: model.onnx
    calibration:
      description: An .npz with calibration data.
      default: ""
    probe:
      description: An .npz with your own verification inputs.
      default: ""
    stage:
      default: test
    image:
      description: Any image with Python >= 3.9.
      default: python:3.12-slim
    timeout:
      default: "3600"
---
bnfold-fold:
  stage: $[[ inputs.stage ]]
  image: $[[ inputs.image ]]
  variables:
    # The key comes from a masked CI/CD variable BNFOLD_KEY.
    BNFOLD_MODEL: $[[ inputs.model ]]
    BNFOLD_URL: $[[ inputs.url ]]
    BNFOLD_OPTIONS: '$[[ inputs.options ]]'
    BNFOLD_OUT: $[[ inputs.out ]]
    BNFOLD_CALIBRATION: "$[[ inputs.calibration ]]"
    BNFOLD_PROBE: "$[[ inputs.probe ]]"
    BNFOLD_REPORTS: bnfold-reports
    BNFOLD_TIMEOUT: "$[[ inputs.timeout ]]"
    BNFOLD_DOTENV: bnfold.env
  script:
    - |
      python3 - <<'BNFOLD_STEP'
"""

TAIL = """\
      BNFOLD_STEP
  artifacts:
    when: always
    paths:
      - bnfold-reports/
      - $[[ inputs.out ]]
    reports:
      junit: bnfold-reports/junit.xml
      dotenv: bnfold.env
"""


def text() -> str:
    """The template."""
    step = (ROOT / "deploy" / "ci" / "step.py").read_text().splitlines()
    return HEAD + "".join(f"      {line}\n" if line else "\n" for line in step) + TAIL


if __name__ == "__main__":
    OUT.parent.mkdir(parents=True, exist_ok=True)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if OUT.read_text() == text() else 1)
    OUT.write_text(text())
