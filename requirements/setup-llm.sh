#!/usr/bin/env bash
# Makes .venv-llm, the environment of the LLM server, from requirements/llm.txt. Does nothing where it is up to date.
#   requirements/setup-llm.sh
# Needs .venv (it brings uv). torch's CPU build is not on PyPI: it is looked for in the folder or page that PIP_FIND_LINKS
# names, where that is set, and otherwise in whatever package index uv is configured with (UV_INDEX, UV_FIND_LINKS).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=.venv/bin/uv
venv=.venv-llm
stamp=$venv/.dongcha-lock
say() { printf '[setup-llm] %s\n' "$*"; }

[ -x "$uv" ] || { say "error: $uv is missing; run 'make setup'" >&2; exit 1; }
wanted=$(cat requirements/llm.txt requirements/vllm-name/pyproject.toml "$0" | sha256sum | cut -d' ' -f1)
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
  say "$venv is up to date"
  exit 0
fi

links=()
[ -z "${PIP_FIND_LINKS:-}" ] || links=(--find-links "$PIP_FIND_LINKS")
started=$SECONDS
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python 3.11 "$venv"
rm -f "$stamp"
say "installing $(grep -c '^[a-z]' requirements/llm.txt) packages into $venv (about 1 GB to fetch the first time)"
if ! "$uv" pip sync --require-hashes "${links[@]}" --python "$venv/bin/python" requirements/llm.txt; then
  say "error: could not install the LLM server's packages. If torch==2.13.0+cpu was not found, point PIP_FIND_LINKS at" >&2
  say "       a folder or page that holds PyTorch's CPU wheels, or UV_INDEX at PyTorch's CPU package index." >&2
  exit 1
fi
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp requirements/vllm-name/pyproject.toml "$copy"
"$uv" pip install --quiet --no-deps --no-index --no-build-isolation --python "$venv/bin/python" "$copy"
printf '%s\n' "$wanted" >"$stamp"
say "$venv is ready ($((SECONDS - started)) s)"
