"""One linear of 4096 x 4096, Lathe's solvers beside the peers' own code: linear_speed.py [--size N] [--rounds N] [--only NAME]

Each round runs every program once, one after the other; ratios are of neighbours in time (medians over the rounds), in wall
time and in CPU time. Peers run in the environments of side_by_side.py. The peers' GPTQ takes each group's extremes for its range,
as ours does with `range: minmax`; ours by default searches it, which the second rows count in. AWQ is the search for scales over 20
exponents, no clipping, for --tokens inputs (a run of 128 x 512 has 65,536; the peer's time grows with them, of ours the Gram
matrix's, which is counted in).
"""
import argparse
import json
import pathlib
import statistics
import subprocess

from side_by_side import HERE, ROOT, environment

CASES = [("gptq", ["--range", "minmax"], "llmc"), ("gptq", ["--range", "minmax"], "gptqmodel"), ("gptq", [], "llmc"),
         ("gptq", [], "gptqmodel"), ("awq", ["--fold-only", "--only", "gram"], "llmc"), ("hqq", [], "hqq")]


def run_json(words, cwd=ROOT):
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          cwd=cwd, check=True)
    return done.stdout


def ours(args, solver, options):
    words = [ROOT / args.bench, "--only", solver, *options, "--size", args.size, "--group", args.group, "--rounds", 1, "--json", "-"]
    words += ["--tokens", args.tokens] if args.tokens else []
    rows = json.loads(run_json(words))["algorithms"]  # a transform, and what it needs collected
    total = {key: sum(row[key] for row in rows) for key in ("seconds", "cpu_seconds")}
    if all("flops" in row for row in rows):
        total["ratio_to_bound"] = total["seconds"] / sum(row["flops"] / row["gemm_gflops"] / 1e9 for row in rows)
    return total


def theirs(args, solver, tool):
    words = [environment(tool), HERE / "peers/linear.py", "--tool", tool, *(["--solver", solver] if tool == "llmc" else []),
             "--shape", f"{args.size}x{args.size}", "--group", args.group]
    words += ["--tokens", args.tokens] if args.tokens else []
    return json.loads(run_json(words, ROOT / "build/peers").strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description="One linear, Lathe's solvers beside the peers' own code")
    parser.add_argument("--bench", type=pathlib.Path, default=pathlib.Path("build/bin/bench_algorithms"))
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--group", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, help="of AWQ's rows, and of the Hessian that GPTQ is given; default: twice the size")
    parser.add_argument("--only", action="append", help="solvers; default: all")
    args = parser.parse_args()
    print("| solver, peer | Lathe wall s | peer wall s | peer / Lathe, wall | CPU | Lathe / bound |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for solver, options, tool in CASES:
        if args.only and solver not in args.only:
            continue
        pairs = [(ours(args, solver, options), theirs(args, solver, tool)) for _ in range(args.rounds)]
        middle = lambda values: statistics.median(list(values))
        bound = middle(a["ratio_to_bound"] for a, _ in pairs) if "ratio_to_bound" in pairs[0][0] else None
        name = " ".join([solver, *(word for word in options if not word.startswith("--"))])
        print(f"| {name}, {tool} | {middle(a['seconds'] for a, _ in pairs):.2f} | "
              f"{middle(b['seconds'] for _, b in pairs):.2f} | {middle(b['seconds'] / a['seconds'] for a, b in pairs):.1f} | "
              f"{middle(b['cpu_seconds'] / a['cpu_seconds'] for a, b in pairs):.1f} | "
              f"{'-' if bound is None else format(bound, '.2f')} |", flush=True)


if __name__ == "__main__":
    main()
