"""What the plan says that a run takes, beside what it then takes.

    build/venv/bin/python tests/bench/plan/run_time.py [--model DIR] [--recipes awq gptq ...] [--threads N] [--set key=value]...

For each shipped recipe: `--dry-run --json` right before the run and right after it, and the run between them, its wall time
(without starting the program) and its processor time. Where a run measures groups first, the plan after it has that part of the plan
before; `sensitivity` is `quantize sensitivity`, which only measures. Other programs beside it lengthen both sides, and not at the same
moment: with --threads 1 processor time is what the machine alone would take, and --plans 5 takes each stage of the plan five times and
keeps the least. Stages are printed with --stages.
"""
import argparse
import json
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
RECIPES = ["rtn", "gptq", "awq", "hqq", "smoothquant", "spqr", "gguf", "fp8-dynamic", "fp8-static", "kv-fp8", "kv-kivi", "kv-kvquant", "kv-skvq", "sensitivity",
           "mixed-4.25bpw"]
# The plan's stages under the name that report.json has for them together.
STAGE = {"verify": "verify", "evaluate": "evaluate"}
MEASURE = "measure sensitivity"


def command(args, recipe, output):
    line = [args.quantize, *(["sensitivity"] if recipe == "sensitivity" else []),
            "--recipe", ROOT / "recipes" / f"{recipe}.yaml", "--output", output, "--device", args.device]
    if args.threads:
        line += ["--threads", str(args.threads)]
    if args.model:
        line += ["--model", args.model]
    for value in args.set:
        line += ["--set", value]
    return [str(word) for word in line]


def plan(line):
    """Its stages, each under the report's name for it; and how long that took."""
    start = time.monotonic()
    done = subprocess.run(line + ["--dry-run", "--json"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(done.stderr)
    told = json.loads(done.stdout)
    measuring = told if "variants" in told else told.get("measuring")  # whose stages are the first ones
    measured = len(measuring["work"]["stages"]) if measuring else 0
    stages = [{**stage, "group": MEASURE if i < measured else STAGE.get(stage["name"], "quantise")}
              for i, stage in enumerate(told["work"]["stages"])]
    return stages, time.monotonic() - start


def least_plan(line, times):
    """Of so many plans each stage as the fastest one has it, and how long one took."""
    plans = [plan(line) for _ in range(times)]
    stages = [min(same, key=lambda stage: stage["seconds"]) for same in zip(*(stages for stages, _ in plans))]
    return stages, min(took for _, took in plans)


def seconds_of(stages):
    return sum(stage["seconds"] for stage in stages)


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(line, output):
    before = processor_seconds()
    done = subprocess.run(line + ["--quiet", "--overwrite"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(done.stderr)
    measured = output / "sensitivity.md"
    if measured.exists():
        seconds = re.search(rf"^\| {MEASURE} \| ([0-9.]+) s \|$", measured.read_text(), re.MULTILINE).group(1)
        return {MEASURE: float(seconds)}, processor_seconds() - before
    report = json.loads(min(output.glob("**/report.json")).read_text())  # of several formats each has one, of the same run
    return {stage["name"]: stage["seconds"] for stage in report["stages"]}, processor_seconds() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantize", type=pathlib.Path, default=ROOT / "build/bin/quantize")
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--plans", type=int, default=1)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--stages", action="store_true")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lathe-plan."))
    print(f"{'recipe':<14}{'FLOPs':>10}{'planned':>10}{'again':>9}{'run':>9}{'planned/run':>13}{'processor':>11}{'planned/it':>11}"
          f"{'plan took':>11}")
    try:
        for recipe in args.recipes:
            line = command(args, recipe, folder / recipe)
            before, took = least_plan(line, args.plans)
            stages, processor = run(line, folder / recipe)
            after, _ = least_plan(line, args.plans)
            if MEASURE in stages and "quantise" in stages:
                measuring = [stage for stage in before if stage["group"] == MEASURE]
                if len(measuring) == len(before):  # nothing is planned of a mixture that isn't known
                    before = measuring + after
                after = measuring + after
            flops, planned, seconds = sum(stage["flops"] for stage in before), seconds_of(before), sum(stages.values())
            print(f"{recipe:<14}{flops:>10.2e}{planned:>9.1f}s{seconds_of(after):>8.1f}s{seconds:>8.1f}s"
                  f"{planned / seconds:>13.2f}{processor:>10.1f}s{planned / processor:>11.2f}{took:>10.2f}s", flush=True)
            if not args.stages:
                continue
            groups = {}
            for stage in before:
                groups[stage["group"]] = groups.get(stage["group"], 0) + stage["seconds"]
                print(f"    {stage['name']:<32}{stage['flops']:>10.2e}{stage['seconds']:>9.2f}s")
            for group, expected in groups.items():
                print(f"    {group + ':':<32}planned {expected:.2f} s, took {stages.get(group, 0):.2f} s", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
