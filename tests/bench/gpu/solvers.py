"""What each solver takes for the linears of a block of Llama-3-8B's shape on the GPU, beside the bound of its products, and
beside the peers' own code where this Python has it."""
import collections
import importlib.util
import json

from steps import Failed

# The largest outputs that share an input (q, k, v and gate, up are solved stacked), and the input's width.
SHAPES = {"q, k, v": (6144, 4096), "o": (4096, 4096), "gate, up": (28672, 4096), "down": (4096, 14336)}
GOAL = 3  # an algorithm's time over its products' at the device's measured rate
ALGORITHMS = ["gptq", "hqq", "rtn", "spqr", "awq", "smoothquant"]
PEERS = {"llmc": ("llmcompressor", "gptq"), "hqq": ("hqq", "hqq")}  # its name in peers/linear.py: module, our solver


def run(context):
    shapes = SHAPES if context.gpu else {"small": (256, 256)}
    spent, bound, ours = collections.Counter(), collections.Counter(), {}
    for name, (rows, size) in shapes.items():
        target = context.logs / f"solvers-{size}x{rows}.json"
        context.call([context.program("bench_algorithms"), "--device", context.device, "--rows", rows, "--size", size,
                      *(word for name in ALGORITHMS for word in ("--only", name)), "--json", target],
                     f"bench_algorithms-{size}x{rows}.log")
        for row in json.loads(target.read_text())["algorithms"]:
            context.step.figures[f"{name}, {rows} x {size}: {row['name']}, s"] = round(row["seconds"], 4)
            ours[row["name"], rows, size] = row["seconds"]
            if "flops" in row:
                spent[row["name"]] += row["seconds"]
                bound[row["name"]] += row["flops"] / row["gemm_gflops"] / 1e9
    for name in spent:
        context.step.figures[f"{name} over all of them, over its bound"] = f"{spent[name] / bound[name]:.2f} (goal {GOAL})"
    for tool, (module, solver) in PEERS.items():
        if importlib.util.find_spec(module) is None:
            context.step.figures[f"{tool}'s {solver}"] = f"not measured: no {module} in this Python"
        else:
            beside(context, tool, solver, shapes, ours)


def beside(context, tool, solver, shapes, ours):
    """A peer that doesn't run here is said, and fails nothing: it is not ours."""
    words = [word for rows, size in shapes.values() for word in ("--shape", f"{rows}x{size}")]
    try:
        log = context.call([context.python, context.root / "tests/bench/quality/peers/linear.py", "--tool", tool, "--rounds", 3,
                            "--device", context.device, *words], f"peer-{tool}.log")
    except Failed as reason:
        context.step.figures[f"{tool}'s {solver}"] = f"not measured: {reason}"
        return
    for row in (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")):
        ratio = row["seconds"] / ours[solver, row["rows"], row["size"]]
        context.step.figures[f"{tool}'s {solver}, {row['rows']} x {row['size']}, s"] = f"{row['seconds']:.4f}, {ratio:.1f} x ours"
