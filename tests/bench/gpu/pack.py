"""gpu.sh --pack: gathers what a machine without our Debian packages and without network needs, in build/gpu-pack.

    pack.tar.xz   usr/...: headers and libraries of the packages in requirements-debian.txt, laid out as Debian does
                  bin/...: our programs, stripped, for a machine on which they can't be built; tests.json: the gpu tests
                  kernels/...: the consumers' kernels, where tests/peer/gpu_kernels.sh has built them
    commit        the commit that was packed
"""
import pathlib
import shutil
import subprocess
import sys
import tarfile

import consumers
import gpu_tests

# The transfer takes 64 MiB, the sources included.
LIMIT = 56 << 20
# Of the C and C++ run time every machine with a compiler has its own.
RUN_TIME = {"libc6", "libc-dev", "libc6-dev", "libgcc-s1", "libstdc++6"}


def development_packages(root):
    lines = (root / "requirements-debian.txt").read_text().splitlines()
    names = [line.split("=")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    return [name for name in names if name.endswith("-dev") or name.startswith("libjs-")]


def with_dependencies(names):
    """The packages and the libraries they depend on, all the way down."""
    found, left = [], list(names)
    while left:
        name = left.pop(0)
        if name in found or name in RUN_TIME:
            continue
        asked = subprocess.run(["dpkg-query", "-W", "-f", "${Depends}", name], capture_output=True, text=True)
        if asked.returncode != 0:
            continue  # virtual, or an alternative that is not installed
        found.append(name)
        depends = [part.split("|")[0].split("(")[0].split(":")[0].strip() for part in asked.stdout.split(",")]
        left += [part for part in depends if part.startswith("lib")]
    return found


def wanted(path):
    """Headers, libraries and their CMake packages, a script that is built in; no manuals, no static twins of shared libraries."""
    text = str(path)
    if text.startswith("/usr/include/") or "/cmake/" in text or text.endswith(".min.js"):
        return path.is_file()
    if not text.startswith("/usr/lib/") or path.is_dir():
        return False
    return ".so" in path.name or (path.suffix == ".a" and not path.with_suffix(".so").exists())


def carried_files(root):
    files = []
    for package in with_dependencies(development_packages(root)):
        listed = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=True).stdout.split("\n")
        files += [pathlib.Path(name) for name in listed if name and wanted(pathlib.Path(name))]
    return sorted(set(files))


def build_programs(root):
    if not (root / "build" / "CMakeCache.txt").exists():
        subprocess.run(["cmake", "--preset", "cuda", "-B", "build"], cwd=root, check=True)
    subprocess.run(["cmake", "--build", "build", "--target", "gpu_programs"], cwd=root, check=True)


def stripped_programs(root, folder):
    """Copies of the programs that gpu.sh runs."""
    folder.mkdir(parents=True)
    names = (root / "build" / "gpu_programs.txt").read_text().split()
    for name in names:
        subprocess.run(["strip", "--strip-unneeded", "-o", folder / name, root / "build" / "bin" / name], check=True)
    return names


def run(root):
    target = root / "build" / "gpu-pack"
    build_programs(root)
    shutil.rmtree(target, ignore_errors=True)
    names = stripped_programs(root, target / "bin")
    gpu_tests.save(gpu_tests.of_build(root, root / "build"), target / "tests.json")
    files = carried_files(root)
    archive = target / "pack.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        for path in files:
            tar.add(path, arcname=str(path)[1:], recursive=False)
        tar.add(target / "bin", arcname="bin")
        tar.add(target / "tests.json", arcname="tests.json")
        kernels = consumers.add_to_pack(root, tar)
    shutil.rmtree(target / "bin")
    (target / "tests.json").unlink()
    commit = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    (target / "commit").write_text(commit)
    size = archive.stat().st_size
    print(f"{archive.relative_to(root)}: {size / 2**20:.1f} MiB; {len(files)} files of packages, programs: {' '.join(names)}; consumers' kernels: {' '.join(kernels) or 'not built'}")
    if size > LIMIT:
        print(f"gpu.sh: the pack is larger than {LIMIT >> 20} MiB, which is what a transfer leaves room for", file=sys.stderr)
        return 1
    return 0
