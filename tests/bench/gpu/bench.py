"""The calibration benchmark on the GPU: one block and a whole seeded model of Llama-3-8B's shape, and every statistic against
the CPU's. Its full JSON is among the logs; here are the figures that are looked at first."""
import json

from steps import Failed


def run(context):
    target = context.logs / "calibration.json"
    models = ["--model", "smollm2", "--model", "block4096", "--model", "8b"]
    context.call([context.program("bench_calibration"), "--device", context.device, *models, *([] if context.gpu else ["--quick"]),
                  "--json", target], "bench_calibration.log")
    measured = json.loads(target.read_text())
    if not context.gpu:  # the small models of a rehearsal meet no goal, and are not meant to
        forget_goals(measured)
    for row in measured["models"]:
        context.step.figures.update(block_figures(row))
    for row in measured["passes"]:
        context.step.figures.update(pass_figures(row))
    for row in measured["engine"]:
        context.step.figures.update(engine_figures(row))
    check_agreement(context, measured["agreement"])


def forget_goals(value):
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        forget_goals(entry)
    if isinstance(value, dict) and "goal" in value:
        value["goal"] = None


def goal_of(row):
    return "" if row.get("goal") is None else f" (goal {row['goal']:g}, {'met' if row['met'] else 'not met'})"


def block_figures(row):
    name, forward = row["model"], row["forward"]
    figures = {
        f"{name}: forward, TFLOP/s of the linears": round(forward["gflops_per_s"] / 1000, 3),
        f"{name}: forward over products alone": f"{forward['ratio']:.3f}{goal_of(forward)}",
        f"{name}: forward with Gram, beyond the forward": f"{100 * row['forward_with_gram']['part']:.1f} %",
        f"{name}: forward with every statistic, beyond the forward": f"{100 * row['forward_with_every']['part']:.1f} %",
        f"{name}: peak memory, GiB": round(row["peak_bytes"] / 2**30, 3),
    }
    for statistic in row["statistics"]:
        figures[f"{name}: {statistic['name']}, part of the forward"] = f"{100 * statistic['part']:.1f} %{goal_of(statistic)}"
    return figures


def pass_figures(row):
    samples, context = row["samples"]
    name = f"{row['model']}, {row['blocks']} blocks, {samples} x {context} tokens"
    forward, gram = row["bound_seconds"]
    return {
        f"{name}: forward, s": round(row["forward_seconds"], 3),
        f"{name}: forward and Gram, s": round(row["forward_gram_seconds"], 3),
        f"{name}: bound of the device's peak, s": f"{forward:.2f} + {gram:.2f}",
        f"{name}: over the bound": f"{row['ratio_to_bound']:.2f}{goal_of(row)}",
        f"{name}: forward, TFLOP/s": round(row["forward_tflops_per_s"], 1),
        f"{name}: making the weights, s": round(row["weights_seconds"], 2),
        f"{name}: peak memory, GiB": round(row["peak_bytes"] / 2**30, 2),
    }


def engine_figures(row):
    figures = {}
    for placement in row["placements"]:
        name = f"{row['model']}, the driver over {row['blocks']} blocks, hidden states on the {placement['hidden_states']}"
        figures[f"{name}: run, s"] = round(placement["run_seconds"], 3)
        figures[f"{name}: without statistics and solvers, s"] = round(placement["streaming_seconds"], 3)
        figures[f"{name}: run over the bound"] = f"{placement['ratio_to_bound']:.2f}{goal_of(placement)}"
        figures[f"{name}: peak memory, GiB"] = round(placement["peak_bytes"] / 2**30, 2)
    return figures


def check_agreement(context, rows):
    """Every row is held to its own bound; the largest difference of each statistic is shown."""
    largest = {}
    for row in rows:
        key = (row["statistic"], row["dtype"])
        if key not in largest or row["difference"] / max(row["bound"], 1e-30) > largest[key]["difference"] / max(largest[key]["bound"], 1e-30):
            largest[key] = row
    for (statistic, dtype), row in largest.items():
        context.step.figures[f"{statistic} of {dtype}, {context.device} against cpu"] = f"{row['difference']:.1e} (at most {row['bound']:g})"
    wrong = [f"{row['statistic']} {row['tensor']} ({row['dtype']}): {row['difference']:.1e}" for row in rows if not row["met"]]
    if wrong:
        raise Failed("beyond their bounds: " + ", ".join(wrong))
