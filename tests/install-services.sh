#!/usr/bin/env bash
# Tests publish to a real PostgreSQL: install its server where none is found and we may.
set -euo pipefail
if compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || [ -n "${DONGCHA_TEST_POSTGRES_URL:-}" ]; then
  exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "== installing PostgreSQL for the tests"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
else
  echo "PostgreSQL's server (initdb) is needed by the tests: install it, or set DONGCHA_TEST_POSTGRES_URL" >&2
  exit 1
fi
