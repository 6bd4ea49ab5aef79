"""Whole runs of Lathe beside the time that their matrix products alone would take: run_speed.py [--model DIR] [--rounds N]

For each recipe: wall and CPU seconds of `quantize` (calibration ids of side_by_side.py, no evaluation), and the ratio of
the wall time to the bound: the products' operations at the rate that bench_algorithms measures for one large product just
before and after. Counted are the forward pass of the blocks (linears; attention up to the diagonal), half of each Gram
matrix (the rest is its mirror image), GPTQ's factors and updates, its second stream where match_reference has one, and AWQ's search; norms, activations, ranges, rounding,
reading and writing are what the ratio shows beside them. Peers: the same runs in side_by_side.py.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import tempfile
import time
import types

from side_by_side import ROOT, write_calibration

SOLVERS = {"rtn": [], "gptq": ["gptq", "match"], "gptq-one-stream": ["gptq"], "awq": ["awq"],
           "awq-gptq": ["awq", "gptq", "match"]}
AWQ_CANDIDATES = 21  # algorithms/awq.cc: a grid of 20 and the weights as they are


def operations(config, tokens, seq_len, solver):
    """FLOPs; an FMA is two."""
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    query, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    # (outputs of the linears that share an input, width of the input)
    inputs = [(query + 2 * kv, hidden), (hidden, query), (2 * wide, hidden), (hidden, wide)]
    block = sum(2 * tokens * out * width for out, width in inputs)
    block += 2 * tokens * seq_len * query  # q k^T and its product with v, 2 FMAs for half of seq_len keys
    if "match" in solver:  # match_reference: the unquantised stream's forward pass, X_ref^T X, and what moves the weights
        block += block + sum(2 * tokens * width**2 + 8 * out * width**2 for out, width in inputs)
    block += sum(tokens * width**2 for _, width in inputs)
    if "gptq" in solver:
        block += sum(2 / 3 * width**3 + out * width**2 for out, width in inputs)
    if "awq" in solver:
        block += sum(AWQ_CANDIDATES * out * width**2 for out, width in inputs)
    return config["num_hidden_layers"] * block


def product_rate():
    words = [ROOT / "build/bin/bench_algorithms", "--only", "gptq", "--rounds", "1", "--json", "-"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout)["algorithms"][0]["gemm_gflops"] * 1e9


def run(args, recipe, out):
    name = recipe.removesuffix("-one-stream")
    words = [ROOT / "build/bin/quantize", "--recipe", f"recipes/{name}.yaml", "--model", args.model, "--output", out,
             "--overwrite", "--quiet", "--calib", args.out / "calibration.npy", "--set", "evaluate=null",
             "--set", f"calibration.samples={args.samples}", "--set", f"calibration.seq_len={args.seq_len}",
             "--set", f"rules[0].scheme.group_size={args.group}"]
    if name != recipe:
        words += ["--set", "rules[0].solver.gptq.match_reference=0"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([str(word) for word in words], stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description="Whole runs beside the bound of their matrix products")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "build/models/smollm2-135m")
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--recipes", nargs="*", default=["gptq", "awq"], choices=list(SOLVERS))
    args = parser.parse_args()
    os.chdir(ROOT)
    config = json.loads((args.model / "config.json").read_text())
    print("| recipe | wall s | CPU s | GFLOP | products GFLOP/s | wall / bound |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        args.out = pathlib.Path(scratch)
        texts = pathlib.Path(os.environ.get("TEXT_DIR", "../shared/text"))
        write_calibration(types.SimpleNamespace(**vars(args), first_sample=0), texts)
        for recipe in args.recipes:
            flops = operations(config, args.samples * args.seq_len, args.seq_len, SOLVERS[recipe])
            rows = []
            for _ in range(args.rounds):
                rate = product_rate()
                wall, cpu = run(args, recipe, args.out / recipe)
                rate = (rate + product_rate()) / 2
                rows.append((wall, cpu, rate / 1e9, wall * rate / flops))
            wall, cpu, rate, ratio = (statistics.median(column) for column in zip(*rows))
            print(f"| {recipe} | {wall:.1f} | {cpu:.0f} | {flops / 1e9:.0f} | {rate:.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
