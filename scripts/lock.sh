#!/bin/sh
# Writes constraints/{dev,runtime,docs,cuda}.txt: every dependency pinned and hashed, no registry address.
# Needs `uv` on PATH (or UV=path). Run it after any change of a dependency in pyproject.toml.
set -eu
cd "$(dirname "$0")/.."
UV=${UV:-uv}
# `scripts/lock.sh keep` keeps the pins that are there and adds what is missing.
upgrade=--upgrade
[ "${1:-}" = keep ] && upgrade=
compile() {
  out=$1; shift
  [ -n "$upgrade" ] || cp "$out" "$out.new"
  "$UV" -q pip compile pyproject.toml "$@" --override constraints/overrides.txt --universal \
    --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
    --no-header --no-annotate $upgrade -o "$out.new" >/dev/null
  mv "$out.new" "$out"
}
extras="--extra tensorflow --extra scale --extra oidc --extra build"
compile constraints/dev.txt $extras --extra otel --extra test --extra lint --extra bench --extra mlflow --extra signing \
  --extra sbom --extra docs --extra hub --extra oci
compile constraints/runtime.txt $extras -c constraints/dev.txt

# What builds the documentation site, alone: a stage of the image installs no more.
printf 'mkdocs-material\nmkdocstrings[python]\n' | "$UV" -q pip compile - -c constraints/dev.txt --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate >constraints/docs.txt.new
mv constraints/docs.txt.new constraints/docs.txt

# The CUDA image swaps onnxruntime for onnxruntime-gpu: one package, of the same version, for Linux on x86-64.
version=$(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' constraints/runtime.txt | head -1)
echo "onnxruntime-gpu==$version" | "$UV" -q pip compile - --no-deps --python-version 3.12 --python-platform linux \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate >constraints/cuda.txt.new
mv constraints/cuda.txt.new constraints/cuda.txt
