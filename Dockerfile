# syntax=docker/dockerfile:1
# Targets: `cpu` (default) and `cuda`. Small: no compiler, no cache, no root, nothing written outside /data and /tmp.

FROM python:3.12-slim AS site
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints/docs.txt /tmp/docs.txt
RUN pip install --no-deps --require-hashes -r /tmp/docs.txt
WORKDIR /src
COPY mkdocs.yml /src/
COPY docs /src/docs
COPY bnfold /src/bnfold
COPY folding /src/folding
COPY service /src/service
RUN python -m mkdocs build --quiet --strict

FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/bnfold
COPY constraints/runtime.txt /tmp/runtime.txt
RUN /opt/bnfold/bin/pip install --no-deps --require-hashes -r /tmp/runtime.txt
COPY pyproject.toml README.md /src/
COPY bnfold /src/bnfold
COPY folding /src/folding
COPY service /src/service
COPY --from=site /src/service/web/site /src/service/web/site
# The build backend is pinned in the same file; building in isolation would fetch another one.
RUN /opt/bnfold/bin/pip install --no-deps --no-build-isolation /src \
 && find /opt/bnfold -name '__pycache__' -prune -exec rm -rf {} + \
 && find /opt/bnfold -name 'tests' -type d -path '*site-packages*' -prune -exec rm -rf {} +

FROM python:3.12-slim AS cpu
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin bnfold \
 && install -d -o bnfold -g bnfold -m 0750 /data
COPY --from=build /opt/bnfold /opt/bnfold
ENV PATH=/opt/bnfold/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=3 \
    ORT_DISABLE_TELEMETRY=1 \
    BNFOLD_DATA_DIR=/data
USER 10001:10001
VOLUME ["/data"]
EXPOSE 8750
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8750/livez', timeout=4)"]
ENTRYPOINT ["bnfold"]
CMD ["serve", "--host", "0.0.0.0"]

# onnxruntime-gpu as published is built for CUDA 13 and cuDNN 9; the host needs a driver of R580 or newer.
FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS cuda
RUN apt-get update \
 && apt-get install --no-install-recommends -y python3.12 python3.12-venv \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin bnfold \
 && install -d -o bnfold -g bnfold -m 0750 /data
COPY --from=build /opt/bnfold /opt/bnfold
COPY constraints/cuda.txt /tmp/cuda.txt
# onnxruntime and onnxruntime-gpu own the same import package: one goes before the other comes, same version.
RUN ln -sf /usr/bin/python3.12 /opt/bnfold/bin/python3.12 \
 && ln -sf python3.12 /opt/bnfold/bin/python3 && ln -sf python3.12 /opt/bnfold/bin/python \
 && /opt/bnfold/bin/python -m pip uninstall -y onnxruntime \
 && /opt/bnfold/bin/python -m pip install --no-cache-dir --no-deps --require-hashes -r /tmp/cuda.txt \
 && rm /tmp/cuda.txt
ENV PATH=/opt/bnfold/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=3 \
    ORT_DISABLE_TELEMETRY=1 \
    BNFOLD_DATA_DIR=/data \
    BNFOLD_POOLS=cpu,cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
VOLUME ["/data"]
EXPOSE 8750
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8750/livez', timeout=4)"]
ENTRYPOINT ["bnfold"]
CMD ["serve", "--host", "0.0.0.0"]
