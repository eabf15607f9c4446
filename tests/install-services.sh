#!/usr/bin/env bash
# What tests need besides Python: PostgreSQL's server, to publish to; with `browser`, Chromium and its driver.
# Installs what is not found, where we may.
#   tests/install-services.sh [browser]
set -euo pipefail

ensure() {  # what it is, Debian packages
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "== installing $1 for the tests"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $2 >/dev/null
  else
    echo "$1 is needed by the tests: install $2$3" >&2
    exit 1
  fi
}

if [ "${1:-}" = browser ]; then
  # A page in Chinese is boxes without a font for it.
  command -v chromedriver >/dev/null || ensure "Chromium" "chromium chromium-driver fonts-noto-cjk" ""
elif ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && ! command -v initdb >/dev/null && [ -z "${DONGCHA_TEST_POSTGRES_URL:-}" ]; then
  ensure "PostgreSQL's server (initdb)" postgresql ", or set DONGCHA_TEST_POSTGRES_URL"
fi
