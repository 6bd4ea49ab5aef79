"""What the machine is: for the head of the results."""
import datetime
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess


def output_of(*command):
    """The output of a command, or nothing where there is no such command or it fails."""
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() if done.returncode == 0 else ""


def gpu():
    """(name, driver, memory) of the first GPU as nvidia-smi gives them, or nothing."""
    rows = output_of("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader").splitlines()
    return [field.strip() for field in rows[0].split(",")] if rows else []


def commit(root):
    """Of the pack, where there is one: a copy of the files may come with an older history, or with none. Else of the checkout."""
    packed = root / "build" / "gpu-pack" / "commit"
    if packed.exists():
        return packed.read_text().strip()
    return output_of("git", "-C", str(root), "rev-parse", "HEAD") or "unknown"


def processor():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def torch_folder():
    """Where torch is installed; not imported, which takes seconds."""
    import importlib.util
    found = importlib.util.find_spec("torch")
    return str(pathlib.Path(found.origin).parent) if found else ""


def describe(root, no_gpu):
    """gpu is empty where there is none, or where none is to be used; no_gpu then says why."""
    found = [] if no_gpu else gpu()
    nvcc = [line for line in output_of("nvcc", "--version").splitlines() if "release" in line]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(root),
        "gpu": found[0] if found else "",
        "driver": found[1] if found else "",
        "gpu_memory": found[2] if found else "",
        "no_gpu": "" if found else "--no-gpu was given" if no_gpu else "nvidia-smi finds none",
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch_folder(),
        "torch_version": importlib.metadata.version("torch") if torch_folder() else "",
        "nvcc": nvcc[0].split("release")[1].split(",")[0].strip() if nvcc else "",
        "compiler": (output_of("g++", "--version").splitlines() or [""])[0],
    }
