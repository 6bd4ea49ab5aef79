"""Runs the steps of tests/bench/gpu.sh one after another within a limit of time, and writes the results."""
import argparse
import os
import pathlib
import sys
import time

import bench
import build
import compare
import consumers
import gpu_tests
import grids
import machine
import pack
import results
import sanitizer
import solvers
from steps import Skipped, Step

MINUTES = 9.5
ROOT = pathlib.Path(__file__).resolve().parents[3]
# One row a step: its name, its longest time in seconds, what it does.
STEPS = [
    ("build", 330, build.run),
    ("tests labelled gpu", 120, gpu_tests.run),
    ("logits, CPU and GPU", 90, compare.logits),
    ("artefacts, CPU and GPU", 180, compare.artefacts),
    ("consumers' kernels", 60, consumers.run),
    ("solvers", 90, solvers.run),
    ("grids", 40, grids.run),
    ("benchmarks", 300, bench.run),
    ("compute-sanitizer", 150, sanitizer.run),
]


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="tests/bench/gpu.sh", description="Builds, tests and measures Lathe on a machine with a GPU; no network needed.")
    parser.add_argument("--pack", action="store_true", help="gather in build/gpu-pack what the other machine lacks, and stop")
    parser.add_argument("--no-gpu", action="store_true", help="a rehearsal on the CPU; what needs a GPU is skipped")
    parser.add_argument("--prebuilt", action="store_true", help="don't build: take the programs that were packed")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and with what")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the results (default: $OUT if set, else build/gpu)")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "gpu", help="folder to build in (default: build/gpu)")
    parser.add_argument("--architectures", default="90", help="CUDA architectures to build for, as CMake spells them (default: 90)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="compilers at a time (default: one a core)")
    parser.add_argument("--step", action="append", help="do these alone, after the build (a word of their names; default: all)")
    parser.add_argument("--minutes", type=float, default=MINUTES,
                        help=f"the limit of time for everything; those of the steps follow (default: {MINUTES})")
    arguments = parser.parse_args()
    if arguments.jobs < 1 or arguments.minutes <= 0:
        parser.error("--jobs and --minutes must be positive")
    unknown = [word for word in arguments.step or () if not any(word in name for name, _, _ in STEPS)]
    if unknown:
        parser.error(f"--step {unknown[0]}: expected a word of {', '.join(name for name, _, _ in STEPS)}")
    arguments.out = arguments.out or pathlib.Path(os.environ.get("OUT") or ROOT / "build" / "gpu")
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.pack:
        return pack.run(ROOT)
    deadline = time.monotonic() + arguments.minutes * 60
    here = machine.describe(ROOT, arguments.no_gpu)
    if not here["torch"]:
        print("gpu.sh: no torch in this Python (set PYTHON to one that has it)", file=sys.stderr)
        return 2
    if not here["gpu"] and not arguments.no_gpu:
        print(f"gpu.sh: no GPU: {here['no_gpu']} (--no-gpu rehearses on the CPU)", file=sys.stderr)
        return 2
    words = ["build", *arguments.step] if arguments.step else [""]
    plan = [(name, limit * arguments.minutes / MINUTES, work) for name, limit, work in STEPS if any(word in name for word in words)]
    if arguments.dry_run:
        print(results.describe_plan(plan, arguments, here, ROOT))
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    context = build.Context(ROOT, arguments, here)
    done = []
    for name, limit, work in plan:
        step = Step(name, min(limit, deadline - time.monotonic()))
        print(f"== {name}", flush=True)
        step.run(work, context)
        print(f"   {step.status} after {step.seconds:.0f} s{': ' + step.reason if step.reason else ''}", flush=True)
        done.append(step)
        results.write(arguments.out, here, done, context.logs)  # after each step: a machine that is taken away leaves what was done
    print(results.as_markdown(here, done))
    return 1 if any(step.status == "failed" for step in done) else 0


if __name__ == "__main__":
    sys.exit(main())
