"""What the scripts beside PyTorch share: rows as lines of JSON, times, and an end that holds whatever happens."""

import json
import math
import os
import threading
import time

# Importing PyTorch is a part of the time.
STARTED = time.monotonic()

import torch  # noqa: E402


def tell(name, by, dtype, ms=None, note=None, **more):
    if ms is not None:
        more["waits"] = waited
    print(json.dumps({"name": name, "by": by, "dtype": dtype, "ms": ms, **more, "note": note}), flush=True)


def said(error):
    """An error in one line."""
    return f"{type(error).__name__}: " + str(error).strip().split("\n")[0][:200]


# Of a GPU: milliseconds of work that needs no other run behind it; most runs of shorter work; cycles (some 1.5 ms) that it waits ahead of
# them, while the host lays them out: else short rows would be the host's times. benches/cuda.rs does the same.
LONG, MOST_RUNS, CYCLES_AHEAD = 2.0, 20, 2_500_000
# Whether the last median may hold waits for the host all the same.
waited = False


def timed(work, device, runs=1):
    """Milliseconds of one run, of so many in a row: by events of the GPU, or by the clock."""
    global waited
    if torch.device(device).type != "cuda":
        start = time.perf_counter()
        for _ in range(runs):
            work()
        return 1e3 * (time.perf_counter() - start) / runs
    before, behind = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    if runs > 1:
        torch.cuda._sleep(CYCLES_AHEAD)
    before.record()
    for _ in range(runs):
        work()
    behind.record()
    if runs > 1 and before.query():
        waited = True  # The GPU came to the first run before the last was laid out.
    torch.cuda.synchronize()
    return before.elapsed_time(behind) / runs


def median_ms(work, device="cuda", repetitions=15, seconds=float("inf"), warm_up=2):
    """Median of so many runs, of fewer (one at least) where they take more than `seconds`."""
    global waited
    waited = False
    for _ in range(warm_up):
        work()
    runs = 1
    if torch.device(device).type == "cuda":
        runs = min(MOST_RUNS, max(1, math.ceil(LONG / max(timed(work, device), 1e-3))))
    times, end = [], time.monotonic() + seconds
    while len(times) < repetitions and (not times or time.monotonic() < end):
        times.append(timed(work, device, runs))
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
