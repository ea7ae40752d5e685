#!/bin/sh
# make-venv.sh PYTHON FOLDER: a virtual environment with pip, also where the distribution ships no ensurepip.
set -eu
python=$1
venv=$2
[ -n "$python" ] || { echo "no Python >= 3.11 found" >&2; exit 1; }
if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
  rm -rf "$venv"
  "$python" -m venv --without-pip "$venv"
  "$python" -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check pip
fi
"$venv/bin/python" -m pip --version
