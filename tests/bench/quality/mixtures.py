"""Mixtures beside what has the same size: whole recipes of one scheme, or llama.cpp's own `_M` files.

    mixtures.py --calib TEXT --text TEXT [--uniform 3/64 4/64 5/64] [--candidates 2/64 3/192 ...] [--recipes awq rtn hqq ...]
    mixtures.py --calib TEXT --text TEXT --grids nvfp4 mxfp4 ...
    mixtures.py --calib TEXT --text TEXT --gguf Q3_K_M Q4_K_M Q5_K_M [--gguf-candidates Q4_0 IQ4_NL ...]

First form: GPTQ of B bits in groups of G (B/G) for every linear, the same bits and groups by other recipes, and a mixture of the
candidates that may take as many bits a weight as GPTQ's (recipes/mixed-4.25bpw.yaml; measured once, for all budgets). Second: the same
beside recipes of other grids, as they are shipped; their own grids may be among the candidates (--candidates 3/64 4/64 nvfp4). Third: llama.cpp's
llama_model_quantize with the importance matrix of the same text (peers/llama_cpp_quantize.py, in its environment), and a mixture of
blocks that may take as many bytes. All are scored by `quantize eval` on the same rows. SmolLM2's weights (tests/tools/make_smollm2.py)
are what blocks of Q4_1 held, which would give them back: such types are no candidates here. With --seed N the calibration text is drawn
anew. One JSON line each, then the table.
"""
import argparse
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
RULE = '{scheme: {type: int, bits: %s, group_size: %s, symmetric: false}, solver: {gptq: {match_reference: 0.5}}}'
FLOATS = '{scheme: {type: %s}, solver: {gptq: {match_reference: 0.5, range: weighted}}}'  # as recipes/nvfp4.yaml and mxfp4.yaml
# The settings of a recipe that make the most of its bits.
OPTIONS = {"rtn": ("rules[0].scheme.symmetric=false", "rules[0].solver.rtn.range=weighted"), "awq": ("rules[0].scheme.symmetric=false",),
           "awq-gptq": ("rules[0].scheme.symmetric=false",)}


def candidate(word):
    """3/64, or the name of a floating-point grid."""
    return RULE % tuple(word.split("/")) if "/" in word else FLOATS % word


def quantize(args, recipe, name, *sets):
    """The folder of a run, made where it is missing."""
    out = args.out / name
    if not (out / "report.json").is_file():
        words = [args.quantize, "--recipe", ROOT / "recipes" / recipe, "--model", args.model, "--output", out, "--quiet", "--overwrite",
                 "--device", "cpu"]
        if recipe != "hqq.yaml":  # it has no calibration
            words += ["--calib", args.calib]
            sets = [f"calibration.samples={args.samples}", f"calibration.seed={args.seed}", *sets]
        for change in ("evaluate=null", *sets):
            words += ["--set", change]
        subprocess.run(words, check=True, cwd=ROOT)
    return out


def mixture(args, kind, name, candidates, budget, *sets):
    return quantize(args, "mixed-4.25bpw.yaml", name, f"candidates=[{', '.join(candidates)}]", f"budget={budget}",
                    f"sensitivity.file={args.out / kind}.sensitivity.json", *sets)


def gguf(folder):
    return next(file for file in sorted(folder.glob("*.gguf")) if file.name != "imatrix.gguf")


def scored(args, artefact):
    done = subprocess.run([args.quantize, "eval", "--model", artefact, "--reference", args.model, "--text", args.text, "--rows",
                           str(args.rows), "--device", "cpu", "--json"], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def row(args, name, artefact, size):
    found = scored(args, artefact)
    result = {"name": name, "size": size, "kl": found["kl_mean"], "perplexity": found["perplexity"], "same_top": found["same_top"]}
    print(json.dumps(result), flush=True)
    return result


def uniform_rows(args):
    for pair in args.uniform:
        bits, group = pair.split("/")
        width = (f"rules[0].scheme.bits={bits}", f"rules[0].scheme.group_size={group}")
        for recipe in args.recipes:
            sets = [*width, *OPTIONS.get(recipe, ())]
            other = quantize(args, f"{recipe}.yaml", f"{recipe}-int{bits}-g{group}", *sets)
            yield row(args, f"int{bits}, group {group}, {recipe}", other, bits_a_weight(other))
        out = quantize(args, "gptq.yaml", f"int{bits}-g{group}", *width)
        yield from beside(args, f"int{bits}, group {group}", out, f"mixed-{bits}-g{group}")


def beside(args, name, out, mixed_name):
    """A whole recipe, and a mixture of its size."""
    allowed = bits_a_weight(out)
    yield row(args, name, out, allowed)
    mixed = mixture(args, "linears", mixed_name, [candidate(one) for one in args.candidates], f"{{bits_per_weight: {allowed}}}")
    yield row(args, "mixture within its size", mixed, json.loads((mixed / "budget.json").read_text())["chosen"]["bits_per_weight"])


def grid_rows(args):
    for recipe in args.grids:
        out = quantize(args, f"{recipe}.yaml", recipe, "output.formats=[compressed-tensors]")
        yield from beside(args, recipe, out, f"mixed-{recipe}")


def bits_a_weight(out):
    return json.loads((out / "report.json").read_text())["totals"]["bits_per_quantized_weight"]


def gguf_rows(args):
    full = quantize(args, "gguf.yaml", "gguf-f16", 'output.formats=["gguf:F16"]')
    peer = subprocess.run([ROOT / "tests/peer/environment.sh", "llama_cpp"], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    for kind in args.gguf:
        theirs = args.out / f"llama_cpp-{kind}"
        if not (theirs / "model.gguf").is_file():
            subprocess.run([ROOT / peer.stdout.strip(), ROOT / "tests/bench/quality/peers/llama_cpp_quantize.py", args.model, theirs, "--type",
                            kind, "--full", full], check=True, cwd=ROOT)
        allowed = (theirs / "model.gguf").stat().st_size
        yield row(args, f"llama.cpp's {kind}", theirs / "model.gguf", allowed)
        ours = gguf(quantize(args, "gguf.yaml", f"gguf-{kind}", f'output.formats=["gguf:{kind}"]'))
        yield row(args, f"Lathe's {kind}", ours, ours.stat().st_size)
        # A budget is of tensors; the file's head, names and vocabulary, is the same in all.
        room = tensor_bytes(theirs / "model.gguf")
        mixed = gguf(mixture(args, "blocks", f"gguf-mixed-{kind}", [f"{{gguf: {one}}}" for one in args.gguf_candidates],
                             f"{{size: {room}}}", "output.formats=[gguf:Q4_K_M]"))
        yield row(args, "mixture within its size", mixed, mixed.stat().st_size)


def tensor_bytes(file):
    from gguf import GGUFReader
    return sum(int(tensor.n_bytes) for tensor in GGUFReader(file).tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantize", type=pathlib.Path, default=ROOT / "build/bin/quantize")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "build/models/smollm2-135m")
    parser.add_argument("--calib", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out/quality/mixtures")
    parser.add_argument("--uniform", nargs="+", default=["3/64", "4/64", "5/64"])
    parser.add_argument("--candidates", nargs="+", default=["2/64", "3/192", "3/64", "4/192", "4/64", "5/192", "5/64", "6/192", "6/64"])
    parser.add_argument("--recipes", nargs="+", default=[], choices=["rtn", "awq", "awq-gptq", "hqq"])
    parser.add_argument("--grids", nargs="+")
    parser.add_argument("--gguf", nargs="+")
    parser.add_argument("--gguf-candidates", nargs="+",
                        default=["Q3_K", "IQ4_NL", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0"])
    args = parser.parse_args()
    for name in ("quantize", "model", "calib", "text", "out"):
        setattr(args, name, getattr(args, name).resolve())
    args.out.mkdir(parents=True, exist_ok=True)
    rows = list(gguf_rows(args) if args.gguf else grid_rows(args) if args.grids else uniform_rows(args))
    print(f"| | {'bytes' if args.gguf else 'bits/weight'} | KL | perplexity | same top |\n| --- | ---: | ---: | ---: | ---: |")
    for one in rows:
        size = f"{one['size']:,}" if args.gguf else f"{one['size']:.3f}"
        print(f"| {one['name']} | {size} | {one['kl']:.4f} | {one['perplexity']:.2f} | {one['same_top'] * 100:.1f} % |")


if __name__ == "__main__":
    main()
