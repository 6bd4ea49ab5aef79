"""What verification and the journal cost a GPTQ run, beside their goals: 10 % and 3 % of its time.

    build/venv/bin/python tests/bench/safety/cost.py [--model DIR] [--rounds N] [--samples N] [--rows N] [--threads N] [--set key=value]...

Each round is a run with a journal and one with --no-journal, in turns who goes first, so that a machine that slows down burdens
both. Of each run `report.json` has the stages' seconds: verification is that of `verify`, and of `verify` and `evaluate` together
(the forward pass on held-out text is part of the gate: --rows of 512 tokens are enough for that, 16 by default; for the report's
perplexity the recipes evaluate all of their text, --rows 0), over all of the run's other stages; the journal is the difference of the
stages without those two, over the run without one. Reported are medians over the rounds, and each round's figures for their
spread: with other programs beside it a difference of 3 % needs many rounds. Exit code 1 where a goal is missed.
"""
import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
GOALS = {"verify": 0.10, "verify and evaluate": 0.10, "journal": 0.03}


def stages(args, output, flags):
    words = [args.quantize, "--recipe", ROOT / "recipes/gptq.yaml", "--output", output, "--device", args.device, "--overwrite", "--quiet",
             "--set", f"calibration.samples={args.samples}", "--set", f"evaluate.rows={args.rows}", *flags]
    if args.threads:
        words += ["--threads", str(args.threads)]
    if args.model:
        words += ["--model", args.model]
    for value in args.set:
        words += ["--set", value]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(done.stderr)
    report = json.loads((output / "report.json").read_text())
    return {stage["name"]: stage["seconds"] for stage in report["stages"]}


def work(found):
    """Seconds of all but the checks at the end."""
    return sum(seconds for name, seconds in found.items() if name not in ("verify", "evaluate"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantize", type=pathlib.Path, default=ROOT / "build/bin/quantize")
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lathe-safety."))
    costs = {name: [] for name in GOALS}
    print(f"{'':<10}{'run':>10}{'verify':>10}{'evaluate':>10}{'run without a journal':>24}")
    try:
        for number in range(args.rounds):
            kinds = [[], ["--no-journal"]]
            found = [stages(args, folder / "out", flags) for flags in (kinds if number % 2 == 0 else kinds[::-1])]
            kept, plain = found if number % 2 == 0 else found[::-1]
            evaluate = kept.get("evaluate", 0.0)
            costs["verify"].append(kept["verify"] / work(kept))
            costs["verify and evaluate"].append((kept["verify"] + evaluate) / work(kept))
            costs["journal"].append(work(kept) / work(plain) - 1)
            print(f"{f'round {number + 1}':<10}{work(kept):>9.2f}s{kept['verify']:>9.2f}s{evaluate:>9.2f}s{work(plain):>23.2f}s", flush=True)
    finally:
        shutil.rmtree(folder)
    missed = False
    for name, values in costs.items():
        cost, goal = statistics.median(values), GOALS[name]
        missed |= cost > goal
        print(f"{name:<20}{cost:>8.2%} of the run ({min(values):.2%} to {max(values):.2%}), goal {goal:.0%}: "
              f"{'kept' if cost <= goal else 'missed'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
