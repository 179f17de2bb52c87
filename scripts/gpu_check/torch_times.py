"""What the scripts beside PyTorch share: rows as lines of JSON, times, and an end that holds whatever happens."""

import json
import os
import threading
import time

# Importing PyTorch is a part of the time.
STARTED = time.monotonic()

import torch  # noqa: E402


def tell(name, by, dtype, ms=None, note=None, **more):
    print(json.dumps({"name": name, "by": by, "dtype": dtype, "ms": ms, **more, "note": note}), flush=True)


def said(error):
    """An error in one line."""
    return f"{type(error).__name__}: " + str(error).strip().split("\n")[0][:200]


def timed(work, device):
    """Milliseconds of one run: by events of the GPU, or by the clock."""
    if torch.device(device).type != "cuda":
        start = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - start)
    before, behind = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    before.record()
    work()
    behind.record()
    torch.cuda.synchronize()
    return before.elapsed_time(behind)


def median_ms(work, device="cuda", repetitions=15, seconds=float("inf"), warm_up=2):
    """Median of so many runs, of fewer (one at least) where they take more than `seconds`."""
    for _ in range(warm_up):
        work()
    times, end = [], time.monotonic() + seconds
    while len(times) < repetitions and (not times or time.monotonic() < end):
        times.append(timed(work, device))
    return sorted(times)[len(times) // 2]


class Deadline:
    """Ends the process when its time is over, whatever it waits for: what it told until then stands."""

    def __init__(self, seconds):
        self.seconds, self.end = seconds, STARTED + seconds
        threading.Thread(target=self.wait, daemon=True).start()

    def left(self):
        return self.end - time.monotonic()

    def wait(self):
        time.sleep(max(self.left(), 0.0))
        tell("all", "torch", "", note=f"stopped: the {self.seconds:g} s were over")
        os._exit(0)
