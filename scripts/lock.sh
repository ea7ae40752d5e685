#!/bin/sh
# Writes constraints/{dev,runtime}.txt: every dependency pinned and hashed, no registry address.
# Needs `uv` on PATH (or UV=path). Run it after any change of a dependency in pyproject.toml.
set -eu
cd "$(dirname "$0")/.."
UV=${UV:-uv}
compile() {
  out=$1; shift
  "$UV" -q pip compile pyproject.toml "$@" --override constraints/overrides.txt --universal \
    --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
    --no-header --no-annotate --upgrade >"$out.new"
  mv "$out.new" "$out"
}
extras="--extra tensorflow --extra scale --extra build"
compile constraints/dev.txt $extras --extra otel --extra test --extra lint --extra bench --extra mlflow --extra signing
compile constraints/runtime.txt $extras -c constraints/dev.txt
