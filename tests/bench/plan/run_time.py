"""What the plan says that a run takes, beside what it then takes.

    build/venv/bin/python tests/bench/plan/run_time.py [--model DIR] [--recipes awq gptq ...] [--threads N] [--set key=value]...

For each shipped recipe: `--dry-run --json` right before the run and right after it, and the run between them, its wall time
(without starting the program) and its processor time. Other programs beside it lengthen both sides, and not at the same moment:
with --threads 1 processor time is what the machine alone would take. Stages are printed with --stages.
"""
import argparse
import json
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
RECIPES = ["rtn", "gptq", "awq", "hqq", "smoothquant", "spqr"]
# The plan's stages under the name that report.json has for them together.
STAGE = {"verify": "verify", "evaluate": "evaluate"}


def command(args, recipe, output):
    line = [args.quantize, "--recipe", ROOT / "recipes" / f"{recipe}.yaml", "--output", output, "--device", args.device]
    if args.threads:
        line += ["--threads", str(args.threads)]
    if args.model:
        line += ["--model", args.model]
    for value in args.set:
        line += ["--set", value]
    return [str(word) for word in line]


def plan(line):
    start = time.monotonic()
    done = subprocess.run(line + ["--dry-run", "--json"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)["work"], time.monotonic() - start


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(line, output):
    before = processor_seconds()
    done = subprocess.run(line + ["--quiet", "--overwrite"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(done.stderr)
    report = json.loads((output / "report.json").read_text())
    return {stage["name"]: stage["seconds"] for stage in report["stages"]}, processor_seconds() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantize", type=pathlib.Path, default=ROOT / "build/bin/quantize")
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--stages", action="store_true")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lathe-plan."))
    print(f"{'recipe':<14}{'FLOPs':>10}{'planned':>10}{'again':>9}{'run':>9}{'planned/run':>13}{'processor':>11}{'plan took':>11}")
    try:
        for recipe in args.recipes:
            line = command(args, recipe, folder / recipe)
            work, took = plan(line)
            stages, processor = run(line, folder / recipe)
            again, _ = plan(line)
            seconds = sum(stages.values())
            print(f"{recipe:<14}{work['flops']:>10.2e}{work['seconds']:>9.1f}s{again['seconds']:>8.1f}s{seconds:>8.1f}s"
                  f"{work['seconds'] / seconds:>13.2f}{processor:>10.1f}s{took:>10.2f}s", flush=True)
            if not args.stages:
                continue
            planned = {}
            for stage in work["stages"]:
                group = STAGE.get(stage["name"], "quantise")
                planned[group] = planned.get(group, 0) + stage["seconds"]
                print(f"    {stage['name']:<22}{stage['flops']:>10.2e}{stage['seconds']:>9.2f}s")
            for group, planned_seconds in planned.items():
                print(f"    {group + ':':<22}planned {planned_seconds:.2f} s, took {stages.get(group, 0):.2f} s", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
