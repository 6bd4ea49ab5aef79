"""How near the memory's rate the kernels of every grid come on the device."""
import json


def run(context):
    target = context.logs / "grids.json"
    size = [] if context.gpu else ["--rows", 64, "--rounds", 1]
    context.call([context.program("bench_grids"), "--device", context.device, *size, "--json", target], "bench_grids.log")
    measured = json.loads(target.read_text())
    for kind in ("weights", "inputs"):
        for row in measured[kind]:
            works = [f"{work} {row[work]['gb_per_second']:.0f} GB/s, {100 * row[work]['part_of_copy']:.0f} %"
                     for work in ("ranges", "encode", "decode", "round") if work in row]
            context.step.figures[f"{kind}, {row['scheme']}: rates, parts of a copy's"] = "; ".join(works)
