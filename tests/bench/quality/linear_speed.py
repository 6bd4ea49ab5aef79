"""One linear of 4096 x 4096, Lathe's solvers beside the peers' own code: linear_speed.py [--size N] [--rounds N]

Each round runs every program once, one after the other; ratios are of neighbours in time (medians over the rounds), in wall
time and in CPU time. Peers run in the environments of side_by_side.py. The peers' GPTQ takes each group's extremes for its range,
as ours does with `range: minmax`; ours by default searches it, which the second rows count in.
"""
import argparse
import json
import pathlib
import statistics
import subprocess

from side_by_side import HERE, ROOT, environment

CASES = [("gptq", ["--range", "minmax"], "llmc"), ("gptq", ["--range", "minmax"], "gptqmodel"), ("gptq", [], "llmc"),
         ("gptq", [], "gptqmodel"), ("hqq", [], "hqq")]


def run_json(words, cwd=ROOT):
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          cwd=cwd, check=True)
    return done.stdout


def ours(args, solver, options):
    words = [ROOT / args.bench, "--only", solver, *options, "--size", args.size, "--group", args.group, "--rounds", 1, "--json", "-"]
    return json.loads(run_json(words))["algorithms"][0]


def theirs(args, tool):
    words = [environment(tool), HERE / "peers/linear.py", "--tool", tool, "--shape", f"{args.size}x{args.size}", "--group", args.group]
    return json.loads(run_json(words, ROOT / "build/peers").strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description="One linear, Lathe's solvers beside the peers' own code")
    parser.add_argument("--bench", type=pathlib.Path, default=pathlib.Path("build/bin/bench_algorithms"))
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--group", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print("| solver, peer | Lathe wall s | peer wall s | peer / Lathe, wall | CPU | Lathe / bound |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for solver, options, tool in CASES:
        pairs = [(ours(args, solver, options), theirs(args, tool)) for _ in range(args.rounds)]
        middle = lambda values: statistics.median(list(values))
        bound = middle(a["ratio_to_bound"] for a, _ in pairs) if "ratio_to_bound" in pairs[0][0] else None
        print(f"| {' '.join([solver, *options[1:]])}, {tool} | {middle(a['seconds'] for a, _ in pairs):.2f} | "
              f"{middle(b['seconds'] for _, b in pairs):.2f} | {middle(b['seconds'] / a['seconds'] for a, b in pairs):.1f} | "
              f"{middle(b['cpu_seconds'] / a['cpu_seconds'] for a, b in pairs):.1f} | "
              f"{'-' if bound is None else format(bound, '.2f')} |", flush=True)


if __name__ == "__main__":
    main()
