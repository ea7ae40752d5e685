"""Typed client of the service: submit, follow, wait, pull, release. The command line uses nothing else.

with Client("http://127.0.0.1:8750", key=None) as client:
    job = client.submit(Path("model.h5"))
    job = client.wait(job.id)
    client.pull(job.artifact.digest, Path("model.onnx"))
"""

from service.client.client import Client
from service.client.transfer import header_digest, packed
from service.client.views import Blob, Job, Release, ServerEvent

__all__ = ["Blob", "Client", "Job", "Release", "ServerEvent", "header_digest", "packed"]
