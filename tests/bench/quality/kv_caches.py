"""KV caches at long contexts, each against the model in floating point: kv_caches.py [--model DIR] [--ctx N] [--rows N] [--only NAME]

Every cache is fitted by a run whose only quantised linear is one o_proj in 8 bits (a run has to quantise something; the row
"none" shows that it costs nothing) and scored by `quantize eval` beside the model itself. Prints a row for each as soon as it is
there: KL (nats, mean over the tokens), perplexity and its change, bits for a value at that context with scales, outliers and tokens
in FP16, and the processor seconds of fit and score. What was fitted before is taken as it is (--work).
"""
import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
CACHES = {
    "none": "null",
    "fp8": "{type: float}",
    "fp8, heads": "{type: float, per: head}",
    "int8": "{type: int}",
    "int8, heads": "{type: int, per: head}",
    "kivi, 4 bits": "{type: kivi, bits: 4}",
    "kivi, 2 bits": "{type: kivi, bits: 2}",
    "kvquant, 4 bits": "{type: kvquant, bits: 4}",
    "kvquant, 3 bits": "{type: kvquant, bits: 3}",
    "kvquant, 3 bits, fisher": "{type: kvquant, bits: 3, weights: fisher}",
    "kvquant, 3 bits, attention": "{type: kvquant, bits: 3, weights: attention}",
    "kvquant, 2 bits": "{type: kvquant, bits: 2, q_norm: true}",
    "skvq, 4 bits": "{type: skvq, bits: 4}",
    "skvq, 2 bits": "{type: skvq, bits: 2}",
    "skvq, 2 and 1.5 bits": "{type: skvq, bits: 2, value_bits: 1.5}",
}
RULES = "[{targets: ['/layers\\.0\\.self_attn\\.o_proj$/'], scheme: {bits: 8, group_size: 32}, solver: {rtn: {}}}]"


def run(words):
    """Standard output, and processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stderr.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fit(args, name, cache):
    folder = args.work / name.replace(", ", "-").replace(" ", "_")
    if folder.exists():
        return folder, 0
    words = [args.quantize, "--recipe", "recipes/rtn.yaml", "--model", args.model, "--output", folder, "--device", args.device, "--quiet",
             "--set", "evaluate=null", "--set", f"rules={RULES}", "--set", f"kv_cache={cache}",
             "--set", f"calibration.samples={args.samples}", "--set", f"calibration.seq_len={args.length}", "--calib", args.calib]
    return folder, run(words)[1]


def score(args, folder):
    words = [args.quantize, "eval", "--model", folder, "--reference", args.model, "--text", args.text, "--ctx", args.ctx, "--rows", args.rows,
             "--device", args.device, "--json"]
    out, seconds = run(words)
    return json.loads(out), seconds


def main():
    parser = argparse.ArgumentParser(description="KV caches at long contexts")
    parser.add_argument("--quantize", type=pathlib.Path, default=ROOT / "build/bin/quantize")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "build/models/smollm2-135m")
    parser.add_argument("--calib", type=pathlib.Path, default=ROOT / "data/text/calibration.txt")
    parser.add_argument("--text", type=pathlib.Path, default=ROOT / "data/text/evaluation.txt")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "out/kv-caches", help="where fitted caches stand")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ctx", type=int, default=4096)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--samples", type=int, default=8, help="of the calibration text, ...")
    parser.add_argument("--length", type=int, default=1024, help="... of so many tokens")
    parser.add_argument("--only", action="append", choices=CACHES, help="caches; default: all")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"{args.rows} rows of {args.ctx} tokens, calibrated on {args.samples} x {args.length}\n")
    print("| cache | KL | perplexity | change | bits a value | fit, score: CPU s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in args.only or CACHES:
        folder, fitting = fit(args, name, CACHES[name])
        result, scoring = score(args, folder)
        own, plain = result["perplexity"], result["reference_perplexity"]
        bits = result["kv_cache"]["bits_per_value"] if result.get("kv_cache") else 16
        print(f"| {name} | {result['kl_mean']:.5f} | {own:.3f} | {100 * (own / plain - 1):+.2f} % | {bits:.2f} | {fitting:.0f}, {scoring:.0f} |",
              flush=True)


if __name__ == "__main__":
    main()
