#!/usr/bin/env bash
# The python of a peer's own environment, made where it is missing: environment.sh NAME prints its path.
# NAME.lock.txt pins what NAME.txt brings along (pip freeze, or uv pip compile); NAME.override, where there is one, replaces versions that
# a peer asks for and PyPI lacks.
# Environments stand in build/peers, some 5 GB each, for tests and for tests/bench/quality/side_by_side.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=build/peers/$1
list=tests/bench/quality/peers/$1.txt lock=tests/bench/quality/peers/$1.lock.txt
if ! cmp -s "$list" "$folder/installed"; then
  echo "making $folder" >&2
  python3 -m venv "$folder" >&2
  install=("$folder/bin/pip" install --quiet --disable-pip-version-check)
  if [[ -e ${list%.txt}.override ]]; then
    "${install[@]}" uv >&2
    install=("$folder/bin/uv" pip install --quiet --python "$folder/bin/python" --override "${list%.txt}.override")
  fi
  "${install[@]}" -r "$list" -c "$lock" >&2
  cp "$list" "$folder/installed"
fi
echo "$folder/bin/python"
