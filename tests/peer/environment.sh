#!/usr/bin/env bash
# The python of a peer's own environment, made where it is missing: environment.sh NAME prints its path.
# Environments stand in build/peers, some 5 GB each, as tests/bench/quality/side_by_side.py makes them, from the same pinned lists.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=build/peers/$1
list=tests/bench/quality/peers/$1.txt
if ! cmp -s "$list" "$folder/installed"; then
  echo "making $folder" >&2
  python3 -m venv "$folder" >&2
  "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$list" >&2
  cp "$list" "$folder/installed"
fi
echo "$folder/bin/python"
