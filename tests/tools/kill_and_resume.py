"""A run is killed (kill -9) at random moments and gone on with, killed again meanwhile, until it ends: what it writes must be
what an uninterrupted run writes, byte for byte, and nothing else may be left. Every run is given --resume, the first one, too.

    kill_and_resume.py QUANTIZE FOLDER --kills 5 --seed 1 [--cases N] -- --recipe R --model M ...

FOLDER is made and holds the output. One case is a run with its kills; the moments come from the seed: how far the journal has
grown, so that a busy machine changes nothing, and a while after that. Half of the kills strike within milliseconds of the
growth, so as to hit a write.
"""
import argparse
import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

TIMES = ("report.json", "report.md", "report.html", "sensitivity.md", "sensitivity.html")  # what holds times


def files_of(folder):
    """Contents by name, without what may differ between two equal runs, of a folder, or the file itself."""
    found = {}
    if folder.is_file():
        return {folder.name: re.sub(rb' time="[^"]*"', b"", folder.read_bytes())}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.name in TIMES:
            continue
        found[name] = path.read_bytes()
        if path.name == "manifest.json":
            manifest = json.loads(found[name])
            del manifest["reports"]  # their hashes
            found[name] = json.dumps(manifest).encode()
    return found


class Runs:
    def __init__(self, quantize, folder, flags, rng):
        self.command = [quantize, "--output", str(folder / "out"), "--resume", *flags]
        self.folder, self.rng = folder, rng
        self.out, self.journal = folder / "out", folder / ".out.journal"
        self.kills = self.during_write = self.resumed = self.most = 0

    def start(self):
        return subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def states(self):
        """Blocks whose hidden states are there."""
        try:
            return [int(path.name[7:]) for path in self.journal.iterdir() if path.name.startswith("states-")]
        except FileNotFoundError:
            return []

    def size(self):
        """Of the journal, without hidden states."""
        try:
            return (self.journal / "journal").stat().st_size
        except FileNotFoundError:
            return 0

    def measure(self):
        """An uninterrupted run: what it writes, how long it takes, and how far its journal grows."""
        began = time.monotonic()
        run = self.start()
        while run.poll() is None:
            self.most = max(self.most, self.size())
            time.sleep(0.002)
        if run.returncode != 0:
            sys.exit(f"FAIL: ended with {run.returncode}: {run.stderr.read()}")
        self.seconds = time.monotonic() - began
        for report in self.out.rglob("report.json"):
            memory = json.loads(report.read_text())["memory"]
            if memory["peak"]["disk"] > memory["planned"]["disk"]:
                sys.exit(f"FAIL: {memory['peak']['disk']} bytes of temporary files, {memory['planned']['disk']} planned")
        return files_of(self.out)

    def kill(self, run, least, most):
        """Kills the run once its journal has grown to between `least` and `most` of its size; false where it ended before."""
        least = min(max(least, self.size() / self.most), most)
        target, at_a_write = self.rng.uniform(least, most) * self.most, self.rng.random() < 0.5
        while self.size() < target and run.poll() is None:
            time.sleep(0.0005)
        time.sleep(self.rng.choice((0, 0.0005, 0.002)) if at_a_write else self.rng.uniform(0, self.seconds / 8))
        run.send_signal(signal.SIGKILL)
        _, err = run.communicate()
        if run.returncode == 0:
            return False
        if run.returncode != -signal.SIGKILL:
            sys.exit(f"FAIL: ended by itself with {run.returncode}: {err}")
        self.kills += 1
        self.during_write += at_a_write
        return True

    def case(self, kills, most):
        """Kills a run `kills` times, the first time mostly behind some blocks, then lets it end."""
        self.ended_killed = False
        early = most == 1 and self.rng.random() < 0.2
        run_was_killed = True
        for number in range(kills):
            if self.out.is_dir() and not self.journal.is_dir():
                break  # killed when all was done
            if not self.kill(self.start(), 0 if early or number > 0 else 0.3, most):
                run_was_killed = False
                break
        if self.out.is_dir() and not self.journal.is_dir():
            self.ended_killed = run_was_killed
            return  # it came to its end
        least = min(self.states(), default=0)
        if least == 1:
            least = 0  # of the first boundary's states nobody can tell from outside whether they are whole
        run = self.start()
        _, err = run.communicate()
        if run.returncode != 0:
            sys.exit(f"FAIL: --resume ended with {run.returncode}: {err}")
        went_on = re.search(r"resume: (\d+) of", err)
        if went_on:
            self.resumed += int(went_on.group(1)) > 0
            if int(went_on.group(1)) < least:
                sys.exit(f"FAIL: block {least}'s hidden states were there, but {went_on.group(0)} ...: {err}")
        elif least > 0:
            sys.exit(f"FAIL: block {least}'s hidden states were there, and nothing was resumed: {err}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("quantize")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--cases", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    own, flags = sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:]
    args = parser.parse_args(own)
    args.folder.mkdir(parents=True)
    runs = Runs(args.quantize, args.folder, flags, random.Random(args.seed))
    expected = runs.measure()
    for number in range(args.cases):
        shutil.rmtree(runs.out)
        runs.case(args.kills, 1 if args.cases > 1 else 0.75)  # a single case is to be killed half way
        found = files_of(runs.out)
        wrong = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
        if wrong:
            sys.exit(f"FAIL: case {number}: differs from an uninterrupted run: {', '.join(sorted(wrong))}")
        left = sorted(path.name for path in args.folder.iterdir())
        if runs.ended_killed and left[:1] == [".out.lock"]:
            del left[0]  # killed with all done but the removal of its lock's file, which holds nobody up
        if left != ["out"]:
            sys.exit(f"FAIL: case {number}: left behind: {left}")
    print(f"{runs.kills} kills, {runs.during_write} of them at a write; {runs.resumed} of {args.cases} runs went on "
          f"with finished blocks; {len(expected)} files alike")
    if runs.resumed == 0:
        sys.exit("FAIL: no run was gone on with: the kills come too early or too late")


if __name__ == "__main__":
    main()
