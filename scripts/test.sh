#!/bin/sh
# test.sh PYTHON [PYTEST ARGUMENTS]: the whole suite in two processes; with arguments, one plain pytest.
# Apart go the tests that only compute. The others begin with what waits a lot and has no clock to meet, so that
# the ones with limits of time (hostile models, crashes, pages) mostly have the machine to themselves.
set -u
python=$1
shift
[ $# -eq 0 ] || exec "$python" -m pytest "$@"

apart="tests/folding tests/golden tests/properties"
first="tests/cli tests/contract tests/docs tests/pipelines tests/web"
output=$(mktemp)
trap 'rm -f "$output"' EXIT
trap 'kill $computing 2>/dev/null; exit 130' INT TERM

# shellcheck disable=SC2086  # lists of words
"$python" -m pytest -p no:cacheprovider $apart >"$output" 2>&1 &
computing=$!
# shellcheck disable=SC2046,SC2086
"$python" -m pytest $first tests $(printf ' --ignore=%s' $apart)
status=$?
wait $computing
apart_status=$?
echo
echo "and, beside it: $apart"
cat "$output"
[ $status -eq 0 ] && [ $apart_status -eq 0 ]
