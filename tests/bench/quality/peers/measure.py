"""What a peer's quantisation call took: wall and CPU seconds (its children's, too), and the process's peak memory."""
import contextlib
import json
import resource
import time


class Span:
    def __init__(self):
        self.wall = self.cpu = 0.0

    def report(self):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": self.wall, "cpu_seconds": self.cpu, "peak_rss_bytes": peak}), flush=True)


def cpu_seconds():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


@contextlib.contextmanager
def span():
    result = Span()
    wall, cpu = time.perf_counter(), cpu_seconds()
    yield result
    result.wall, result.cpu = time.perf_counter() - wall, cpu_seconds() - cpu
