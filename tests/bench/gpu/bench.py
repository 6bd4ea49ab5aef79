"""The calibration benchmark on the GPU: a seeded model of Llama-3-8B's shape, and every statistic against the CPU's."""
import json

from steps import Skipped


def run(context):
    if not (context.programs / "calibration_bench").exists():
        raise Skipped("there is no calibration_bench in this build")
    target = context.out / "calibration.json"
    size = ["--model", "8b"] if context.gpu else ["--quick"]
    context.call([context.program("calibration_bench"), "--device", context.device, *size, "--json", target], "calibration_bench.log",
                 context.step.limit)
    context.step.figures.update(flat(json.loads(target.read_text())))


def flat(value, name=""):
    """Nested JSON as one level of names and numbers."""
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = [(entry.get("name", i) if isinstance(entry, dict) else i, entry) for i, entry in enumerate(value)]
    else:
        return {name: round(value, 5) if isinstance(value, float) else value}
    rows = {}
    for key, entry in pairs:
        rows.update(flat(entry, f"{name} {key}".strip()))
    return rows
