"""Lathe and its peers on one model: the same calibration ids, the same evaluation ids, one scorer, one run.

    side_by_side.py [--model build/models/smollm2-135m] [--group 64] [--cases WORD...] [--out out/quality/side-by-side]
    side_by_side.py --first-sample 128 --out out/quality/second ...        # other calibration data: what is noise
    side_by_side.py --model data/models/lathe-tiny --group 128 --rows 32 --ctx 512 --out out/quality/lathe-tiny

Each case is a row of CASES below; --cases keeps those that are named, or whose names hold one of the words. Peers run in
environments of their own, which tests/peer/environment.sh makes under build/peers from peers/*.txt (some 5 GB and two
minutes each). Calibration: the first --samples rows of --seq-len tokens of TEXT_DIR/wikitext2-valid.txt; evaluation: 16 rows of 1024 of
wikitext2-test.txt, scored by transformers in FP32 (score.py). A case that is there already (a run.json of the same
settings) is not run again. Times: the quantising call of a peer without its imports, loading and saving; of Lathe the
whole process; wall and CPU seconds, the second the steadier on a busy machine. Lathe's hqq and SpQR artefacts are
dequantised by Lathe's own reader before they are scored (build the target `dequantize`). Exit code 77: the texts are not
there.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]


@dataclasses.dataclass
class Case:
    name: str
    tool: str  # lathe, or a script of peers/
    options: list
    samples: int = 0  # calibration rows, where not --samples


def lathe(name, recipe, *sets):
    return Case("lathe-" + name, "lathe", [f"recipes/{recipe}.yaml", *sets])


def peer(tool, method):
    return Case(f"{tool}-{method}", tool, ["--method", method])


def floats(name, recipe, *sets):
    """On a floating-point grid, in the format that transformers reads."""
    return lathe(name, recipe, "output.formats=[compressed-tensors]", *filter(None, sets))


def fewer(case, samples=32):
    """The same on the first rows only: llm-compressor's AWQ takes a quarter of an hour for 32 of them."""
    return dataclasses.replace(case, name=f"{case.name}-{samples}", samples=samples)


GGUF_TYPES = ("Q4_0", "Q4_1")
SYM, ASYM = "rules[0].scheme.symmetric=true", "rules[0].scheme.symmetric=false"
UNMATCHED, MATCHED = ("rules[0].solver.gptq.match_reference=" + share for share in ("0", "0.5"))
RTN, RTN_WEIGHTED = ("rules[0].solver={rtn: {range: %s}}" % method for method in ("minmax", "weighted"))
CASES = [
    lathe("rtn", "rtn", SYM), peer("llmc", "rtn"),
    lathe("rtn-asym", "rtn", ASYM), peer("llmc", "rtn-asym"),
    lathe("rtn-weighted", "rtn", SYM, "rules[0].solver.rtn.range=weighted"),
    lathe("rtn-weighted-asym", "rtn", ASYM, "rules[0].solver.rtn.range=weighted"),
    *(Case(f"plain-{dtype}-division", "plain", ["--division", dtype]) for dtype in ("float32", "float16")),
    Case("plain-steps-7", "plain", ["--steps", "7"]), Case("plain-steps-7-or-7.5", "plain", ["--steps", "7", "7.5"]),
    lathe("gptq", "gptq", SYM), peer("llmc", "gptq"), peer("llmc", "gptq-actorder"), peer("gptqmodel", "gptq"),
    lathe("gptq-unmatched", "gptq", SYM, UNMATCHED), lathe("gptq-asym-unmatched", "gptq", ASYM, UNMATCHED),
    lathe("gptq-asym", "gptq", ASYM), peer("llmc", "gptq-asym"), peer("llmc", "gptq-actorder-asym"),
    lathe("awq", "awq", SYM), fewer(lathe("awq", "awq", SYM)), fewer(peer("llmc", "awq")), fewer(peer("gptqmodel", "awq")),
    lathe("awq-asym", "awq", ASYM), fewer(lathe("awq-asym", "awq", ASYM)), fewer(peer("llmc", "awq-asym")),
    lathe("awq-gptq", "awq-gptq", SYM), lathe("awq-gptq-asym", "awq-gptq", ASYM),
    lathe("awq-gptq-unmatched", "awq-gptq", SYM, UNMATCHED), lathe("awq-gptq-asym-unmatched", "awq-gptq", ASYM, UNMATCHED),
    lathe("hqq", "hqq"), Case("hqq-asym", "hqq", []),
    lathe("smoothquant-w8a8", "smoothquant"), lathe("smoothquant-matched-w8a8", "smoothquant", MATCHED), peer("llmc", "smoothquant-w8a8"), peer("llmc", "smoothquant-gptq-w8a8"),
    lathe("spqr", "spqr"),
    *(fewer(case) for case in (lathe("gptq", "gptq", SYM), peer("llmc", "gptq-actorder"), peer("gptqmodel", "gptq"))),
    *(lathe(f"gguf-{kind}", "gguf", f'output.formats=["gguf:{kind}"]') for kind in GGUF_TYPES),
    *(Case(f"llama_cpp-{kind}", "llama_cpp", ["--type", kind]) for kind in GGUF_TYPES),
    *(floats(name, "nvfp4", solver) for name, solver in (("nvfp4-minmax", RTN), ("nvfp4-weighted", RTN_WEIGHTED), ("nvfp4", ""))),
    peer("llmc", "nvfp4a16"), peer("llmc", "gptq-nvfp4a16"),
    *(floats(name, "nvfp4-w4a4", solver) for name, solver in (("nvfp4-w4a4-minmax", RTN), ("nvfp4-w4a4-weighted", RTN_WEIGHTED), ("nvfp4-w4a4", ""))),
    peer("llmc", "nvfp4"), peer("llmc", "gptq-nvfp4"),
    *(floats(name, "mxfp4", solver) for name, solver in (("mxfp4-minmax", RTN), ("mxfp4-weighted", RTN_WEIGHTED), ("mxfp4", ""))),
    peer("llmc", "mxfp4a16"), peer("llmc", "gptq-mxfp4a16"),
    *(case for name in ("fp8-dynamic", "fp8-static", "fp8-block") for case in (floats(name, name), peer("llmc", name))),
]
SCRIPTS = {"llama_cpp": "llama_cpp_quantize.py", "plain": "plain_rounding.py", "llmc": "llmc.py", "hqq": "hqq_library.py", "gptqmodel": "gptqmodel_library.py"}


def environment(tool):
    """The python of a peer's environment, made where it is missing; this one's for what is no package."""
    if tool == "plain":
        return pathlib.Path(sys.executable)
    made = subprocess.run([ROOT / "tests/peer/environment.sh", tool], check=True, stdout=subprocess.PIPE, text=True)
    return ROOT / made.stdout.strip()


def command(case, args, out):
    samples = case.samples or args.samples
    calibration = args.out / (f"calibration-{samples}.npy" if case.samples else "calibration.npy")
    if case.tool != "lathe":
        group = ["--group", str(args.group)]
        return [environment(case.tool), HERE / "peers" / SCRIPTS[case.tool], args.model, out, *case.options, *group,
                "--ids", calibration]
    recipe, *sets = case.options
    sets.append("evaluate=null")
    if not case.name.startswith(("lathe-smoothquant", "lathe-spqr", "lathe-gguf", "lathe-nvfp4", "lathe-mxfp4", "lathe-fp8")):
        sets.append(f"rules[0].scheme.group_size={args.group}")
    words = [args.quantize, "--recipe", recipe, "--model", args.model, "--output", out, "--quiet", "--overwrite"]
    if case.name != "lathe-hqq":  # its recipe has no calibration
        sets += [f"calibration.samples={samples}", f"calibration.seq_len={args.seq_len}"]
        words += ["--calib", calibration]
    return words + [word for change in sets for word in ("--set", change)]


def scored(case, args):
    """The folder that transformers can load: it reads no artefact of hqq's or SpQR's on a CPU, so these two are dequantised."""
    out = args.out / case.name
    if case.name not in ("lathe-hqq", "lathe-spqr"):
        return out
    dense = out / "dequantised" / case.name  # the table shows the last name
    if not (dense / "config.json").is_file():
        subprocess.run([args.quantize.parent / "dequantize", out, dense], check=True)
    return dense


def run(case, args):
    """What the case took; its artefact is left in its folder."""
    out = args.out / case.name
    record = out / "run.json"
    settings = {"model": args.model.name, "group": args.group, "samples": case.samples or args.samples,
                "seq_len": args.seq_len, "first_sample": args.first_sample}
    if record.is_file():
        took = json.loads(record.read_text())
        if took.get("settings") == settings:
            return took
        shutil.rmtree(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command(case, args, out)]
    print(f"{time.strftime('%H:%M:%S')} {case.name}", flush=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with open(args.out / f"{case.name}.log", "w") as log:
        # Recipes name data from the root; GPTQModel leaves logs where it runs.
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=log, text=True,
                              cwd=ROOT if case.tool == "lathe" else args.out)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        print(f"{case.name}: failed ({done.returncode}); see {args.out / case.name}.log", flush=True)
        return None
    if case.tool == "lathe":
        report = json.loads((out / "report.json").read_text())
        took = {"seconds": wall, "peak_rss_bytes": report["totals"]["peak_rss_bytes"],
                "cpu_seconds": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime}
    else:
        took = json.loads(done.stdout.strip().splitlines()[-1])
    record.write_text(json.dumps({**took, "load": os.getloadavg()[0], "settings": settings}) + "\n")
    return took


def write_calibration(args, texts):
    import numpy as np
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    ids = tokenizer.encode((texts / "wikitext2-valid.txt").read_text(encoding="utf-8"), add_special_tokens=False).ids
    count = args.samples * args.seq_len
    if len(ids) < count:
        raise SystemExit(f"side_by_side: the text gives {len(ids)} tokens, {count} are needed")
    first = args.first_sample * args.seq_len
    args.out.mkdir(parents=True, exist_ok=True)
    rows = np.array(ids[first : first + count], dtype=np.int64).reshape(-1, args.seq_len)
    np.save(args.out / "calibration.npy", rows)
    for samples in {case.samples for case in CASES} - {0}:
        np.save(args.out / f"calibration-{samples}.npy", rows[:samples])


def scores(args, folders, texts):
    """Of the reference and each folder; kept beside the artefact, so that another case costs its own score only."""
    places = [args.out / "reference.json", *(folder / "score.json" for folder in folders)]
    settings = {"rows": args.rows, "ctx": args.ctx}
    kept = [json.loads(place.read_text()) if place.is_file() else {} for place in places]
    missing = [i for i, entry in enumerate(kept) if entry.get("settings") != settings and i > 0]
    if missing or kept[0].get("settings") != settings:
        import score
        ids = score.read_rows(args.model, texts / "wikitext2-test.txt", args.rows, args.ctx)
        for first in range(0, max(1, len(missing)), 6):  # models in memory at a time
            batch = missing[first : first + 6]
            results = score.score([args.model, *(folders[i - 1] for i in batch)], ids)
            for i, result in zip([0, *batch], results):
                kept[i] = {"settings": settings, "score": result}
                places[i].write_text(json.dumps(kept[i]) + "\n")
    return [entry["score"] for entry in kept]


def table(results, times):
    lines = ["| | perplexity | mean KL | median KL | 99 % KL | same top | block error | wall s | CPU s | peak MiB |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for r in results:
        name = pathlib.Path(r["model"]).name
        took = times.get(name)
        spent = "- | - | -" if took is None else (
            f"{took['seconds']:.0f} | {took['cpu_seconds']:.0f} | {took['peak_rss_bytes'] / 2**20:.0f}")
        error = "-" if r["block_error"] is None else format(r["block_error"], ".5f")
        lines.append(f"| {name} | {r['perplexity']:.4f} | {r['kl_mean']:.5f} | {r['kl_median']:.5f} | {r['kl_p99']:.4f} | "
                     f"{r['same_top']:.4f} | {error} | {spent} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Lathe and its peers on one model")
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path("build/models/smollm2-135m"))
    parser.add_argument("--quantize", type=pathlib.Path, default=pathlib.Path("build/bin/quantize"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/quality/side-by-side"))
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--first-sample", type=int, default=0, help="skip so many rows of the text: other calibration data")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--ctx", type=int, default=1024)
    parser.add_argument("--cases", nargs="*", default=[], help="only cases of these names, or whose names hold one of these words")
    args = parser.parse_args()
    os.chdir(ROOT)
    texts = pathlib.Path(os.environ.get("TEXT_DIR", "../shared/text"))
    if not (texts / "wikitext2-valid.txt").is_file():
        print(f"skipped: {texts}/wikitext2-valid.txt is not there (set TEXT_DIR)")
        return 77
    args.model, args.quantize, args.out = (path.absolute() for path in (args.model, args.quantize, args.out))
    if not (args.model / "config.json").is_file():
        subprocess.run([sys.executable, "tests/tools/make_smollm2.py", args.model], check=True)
    write_calibration(args, texts)
    times, folders = {}, []
    names = {case.name for case in CASES}
    for case in CASES:
        if args.cases and not any(word == case.name or (word not in names and word in case.name) for word in args.cases):
            continue
        took = run(case, args)
        if took is not None:
            times[case.name] = took
            folders.append(scored(case, args))
    results = scores(args, folders, texts)
    print(table(results, times))
    (args.out / "scores.json").write_text(json.dumps({"scores": results, "runs": times}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
