"""Lathe's bytes in their consumers' own GEMM kernels, on a GPU: every linear of an artefact times activations, against FP64.

    gpu_kernels.py ARTEFACTS LIBRARIES [--dry]

ARTEFACTS: what gpu_kernels.sh makes; LIBRARIES: what tests/peer/gpu_kernels.sh builds. gpu_cases.py says which kernel reads what.
The kernel's y = x W^T passes where, for each number of it,
    |y - reference| <= rounding * sum over k of |x_k| |w_k| + step * |reference| + 1e-6
with a reference in FP64 from W as the checkpoint says it is. rounding is 4 * 2^-11: one FP16 rounding of each dequantised weight (at
most 2^-11 of it), the scale's own, and sums that are kept in FP16 over some tens of products, whose errors are of either sign and add up
to less than one more rounding of all terms; step is that of the type of y. INT8 products are exact integers. Kernels that compute
q * scale - zero * scale round both: there |w_k| is |w_k| + zero * scale.
Each case also spoils each of its tensors, one after another (the highest bits of the codes of one word, one scale by a quarter, an order
by turning it round), and fails unless the product leaves the bound then.

A case that crashes takes only itself along: cases run in a process that is started anew behind one that broke the GPU's context.
Prints one JSON line a case, and a table. Exit code 77 where there is no GPU. --dry: no GPU; loads the libraries, reads every tensor,
and calls every operator with tensors on the CPU, which it must refuse for that reason alone.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import select
import subprocess
import sys

import torch
from gpu_cases import CASES, HIGH_BITS, SKIPPED, by_linear, linears_of

SILENCE_S = 25  # of a child: a kernel that waits for ever


class Wrong(Exception):
    """A result that is not what it should be; the text says what."""


def load(library, folder):
    if library:
        torch.ops.load_library(str(folder / f"{library}.so"))


def moved(tensors, device):
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def spoiled(tensor, bits):
    """A copy with one damage that a kernel must show."""
    tensor = tensor.clone()
    flat = tensor.view(-1)
    if tensor.dtype in (torch.int32, torch.int16):
        mask = HIGH_BITS[bits]
        if tensor.dtype == torch.int16:  # half a word
            mask &= 0xFFFF
            flat[0] ^= mask - (1 << 16)
        else:
            flat[0] ^= mask - (1 << 32)
    elif tensor.dtype in (torch.float8_e4m3fn, torch.int8):
        largest = tensor.float().abs().view(-1).argmax()
        flat.view(torch.uint8)[largest] ^= 0x80
    else:
        flat[0] *= 1.25
    return tensor


def damage(tensors, name, bits):
    if name in ("g_idx", "g_idx_sort_indices"):
        return dict(tensors, **{name: tensors[name].flip(0)})
    return dict(tensors, **{name: spoiled(tensors[name], bits)})


def worst(case, linear, tensors, x):
    """(largest error in parts of its bound, that error, that bound) of one launch."""
    used, meant = case.activations(x, tensors["kept"]) if case.activations else (x, x.double())
    product = case.call(tensors["given"], used, linear)
    reference = meant @ linear.weight.t()
    if product.shape != reference.shape:
        raise Wrong(f"the product is {list(product.shape)}, expected {list(reference.shape)}")
    bound = case.rounding * (meant.abs() @ linear.magnitude.t()) + case.step * reference.abs() + 1e-6
    error = (product.double() - reference).abs().nan_to_num(nan=torch.inf)
    place = (error / bound).argmax()
    return [float(value.view(-1)[place]) for value in (error / bound, error, bound)]


def check_products(case, artefact, device, generator):
    linears, stored = linears_of(str(artefact), case.zeros_apart), by_linear(artefact / case.folder)
    if set(linears) != set(stored):
        raise Wrong(f"linears of {case.folder} are not the reference's: {sorted(set(linears) ^ set(stored))[:3]}")
    found, shapes, unnoticed, launches = [0.0, 0.0, 0.0], set(), [], 0
    for name, linear in linears.items():
        tensors = moved(stored[name], device)
        linear = dataclasses.replace(linear, weight=linear.weight.to(device), magnitude=linear.magnitude.to(device))
        for rows in case.rows:
            x = torch.randn(rows, linear.weight.shape[1], generator=generator).half().to(device)
            result = worst(case, linear, {"given": tensors, "kept": tensors}, x)
            launches += 1
            if result[0] > 1:
                raise Wrong(f"{name}, {rows} rows: error {result[1]:.3g}, bound {result[2]:.3g}")
            found = max(found, result)
        if linear.weight.shape in shapes:
            continue
        shapes.add(linear.weight.shape)
        for tensor in case.damaged:
            if worst(case, linear, {"given": damage(tensors, tensor, linear.bits), "kept": tensors}, x)[0] <= 1:
                unnoticed.append(f"{name}.{tensor}")
    if unnoticed:
        raise Wrong(f"spoiled tensors that were not noticed: {', '.join(unnoticed)}")
    return {"linears": len(linears), "launches": launches, "of_bound": found[0], "error": found[1], "bound": found[2], "spoiled": list(case.damaged)}


def check_words(case, artefact, device):
    """The consumer's own loader makes of a checkpoint what stands in the layout, bit for bit."""
    folder, suffix = case.same
    ours, given, linears = by_linear(artefact / folder), by_linear(artefact / case.folder), linears_of(str(artefact))
    for name, linear in linears.items():
        words = case.call(moved(given[name], device), None, linear).cpu()
        if not torch.equal(words, ours[name][suffix]):
            raise Wrong(f"{name}: {int((words != ours[name][suffix]).sum())} of {words.numel()} words differ")
        if torch.equal(words, spoiled(ours[name][suffix], linear.bits)):
            raise Wrong(f"{name}: a spoiled word was not noticed")
    return {"linears": len(linears), "launches": len(linears), "of_bound": 0.0, "error": 0.0, "bound": 0.0, "spoiled": [suffix]}


def run_case(case, artefacts, libraries, device):
    load(case.library, libraries)
    artefact = artefacts / case.artefact
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        return check_words(case, artefact, device) if case.same else check_products(case, artefact, device, generator)


def rehearse(case, artefacts, libraries):
    """What can be seen without a GPU. Operators of torch itself compute on the CPU, and are checked in full."""
    if not case.library:
        try:
            return run_case(case, artefacts, libraries, "cpu")
        except RuntimeError as refusal:  # NotImplementedError is one
            if "per-tensor scaling for CPU" not in str(refusal) and "'CPU' backend" not in str(refusal):
                raise
            return {}
    load(case.library, libraries)
    artefact = artefacts / case.artefact
    linears, stored = linears_of(str(artefact), case.zeros_apart), by_linear(artefact / case.folder)
    if set(linears) != set(stored):
        raise Wrong(f"linears of {case.folder} are not the reference's")
    expected = by_linear(artefact / case.same[0]) if case.same else {}
    for name, linear in linears.items():
        if case.same and stored[name]["qweight"].dtype != expected[name][case.same[1]].dtype:
            raise Wrong(f"{name}: the layout's words are of another type")
        for tensor in case.damaged if not case.same else ():
            damage(stored[name], tensor, linear.bits)
        for rows in case.rows:
            x = torch.zeros(rows, linear.weight.shape[1], dtype=torch.half)
            try:
                case.call(stored[name], x, linear)
            except NotImplementedError as refusal:
                if "'CPU' backend" not in str(refusal):
                    raise
            else:
                raise Wrong("the operator computed on the CPU")
    return {"linears": len(linears), "launches": 0, "of_bound": 0.0, "error": 0.0, "bound": 0.0, "spoiled": list(case.damaged)}


def report_of(case, arguments):
    report = {"case": case.name, "artefact": case.artefact, "folder": case.folder}
    try:
        if arguments.dry:
            report |= rehearse(case, arguments.artefacts, arguments.libraries)
        else:
            report |= run_case(case, arguments.artefacts, arguments.libraries, "cuda")
        return report | {"ok": True}
    except Exception as problem:  # each case stands for itself
        return report | {"ok": False, "problem": f"{type(problem).__name__}: {str(problem).strip().splitlines()[0][:300] if str(problem).strip() else ''}"}


def child(numbers, arguments):
    for number in numbers:
        report = report_of(CASES[number], arguments)
        broken = False
        if not arguments.dry:
            try:
                torch.cuda.synchronize()
            except Exception as problem:
                broken = True
                report |= {"ok": False, "problem": report.get("problem") or f"{type(problem).__name__}: {str(problem).splitlines()[0][:300]}"}
        print("\n" + json.dumps(report | {"number": number}), flush=True)
        if broken:
            return  # this context computes nothing any more


def lines_of(process):
    """Its lines of JSON, until it ends or is silent for too long."""
    rest = b""
    while select.select([process.stdout], [], [], SILENCE_S)[0]:
        read = os.read(process.stdout.fileno(), 1 << 16)
        if not read:
            return
        *lines, rest = (rest + read).split(b"\n")
        yield from (json.loads(line) for line in lines if line.startswith(b"{"))
    process.kill()


def built(case, arguments):
    return not case.library or (arguments.libraries / f"{case.library}.so").exists()


def all_reports(arguments):
    """One of each case that can be computed here."""
    pending, reports = [n for n, case in enumerate(CASES) if arguments.only in case.name and built(case, arguments)], []
    while pending:
        command = [sys.executable, __file__, str(arguments.artefacts), str(arguments.libraries), "--cases", ",".join(map(str, pending))]
        process = subprocess.Popen(command + ["--dry"] * arguments.dry, stdout=subprocess.PIPE)
        before = len(pending)
        for report in lines_of(process):
            pending.remove(report["number"])
            reports.append(report)
            print(json.dumps(report), flush=True)
        code = process.wait()
        if len(pending) == before or (code != 0 and pending):
            case = CASES[pending.pop(0)]
            reports.append({"case": case.name, "ok": False, "problem": f"its process ended with code {code}, or was silent for {SILENCE_S} s"})
            print(json.dumps(reports[-1]), flush=True)
    return reports


def table(reports, skipped):
    width = max(len(report["case"]) for report in reports)
    print(f"{'case':{width}}  {'linears':>7}  {'max error':>9}  {'its bound':>9}  {'of bound':>8}  ok")
    for report in reports:
        figures = [f"{report.get(key, float('nan')):{size}.3g}" for key, size in (("linears", 7), ("error", 9), ("bound", 9), ("of_bound", 8))]
        print(f"{report['case']:{width}}  {'  '.join(figures)}  {'yes' if report['ok'] else 'NO: ' + report['problem']}")
    for name, reason in skipped.items():
        print(f"{name:{width}}  skipped: {reason}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artefacts", type=pathlib.Path)
    parser.add_argument("libraries", type=pathlib.Path)
    parser.add_argument("--dry", action="store_true", help="without a GPU: everything but the kernels")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--cases", help=argparse.SUPPRESS)  # of a child: their numbers
    arguments = parser.parse_args()
    if arguments.cases:
        return child([int(number) for number in arguments.cases.split(",")], arguments)
    if not arguments.dry and not torch.cuda.is_available():
        print("SKIP: no GPU")
        return 77
    reports = all_reports(arguments)
    if not reports:
        parser.error("no case to compute: no library is built, or none is called so")
    missing = {case.name: f"{case.library}.so is not built" for case in CASES if arguments.only in case.name and not built(case, arguments)}
    table(reports, missing | SKIPPED)
    failed = sum(not report["ok"] for report in reports)
    print(f"{len(reports) - failed} of {len(reports)} cases passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
