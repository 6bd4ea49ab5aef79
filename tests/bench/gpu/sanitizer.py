"""NVIDIA's compute-sanitizer over our kernels, as their tests call them: out-of-bounds and misaligned accesses (memcheck), and
races in shared memory (racecheck)."""
import re
import shutil

from steps import Failed, Skipped

TOOLS = ("memcheck", "racecheck")
FOUND = 9  # its exit code where it found something; the tests' own is 1


def run(context):
    program = shutil.which("compute-sanitizer", path=context.environment["PATH"])
    if not context.gpu or not program:
        raise Skipped("no compute-sanitizer" if context.gpu else "no GPU")
    for tool in TOOLS:
        log = f"sanitizer-{tool}.log"
        try:
            context.call([program, "--tool", tool, "--kernel-name", "kernel_substring=lathe", "--error-exitcode", FOUND,
                          context.program("unit_kernels"), "--gtest_filter=*Gpu.*"], log)
        finally:
            text = (context.logs / log).read_text(errors="replace")
            context.step.figures[tool] = "; ".join(re.findall(r"(?:ERROR|RACECHECK) SUMMARY: .*", text)) or "no summary"
            context.step.figures[f"{tool}: tests passed"] = len(re.findall(r"^\[       OK \]", text, re.M))
        if not re.search(r"^\[  PASSED  \] [1-9]", text, re.M):
            raise Failed(f"{tool}: no test passed")
