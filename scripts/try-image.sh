#!/bin/sh
# Builds the CPU image and tries it as docker-compose.yml runs it: what the sandbox reaches inside, a fold on the
# command line and one over HTTP, the health check, a polite end. Needs an engine and Python, nothing else.
#   ENGINE      docker (default), podman, or either with options
#   BUILD_ARGS  for `build`; RUN_ARGS for every `run` (a seccomp profile, ulimits)
# shellcheck disable=SC2086  # options are words
set -eu
cd "$(dirname "$0")/.."
ENGINE=${ENGINE:-docker}
IMAGE=bnfold:cpu
NAME=bnfold-try-$$
HARDENED="--read-only --cap-drop ALL --security-opt no-new-privileges --pids-limit 2048
  --tmpfs /tmp:mode=1777,size=2g --network none -v $PWD/examples:/examples:ro"

run() { $ENGINE run ${RUN_ARGS:-} "$@"; }
inside() { $ENGINE exec "$NAME" "$@"; }
ask() { python3 -c "import json, sys; it = json.load(sys.stdin); print($1)"; }
trap '$ENGINE rm -f "$NAME" >/dev/null 2>&1 || true' EXIT

$ENGINE build ${BUILD_ARGS:-} --target cpu -t "$IMAGE" .

echo "what the canary finds, without further options"
for user in 10001 0; do
  level=$(run --rm --user "$user" "$IMAGE" doctor --json |
    ask 'next(check["found"] for check in it["checks"] if check["name"] == "sandbox")')
  echo "  user $user: $level"
  case $level in strong | full) ;; *) echo "expected: strong"; exit 1 ;; esac
done

echo "a fold on the command line, hardened"
run --rm $HARDENED "$IMAGE" fold /examples/tf1_checkpoint/model.ckpt -o /data/folded.onnx --json |
  ask '"  " + it["verdict"] + ", " + it["sandbox"]'

echo "the service, hardened"
run -d --name "$NAME" $HARDENED "$IMAGE" serve --host 127.0.0.1 >/dev/null
health=$(python3 -c 'import json, re
print(json.loads(re.search(r"HEALTHCHECK.*?CMD (\[.*?\])\n", open("Dockerfile").read(), re.DOTALL)[1])[2])')
tries=0
until inside python -c "$health" 2>/dev/null; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { echo "the health check never answered"; exit 1; }
  sleep 0.5
done
inside bnfold submit /examples/tf1_checkpoint --wait -o /data/served.onnx --json | ask '"  " + it["state"]'
$ENGINE stop -t 40 "$NAME" >/dev/null
code=$($ENGINE inspect "$NAME" --format '{{.State.ExitCode}}')
echo "  ended by SIGTERM with $code"
[ "$code" = 0 ] || exit 1
echo "ok"
