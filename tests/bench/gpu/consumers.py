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


def note(context, log):
    """The figures of the cases that were done; the names of those that are wrong."""
    reports = [json.loads(line) for line in open(log, errors="replace") if line.startswith("{") and line.endswith("}\n")]
    for report in reports:
        done = f"{100 * report['of_bound']:.0f} % of the bound, {report['linears']} linears" if report.get("launches") else "called without a GPU"
        context.step.figures[report["case"]] = done if report["ok"] else f"WRONG: {report['problem']}"
    return [report["case"] for report in reports if not report["ok"]]


def run(context):
    folder, log = libraries(context), context.logs / "consumers.log"
    environment = dict(os.environ, **context.environment, QUANTIZE=str(context.program("quantize")), PYTHON=context.python, KERNELS=str(folder))
    code, wrong = None, []
    try:
        code = run_logged(["bash", "tests/peer/consumers/gpu_kernels.sh", *([] if context.gpu else ["--dry"])], log, context.step.left(), environment,
                          context.root)
    finally:
        wrong = note(context, log)  # of a run that was stopped, too
    if code == 77:
        raise Skipped(last_lines(log, 1))
    if wrong or code != 0:
        raise Failed(f"{len(wrong)} cases are wrong: {'; '.join(wrong)}"[:600] if wrong else f"exit code {code}: {last_lines(log)}")
