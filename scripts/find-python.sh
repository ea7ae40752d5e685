#!/bin/sh
# Prints the first Python >= 3.11 on PATH (newest tried last: wheels for a new minor come late).
for candidate in python3.11 python3.12 python3.13 python3 python; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    command -v "$candidate"
    exit 0
  fi
done
echo "bnfold needs Python >= 3.11 on PATH (or: make PYTHON=/path/to/python)" >&2
exit 1
