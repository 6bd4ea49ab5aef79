"""The same work on the CPU and on the GPU: logits of the embedded model, and the artefacts of the shipped recipes.

Without a GPU (a rehearsal) the CPU stands in for it: FP32 then must give the same bytes, half precision is computed slowly.
"""
import concurrent.futures
import json
import math
import random
import shutil

from steps import Failed, Skipped

MODEL = "data/models/lathe-tiny"
ROWS, TOKENS = 8, 256
# All that are shipped but two: what fits 8 GiB is this model as it is, and sensitivity.yaml writes no artefact.
RECIPES = ("rtn", "awq", "gptq", "hqq", "spqr", "smoothquant", "awq-gptq", "gguf", "mixed-4.25bpw", "fp8-static", "fp8-dynamic", "fp8-block",
           "nvfp4", "nvfp4-w4a4", "mxfp4", "kv-fp8", "kv-kivi", "kv-kvquant", "kv-skvq")
AT_ONCE = 4  # runs on the CPU, which share its cores
# Of the logits, in the Euclidean norm, against FP32 on the CPU. FP32 sums in another order; a half-precision forward pass
# rounds every product (8 bits of mantissa for BF16, 11 for F16).
LOGIT_TOLERANCE = {"f32": 1e-5, "bf16": 2e-2, "f16": 3e-3}
# A search over scales may take another point of its grid where two are nearly as good; quality must not move.
KL_TOLERANCE = {"f32": 0.05, "auto": 0.10}
# A rehearsal is about the script: less text, and no dtype twice.
REHEARSAL = ["--set", "calibration.samples=8", "--set", "calibration.seq_len=256", "--set", "evaluate.rows=4"]


try:
    import numpy
except ImportError as missing:  # the machine need have nothing but torch
    numpy, MISSING = None, f"no {missing.name} in this Python"


def need_numpy():
    if numpy is None:
        raise Skipped(MISSING)


def random_ids(vocabulary):
    draw = random.Random(0)
    return [[draw.randrange(vocabulary) for _ in range(TOKENS)] for _ in range(ROWS)]


def run_logits(context, ids, device, dtype):
    target = context.work / f"logits-{device}-{dtype}.f32"
    context.call([context.program("logits"), MODEL, ids, target, device, dtype], f"logits-{device}-{dtype}.log")
    return numpy.fromfile(target, "<f4").reshape(ROWS * TOKENS, -1)


def logits(context):
    need_numpy()
    vocabulary = json.loads((context.root / MODEL / "config.json").read_text())["vocab_size"]
    ids = context.work / "ids.json"
    ids.write_text(json.dumps(random_ids(vocabulary)))
    reference = run_logits(context, ids, "cpu", "f32")
    wrong = []
    for dtype, tolerance in LOGIT_TOLERANCE.items():
        found = run_logits(context, ids, context.device, dtype)
        distance = float(numpy.linalg.norm(found - reference) / numpy.linalg.norm(reference))
        same = float((found.argmax(1) == reference.argmax(1)).mean())
        context.step.figures[f"{context.device} {dtype} against cpu f32: relative distance"] = f"{distance:.2e} (at most {tolerance:g})"
        context.step.figures[f"{context.device} {dtype}: same most likely token"] = f"{100 * same:.2f} %"
        if not distance <= tolerance:
            wrong.append(f"{dtype}: {distance:.2e}")
    if wrong:
        raise Failed("logits differ from the CPU's: " + ", ".join(wrong))


def quantise(context, recipe, device, dtype, threads=()):
    """The recipe as shipped, on the whole demonstration (less in a rehearsal). Returns the (first) artefact's folder."""
    target = context.work / f"{recipe}-{device}-{dtype}"
    shutil.rmtree(target, ignore_errors=True)
    context.call([context.program("quantize"), "--recipe", f"recipes/{recipe}.yaml", "--output", target, "--device", device,
                  "--compute-dtype", dtype, "--quiet", *threads, *([] if context.gpu or recipe == "hqq" else REHEARSAL)],
                 f"{recipe}-{device}-{dtype}.log")
    return next(path.parent for path in sorted(target.rglob("report.json")))  # a recipe of several formats has a folder each


def tensors_of(folder):
    """Name to values, as unsigned integers of the dtype's size: numpy has no BF16 and no FP8."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        for name, entry in json.loads(data[8:end]).items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                size = (last - first) // max(math.prod(entry["shape"]), 1)
                found[name] = numpy.frombuffer(data[end + first:end + last], f"u{max(size, 1)}")
    return found


def equal_codes(first, second):
    """Share of equal 4-bit codes in the packed weights, and of equal values among all other tensors."""
    codes, others = [0, 0], [0, 0]
    for name, tensor in first.items():
        other = second.get(name)
        if other is None or other.size != tensor.size:  # another choice of a mixture, or of SpQR's outliers
            others[1] += tensor.size
            continue
        if name.endswith("weight_packed"):
            differing = tensor.view("u1") ^ other.view("u1")
            codes[0] += int(((differing & 15) == 0).sum() + ((differing >> 4) == 0).sum())
            codes[1] += 2 * differing.size
        else:
            others[0] += int((tensor == other).sum())
            others[1] += tensor.size
    return codes[0] / codes[1] if codes[1] else 1.0, others[0] / max(others[1], 1)


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def artefacts(context):
    """The CPU works ahead, some recipes at once; the device takes two, of which one may read and write while the other computes."""
    need_numpy()
    wrong = []
    threads = ("--threads", max(1, context.arguments.jobs // AT_ONCE))
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as cores, concurrent.futures.ThreadPoolExecutor(2) as device:
        on_cpu = {recipe: cores.submit(quantise, context, recipe, "cpu", "f32", threads) for recipe in RECIPES}
        compared = {recipe: device.submit(lambda name: same_artefact(context, name, on_cpu[name].result()), recipe) for recipe in RECIPES}
        for recipe, outcome in compared.items():
            try:
                wrong += outcome.result()
            except Failed as reason:
                wrong.append(f"{recipe}: {reason}")
    if wrong:
        raise Failed("; ".join(wrong))


def same_artefact(context, recipe, cpu):
    """What is wrong with the recipe's artefacts of the GPU, held against the CPU's in FP32 (its folder)."""
    wrong = []
    tensors, reference = tensors_of(cpu), report_of(cpu)["evaluation"]["kl_mean"]
    # Half precision, the default on a GPU, for the three that stand for the rest: no statistic, mean |x| and the Hessian.
    dtypes = KL_TOLERANCE.items() if context.gpu and recipe in ("awq", "gptq", "rtn") else [("f32", KL_TOLERANCE["f32"])]
    for dtype, tolerance in dtypes:
        other = quantise(context, recipe, context.device, dtype, ("--threads", 2))
        codes, values = equal_codes(tensors, tensors_of(other)) if tensors else (math.nan, math.nan)  # GGUF: KL alone
        report = report_of(other)
        found = report["evaluation"]["kl_mean"]
        what = f"{recipe}, {context.device} in {report['environment']['compute_dtype']}"
        context.step.figures[f"{what}: equal codes, other values"] = f"{100 * codes:.3f} %, {100 * values:.3f} %"
        context.step.figures[f"{what}: mean KL (CPU)"] = f"{found:.5f} ({reference:.5f})"
        context.step.figures[f"{what}: seconds to quantise, beside other runs"] = seconds_of(report, "quantise")
        if not abs(found - reference) <= tolerance * reference:
            wrong.append(f"{what}: mean KL {found:.5f} against {reference:.5f}")
        # Rounding to nearest looks at weights only, and its kernels give the same bits.
        if recipe == "rtn" and codes < 1:
            wrong.append(f"{what}: {100 * (1 - codes):.4f} % of the codes differ")
    return wrong


def seconds_of(report, stage):
    stages = report["stages"]
    rows = stages.items() if isinstance(stages, dict) else [(row.get("name"), row.get("seconds")) for row in stages]
    return round(dict(rows).get(stage, float("nan")), 2)
