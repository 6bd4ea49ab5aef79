"""A run on a disk that fails (libfailing_disk.so): each fault is one clear line and exit code 2, nothing half-written stays, and
once the disk is sound again the run is gone on with, or begun anew, and writes what an undisturbed one writes, byte for byte.

    fail_and_resume.py QUANTIZE FOLDER [--places N] [--seed S] [--again FLAG] -- --recipe R ...

FOLDER is made and holds the output, and is what {folder} stands for in the flags. A command is another one than a run where the
flags begin with its name; --again is the flag that lets it replace what it wrote. For every call that the run makes on files below it (write, sync, room, open, rename, mkdir,
read), `--places` of its calls fail: the first, some between, and the last, with EIO and as on a full disk in turn.
"""
import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys

from kill_and_resume import files_of

REASONS = {"EIO": "Input/output error", "ENOSPC": "No space left on device"}


class Disk:
    def __init__(self, quantize, folder, flags, again):
        self.folder, self.journal = folder, folder / ".out.journal"
        flags = [flag.replace("{folder}", str(folder)) for flag in flags]
        output = [] if flags[0] == "compare" else ["--output", str(folder / "out")]
        self.command = [quantize, *flags, *output]
        self.again = [again] if again else []
        self.library = pathlib.Path(quantize).resolve().parent / "libfailing_disk.so"

    def run(self, *more, **environment):
        environment = {"LD_PRELOAD": str(self.library), "FAIL_UNDER": str(self.folder), **environment} if environment else {}
        return subprocess.run([*self.command, *more], env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, timeout=300)

    def counted(self, *more, **environment):
        """A run, and how often it made each call."""
        counts = self.folder.parent / f"{self.folder.name}.counts"
        run = self.run(*more, FAIL_COUNT=str(counts), **environment)
        return run, {name: int(number) for name, number in (line.split() for line in counts.read_text().splitlines())}

    def written(self):
        """By name, what stands in the folder and was meant to stay; {} for a folder that nothing was put into."""
        return {path.name: files_of(path) for path in self.folder.iterdir() if path != self.journal}

    def left(self):
        return sorted(path.name for path in self.folder.iterdir())

    def begin_anew(self):
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def check_fault(disk, expected, call, number, lasting, error):
    """Returns how the run ended: "refused", or "done" where the fault concerned nothing that counts (the lock's file, say)."""
    fault = f"{call}:{number}{'+' if lasting else ''}:{error}"
    disk.begin_anew()
    run, calls = disk.counted(FAIL_AT=fault)
    lines = run.stderr.splitlines()
    if run.returncode == 0:
        if disk.written() != expected:
            sys.exit(f"FAIL: {fault}: ended well, and wrote something else")
        if call in ("sync", "rename") and calls[call] >= number:  # how often is synced depends on the time
            sys.exit(f"FAIL: {fault}: nothing was said, and what was written may not be on the disk")
        return "done"
    if run.returncode != 2 or len(lines) != 1:
        sys.exit(f"FAIL: {fault}: exit code {run.returncode}, expected 2 and one line: {run.stderr}")
    if REASONS[error] not in lines[0] or str(disk.folder) not in lines[0]:
        sys.exit(f"FAIL: {fault}: the line names no file or not the reason: {lines[0]}")
    for name, found in disk.written().items():
        if name not in expected:
            sys.exit(f"FAIL: {fault}: left behind: {disk.left()}")
        if found and found != expected[name]:
            sys.exit(f"FAIL: {fault}: {name} is not whole")
    more = ["--resume"] if disk.journal.is_dir() else disk.again
    again = disk.run(*more)
    if again.returncode != 0:
        sys.exit(f"FAIL: {fault}: then {more} ended with {again.returncode}: {again.stderr}")
    if disk.written() != expected or disk.journal.exists():
        sys.exit(f"FAIL: {fault}: then {more}: differs from an undisturbed run; left: {disk.left()}")
    return "refused"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("quantize")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--places", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", default="--overwrite")
    own, flags = sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:]
    args = parser.parse_args(own)
    args.folder.mkdir(parents=True)
    disk = Disk(args.quantize, args.folder.resolve(), flags, args.again)
    run, calls = disk.counted()
    if run.returncode != 0:
        sys.exit(f"FAIL: an undisturbed run ended with {run.returncode}: {run.stderr}")
    expected = disk.written()
    dice, ended = random.Random(args.seed), {"refused": 0, "done": 0}
    for call, made in calls.items():
        places = {1, made} | {dice.randint(1, made) for _ in range(args.places - 2)} if made else set()
        for turn, number in enumerate(sorted(places)[:args.places]):
            full = turn % 2 == 1 and call in ("write", "room", "open", "mkdir")
            ended[check_fault(disk, expected, call, number, full, "ENOSPC" if full else "EIO")] += 1
    disk.begin_anew()
    if disk.run(FAIL_AT="rename:1:300ms").returncode != 0 or disk.written() != expected:
        sys.exit("FAIL: a slow rename changed the result")
    print(f"{sum(ended.values())} faults: {ended['refused']} refused and gone on with, {ended['done']} that took nothing "
          f"({', '.join(f'{number} {name}' for name, number in calls.items())} calls)")
    if ended["refused"] < 3:
        sys.exit("FAIL: hardly a fault was seen")


if __name__ == "__main__":
    main()
