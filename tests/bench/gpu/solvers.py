"""What each solver takes for the linears of a block of Llama-3-8B's shape on the GPU, beside the bound of its products."""
import json

# The largest outputs that share an input (q, k, v and gate, up are solved stacked), and the input's width.
SHAPES = {"q, k, v": (6144, 4096), "o": (4096, 4096), "gate, up": (28672, 4096), "down": (4096, 14336)}
GOAL = 3  # GPTQ's time over its products' at the device's measured rate


def run(context):
    shapes = SHAPES if context.gpu else {"small": (256, 256)}
    spent = bound = 0
    for name, (rows, size) in shapes.items():
        target = context.logs / f"solvers-{size}x{rows}.json"
        context.call([context.program("bench_algorithms"), "--device", context.device, "--rows", rows, "--size", size,
                      "--only", "gptq", "--only", "hqq", "--only", "rtn", "--only", "awq", "--json", target],
                     f"bench_algorithms-{size}x{rows}.log")
        for row in json.loads(target.read_text())["algorithms"]:
            context.step.figures[f"{name}, {rows} x {size}: {row['name']}, s"] = round(row["seconds"], 4)
            if row["name"] == "gptq":
                spent += row["seconds"]
                bound += row["flops"] / row["gemm_gflops"] / 1e9
    context.step.figures["GPTQ over all of them, over its bound"] = f"{spent / bound:.2f} (goal {GOAL})"
