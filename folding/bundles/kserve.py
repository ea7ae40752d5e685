"""A KServe deployment: the files for the storage URI, and the InferenceService that points there.

    <name>/inferenceservice.yaml         apply this
    <name>/models/<name>/config.pbtxt    put the contents of models/ where storageUri says
    <name>/models/<name>/1/model.onnx

KServe serves ONNX with its Triton runtime (`kserve-tritonserver`), which reads a model repository: the folder
at the storage URI holds a folder for each model.
"""

from __future__ import annotations

import json
import re

from folding.bundles import triton
from folding.bundles.base import Contents, Member

KIND = "kserve"
TITLE = "KServe: storage layout and InferenceService"

_LONGEST_LABEL = 63  # of a DNS label, which names of Kubernetes objects are
_SERVICE = """\
# Put the contents of models/ where storageUri points, then: kubectl apply -f inferenceservice.yaml
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {service}
  annotations:
    bnfold.digest: {digest}
    bnfold.headline: {headline}
spec:
  predictor:
    minReplicas: 1
    model:
      modelFormat:
        name: triton
      runtime: kserve-tritonserver
      protocolVersion: v2
      storageUri: {uri}
      resources:
        requests: {{cpu: "1", memory: 2Gi}}
        limits: {{cpu: "2", memory: 4Gi}}
"""


def members(contents: Contents) -> list[Member]:
    """Return the InferenceService and the model repository."""
    service = service_text(contents).encode()
    repository = (part.at(f"{contents.name}/models/{part.path}") for part in triton.members(contents))
    return [Member.of(f"{contents.name}/inferenceservice.yaml", service), *repository]


def service_text(contents: Contents) -> str:
    """Return the InferenceService as YAML. Every text in it is quoted as JSON, which YAML reads."""
    headline = contents.headline.title if contents.headline is not None else ""
    return _SERVICE.format(
        service=json.dumps(label(contents.name)),
        digest=json.dumps(contents.digest),
        headline=json.dumps(headline),
        uri=json.dumps(contents.storage_uri or f"pvc://models/{contents.name}"),
    )


def label(name: str) -> str:
    """Return the name as a DNS label that begins with a letter.

    >>> label("ResNet_50.v2"), label("2024")
    ('resnet-50-v2', 'model-2024')
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"
    plain = plain if plain[0].isalpha() else f"model-{plain}"
    return plain[:_LONGEST_LABEL].rstrip("-")
