"""The consumers' own kernels on what Lathe writes: tests/peer/consumers/gpu_kernels.sh with the libraries that the pack carries."""
import json
import os

from steps import Failed, Skipped, last_lines, run_logged

# Where tests/peer/gpu_kernels.sh leaves them, and their names in the pack.
BUILT, CARRIED = "build/peers/gpu_kernels/lib", "kernels"
NAMES = ("vllm.so", "machete.so", "exllamav2.so", "awq.so")


def add_to_pack(root, tar):
    """Puts the libraries into the pack where they have been built; says which."""
    built = [name for name in NAMES if (root / BUILT / name).exists()]
    for name in built:
        tar.add(root / BUILT / name, arcname=f"{CARRIED}/{name}")
    return built


def libraries(context):
    for folder in (context.work / "carried" / CARRIED, context.root / BUILT):
        if any((folder / name).exists() for name in NAMES):
            return folder
    raise Skipped("the consumers' kernels are not built and not carried (tests/peer/gpu_kernels.sh, then tests/bench/gpu.sh --pack)")


def reports_in(log):
    return [json.loads(line) for line in open(log, errors="replace") if line.startswith("{")]


def run(context):
    folder, log = libraries(context), context.logs / "consumers.log"
    environment = dict(os.environ, **context.environment, QUANTIZE=str(context.program("quantize")), PYTHON=context.python, KERNELS=str(folder))
    code = run_logged(["bash", "tests/peer/consumers/gpu_kernels.sh", *([] if context.gpu else ["--dry"])], log, context.step.left(), environment, context.root)
    if code == 77:
        raise Skipped(last_lines(log, 1))
    reports = reports_in(log)
    for report in reports:
        figure = f"{100 * report.get('of_bound', 0):.0f} % of the bound, {report.get('linears')} linears" if report["ok"] else f"WRONG: {report['problem']}"
        context.step.figures[report["case"]] = figure
    wrong = [report["case"] for report in reports if not report["ok"]]
    if wrong:
        raise Failed(f"{len(wrong)} of {len(reports)} cases: {'; '.join(wrong)}"[:600])
    if code != 0 or not reports:
        raise Failed(f"exit code {code}: {last_lines(log)}")
