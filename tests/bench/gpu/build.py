"""Builds the programs from the sources and the carried packages, or takes the carried programs."""
import json
import os
import pathlib
import shutil
import sys
import tarfile
import time

import gpu_tests
from steps import Failed, last_lines, run_logged


class Context:
    """What the steps share: the folders, the device, and (after the build) the programs."""

    def __init__(self, root, arguments, here):
        self.root, self.arguments = root, arguments
        self.work = arguments.work.resolve()
        self.logs = self.work / "logs"
        self.here, self.gpu, self.python = here, bool(here["gpu"]), sys.executable
        self.device = "cuda" if self.gpu else "cpu"  # a rehearsal compares the CPU with itself
        self.programs, self.tests, self.step = None, [], None
        carried = self.work / "carried" / "usr"
        libraries = [str(carried / "lib" / "x86_64-linux-gnu"), str(pathlib.Path(here["torch"]) / "lib")]
        # Compilers, CMake and ninja of a Python environment stand beside its python.
        tools = [str(pathlib.Path(sys.executable).parent), "/usr/local/cuda/bin", os.environ.get("PATH", "")]
        libraries += filter(None, [os.environ.get("LD_LIBRARY_PATH")])  # where some machines keep the driver
        # Programs run beside each other: threads that wait must not keep a core.
        self.environment = {"LD_LIBRARY_PATH": ":".join(libraries), "PATH": ":".join(tools), "OMP_WAIT_POLICY": "PASSIVE"}

    def program(self, name):
        path = self.programs / name
        if not path.exists():
            raise Failed(f"no program {name} in {self.programs}")
        return path

    def call(self, command, log):
        """Runs one of our programs in the time that the step has left; Failed with its last words where it fails."""
        log = self.logs / log
        code = run_logged(command, log, self.step.left(), dict(os.environ, **self.environment), self.root)
        if code != 0:
            raise Failed(f"{pathlib.Path(str(command[0])).name}: exit code {code}: {last_lines(log)}")
        return log


def unpack(context):
    archive = context.root / "build" / "gpu-pack" / "pack.tar.xz"
    carried = context.work / "carried"
    if archive.exists() and not carried.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(carried)
    return carried


def configure_command(context, carried, build):
    prefix = carried / "usr"
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=context.environment["PATH"]) else []
    return ["cmake", *generator, "-S", context.root, "-B", build, f"-DLATHE_TORCH={context.here['torch']}",
            f"-DLATHE_PYTHON={context.python}", "-DLATHE_CUDA=AUTO", "-DLATHE_WERROR=OFF",
            f"-DCMAKE_CUDA_ARCHITECTURES={context.arguments.architectures}",
            *([f"-DCMAKE_PREFIX_PATH={prefix}"] if prefix.exists() else [])]


def compile_programs(context, carried):
    """Empty where all went well, else what went wrong."""
    build, log = context.work / "build", context.logs / "build.log"
    environment = dict(os.environ, **context.environment)
    if not shutil.which("cmake", path=context.environment["PATH"]):
        return "no cmake"
    if run_logged(configure_command(context, carried, build), context.logs / "configure.log", context.step.left(), environment):
        return f"configuring failed: {last_lines(context.logs / 'configure.log')}"
    command = ["cmake", "--build", build, "-j", context.arguments.jobs, "--target", "gpu_programs"]
    if run_logged(command, log, context.step.left(), environment):
        return f"building failed: {last_lines(log)}"
    return ""


def run(context):
    carried = unpack(context)
    problem = "--prebuilt was given" if context.arguments.prebuilt else ""
    started = time.monotonic()
    if not problem:
        try:
            problem = compile_programs(context, carried)
        except Exception as error:  # a compiler that never ends, too: the carried programs may still run
            problem = f"{type(error).__name__}: {error}"
    context.step.figures["seconds to build"] = round(time.monotonic() - started, 1)
    if not problem:
        context.programs, context.step.figures["programs"] = context.work / "build" / "bin", "built here"
        context.tests = gpu_tests.of_build(context.root, context.work / "build")
    elif (carried / "bin").exists():
        context.programs, context.step.figures["programs"] = carried / "bin", f"carried ({problem})"
        context.tests = json.loads((carried / "tests.json").read_text())
    else:
        raise Failed(f"{problem}, and no programs are carried (tests/bench/gpu.sh --pack)")
    if problem and not context.arguments.prebuilt:
        raise Failed(f"{problem}; the carried programs do the other steps")
    if context.gpu and not (context.programs / "liblathe_cuda.so").exists():
        raise Failed("the build has no CUDA kernels: no nvcc was found")
