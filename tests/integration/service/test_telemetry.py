"""Traces behind the extra: a request and the job that it queues share one; nothing happens without it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import deployment, eventually, http
from tests.support.in_process import orders


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_request_and_job_share_a_trace(tmp_path: Path, collector: tuple[str, list[bytes]]) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    endpoint, got = collector
    trace = "0af7651916cd43dd8448eb211c80319c"
    env = {"BNFOLD_OTEL_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with deployment(tmp_path, **env) as made, http(made.api()) as client:
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        client.post("/v1/fold", content=orders(), headers=headers)

        def spans() -> dict[str, str]:
            found = {}
            for body in list(got):
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        found |= {span.name: span.trace_id.hex() for span in scope.spans}
            return found

        seen = eventually(lambda: (s := spans()).keys() >= {"/v1/fold", "job fold"} and s, 20, "both spans")
        assert seen["/v1/fold"] == seen["job fold"] == trace
