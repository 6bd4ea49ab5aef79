"""One step of the run: its limit of time, what became of it, and the commands that it runs."""
import os
import signal
import subprocess
import time


class Skipped(Exception):
    """The step can't be done here; the text says why."""


class Failed(Exception):
    """The step was done and its result is wrong; the text says what."""


class Step:
    """status: passed, failed or skipped. figures: name to number or text, for the results."""

    def __init__(self, name, limit):
        self.name, self.deadline = name, time.monotonic() + limit
        self.status, self.reason, self.seconds, self.figures = "failed", "", 0.0, {}

    def left(self):
        """Seconds that this step may still take."""
        return self.deadline - time.monotonic()

    def run(self, work, context):
        started = time.monotonic()
        context.step = self
        try:
            if self.left() < 5:
                raise Failed("no time left")
            work(context)
            self.status = "passed"
        except Skipped as reason:
            self.status, self.reason = "skipped", str(reason)
        except Failed as reason:
            self.reason = str(reason)
        except subprocess.TimeoutExpired as expired:
            self.reason = f"stopped after {expired.timeout:.0f} s: {expired.cmd[0]}"
        except Exception as error:  # one step's bug must not cost the results of the others
            self.reason = f"{type(error).__name__}: {error}"
        self.seconds = time.monotonic() - started

    def as_json(self):
        return {"name": self.name, "status": self.status, "reason": self.reason, "seconds": round(self.seconds, 1), "figures": self.figures}


def run_logged(command, log, limit, environment=None, cwd=None):
    """Runs a command with its output in a file. Returns the exit code; raises TimeoutExpired after `limit` seconds."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    with open(log, "w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=cwd, start_new_session=True)
        try:
            return process.wait(max(limit, 1))
        except BaseException:
            stop(process)
            raise


def stop(process):
    """Ends a process with its children. ninja's have process groups of their own: it ends them itself when it is asked to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
            return
        except subprocess.TimeoutExpired:
            pass
        except ProcessLookupError:
            return


def last_lines(log, count=3):
    lines = [line.strip() for line in open(log, errors="replace") if line.strip()]
    return " | ".join(lines[-count:])[:600]
