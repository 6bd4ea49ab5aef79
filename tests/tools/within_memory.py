#!/usr/bin/env python3
"""Runs a command in a memory control group of its own: the kernel kills what takes more than the limit.

    within_memory.py BYTES [--report FILE] -- COMMAND...

Page cache counts, too, but is let go before anything is killed; there is no swap beyond the limit. FILE gets, as JSON,
`killed` (processes that the kernel ended for their memory), `peak_rss` (bytes) and `seconds`. Exit code: the command's
(137 where it was killed), or 77 with one line that says why no such group can be made here.
"""
import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path


class Unavailable(Exception):
    pass


def mounts():
    """(file system type, mount point, options) of each mount."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        yield kind, Path(fields.split(" ")[4]), options.split(",")


def own_groups():
    """Path of this process's group by controller; '' is version 2's."""
    groups = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def places():
    """(version, folder in which a group may be made), likeliest first."""
    groups = own_groups()
    for kind, point, options in mounts():
        if kind == "cgroup" and "memory" in options and "memory" in groups:
            yield 1, point / groups["memory"].lstrip("/")
    for kind, point, _ in mounts():
        if kind != "cgroup2" or "" not in groups:
            continue
        own = point / groups[""].lstrip("/")
        for folder in (own, own.parent):  # a group that holds processes hands no memory on, so beside it
            control = folder / "cgroup.subtree_control"
            if control.is_file() and "memory" in control.read_text().split():
                yield 2, folder


class Group:
    def __init__(self, limit):
        reasons = []
        for self.version, parent in places():
            self.folder = parent / f"lathe-test-{os.getpid()}"
            try:
                self.folder.mkdir()
            except OSError as error:
                reasons.append(str(error))
                continue
            try:
                if self.version == 1:
                    self.write("memory.limit_in_bytes", limit)
                    self.write("memory.memsw.limit_in_bytes", limit, optional=True)
                else:
                    self.write("memory.max", limit)
                    self.write("memory.swap.max", 0, optional=True)
                return
            except OSError as error:
                reasons.append(str(error))
                self.folder.rmdir()
        raise Unavailable("; ".join(reasons) or "no memory controller that hands memory on to groups")

    def write(self, name, value, optional=False):
        if not optional or (self.folder / name).exists():
            (self.folder / name).write_text(str(value))

    def killed(self):
        text = (self.folder / ("memory.oom_control" if self.version == 1 else "memory.events")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    def remove(self):
        for _ in range(100):  # a killed process is gone a moment after it was waited for
            try:
                return self.folder.rmdir()
            except OSError:
                time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("limit", type=int, metavar="BYTES")
    parser.add_argument("--report", type=Path)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the command and its group end, too
    try:
        group = Group(arguments.limit)
    except (Unavailable, OSError) as error:
        print(f"no memory control group can be made here: {error}", file=sys.stderr)
        return 77
    try:
        begin = time.monotonic()
        status = subprocess.run(arguments.command, preexec_fn=lambda: group.write("cgroup.procs", os.getpid())).returncode
        if arguments.report:
            arguments.report.write_text(json.dumps({
                "killed": group.killed(), "seconds": round(time.monotonic() - begin, 1),
                "peak_rss": 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}))
        return 128 - status if status < 0 else status
    finally:
        group.remove()


if __name__ == "__main__":
    sys.exit(main())
