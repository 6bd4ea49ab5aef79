#!/usr/bin/env bash
# What Lathe does on a machine with a GPU, in one command of less than ten minutes; no network, no root, no packages but a
# Python with torch (the libtorch that Lathe is built against), CMake, ninja, a C++ compiler and nvcc. It builds, runs the
# tests labelled `gpu`, compares the CPU with the GPU, runs the GPU benchmarks and writes results.json and results.md.
#
#     tests/bench/gpu.sh --pack          here: gathers in build/gpu-pack what the other machine lacks (see tests/bench/README.md)
#     tests/bench/gpu.sh                 there: all of it; results go to $OUT if set, else build/gpu
#     tests/bench/gpu.sh --no-gpu        anywhere: a rehearsal on the CPU; what needs a GPU is skipped, with the reason
#     tests/bench/gpu.sh --dry-run       says what would be done, and with what
#
# PYTHON names the Python to use; else python3 if it has torch, else build/venv's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

has_torch() { command -v "$1" >/dev/null && "$1" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' 2>/dev/null; }
if [[ -z ${PYTHON:-} ]]; then
  PYTHON=python3
  has_torch python3 || ! has_torch build/venv/bin/python || PYTHON=build/venv/bin/python
fi
export PYTHONDONTWRITEBYTECODE=1
exec "$PYTHON" tests/bench/gpu/main.py "$@"
