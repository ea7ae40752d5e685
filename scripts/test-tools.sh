#!/bin/sh
# test-tools.sh STAMP: installs Chromium (browser tests), PostgreSQL (engine tests) and an OCI registry where apt and root
# are at hand. Without them those tests skip and say why; this script then says the same and succeeds.
set -u
stamp=$1
[ -e "$stamp" ] && exit 0

missing=""
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
command -v pg_ctl >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/pg_ctl >/dev/null 2>&1 || missing="$missing postgresql"
command -v docker-registry >/dev/null 2>&1 || missing="$missing docker-registry"
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing for the tests:$missing"
    apt-get update -qq >/dev/null 2>&1
    for package in $missing; do
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
        { echo "could not install $package: its tests will skip"; failed=yes; }
    done
    [ -z "${failed:-}" ] || exit 0
  else
    echo "not installed and no way to install:$missing (its tests will skip)"
    exit 0
  fi
fi
touch "$stamp"
