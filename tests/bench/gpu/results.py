"""results.json, results.md and logs.tar.gz."""
import json
import tarfile

TITLES = {"date": "date", "commit": "commit", "gpu": "GPU", "gpu_memory": "its memory", "driver": "driver", "processor": "processor",
          "cores": "cores", "torch_version": "torch", "nvcc": "CUDA compiler", "compiler": "C++ compiler", "python": "Python"}


def describe_plan(plan, arguments, here, root):
    """What --dry-run prints."""
    pack = root / "build" / "gpu-pack" / "pack.tar.xz"
    lines = [f"GPU: {here['gpu'] or 'none: ' + here['no_gpu']}", f"torch {here['torch_version']} of Python {here['python']}",
             f"CUDA compiler: {here['nvcc'] or 'none'}",
             f"carried packages and programs: {pack.relative_to(root) if pack.exists() else 'none (tests/bench/gpu.sh --pack)'}",
             f"programs: {'carried' if arguments.prebuilt else 'built, else carried'}",
             f"results: {arguments.out}/results.json, results.md and logs.tar.gz", f"steps, {arguments.minutes:g} minutes at most:"]
    return "\n".join(lines + [f"  {name} (at most {limit:.0f} s)" for name, limit, _ in plan])


def as_markdown(here, steps):
    lines = ["# Lathe on a GPU" if here["gpu"] else f"# Lathe, rehearsal without a GPU ({here['no_gpu']})", "", "| | |", "| --- | --- |"]
    lines += [f"| {title} | {here[key]} |" for key, title in TITLES.items() if here.get(key)]
    lines += ["", "| step | result | seconds | why |", "| --- | --- | --- | --- |"]
    lines += [f"| {step.name} | {step.status} | {step.seconds:.0f} | {step.reason.replace('|', '/')} |" for step in steps]
    for step in steps:
        if step.figures:
            lines += ["", f"## {step.name}", "", "| | |", "| --- | --- |"]
            lines += [f"| {name} | {str(value).replace('|', '/')} |" for name, value in step.figures.items()]
    return "\n".join(lines)


def write(folder, here, steps, logs):
    """Three files, whatever the steps left: a machine that is lent may give back only a few."""
    machine = {key: value for key, value in here.items() if key != "torch"}  # no paths of a machine
    (folder / "results.json").write_text(json.dumps({"schema": 1, "machine": machine, "steps": [step.as_json() for step in steps]}, indent=1) + "\n")
    (folder / "results.md").write_text(as_markdown(here, steps) + "\n")
    if logs.is_dir():
        with tarfile.open(folder / "logs.tar.gz", "w:gz") as archive:
            archive.add(logs, "logs")
