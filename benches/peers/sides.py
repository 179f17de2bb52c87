"""What the drivers of comparisons share: programs that answer requests, checked against one reference and timed in turn."""

import array
import os
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
REMEDY = "ended; what it said stands above"
# Seconds ahead of a timing in which the threads of the side before, which wait for work on their processors, go to sleep.
PAUSE = 0.25


class Side:
    """One program that answers requests."""

    def __init__(self, name, command, env=None):
        self.name = name
        env = {**os.environ, **(env or {})}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def ask(self, *words):
        try:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline().strip()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{self.name}, asked {' '.join(map(str, words[:2]))}, {REMEDY}")
        return answer

    def waited(self):
        """Seconds that its threads stood ready and had no processor, since they began; None where the system does not tell."""
        try:
            tasks = f"/proc/{self.process.pid}/task"
            states = [open(f"{tasks}/{task}/schedstat").read().split() for task in os.listdir(tasks)]
            return sum(int(state[1]) for state in states) / 1e9
        except (OSError, IndexError, ValueError):
            return None

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def build_lea():
    """The program of our own side, built if need be."""
    command = ["cargo", "bench", "--bench", "peers", "--no-run"]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    found = re.search(r"Executable .*\((.+)\)", done.stderr)
    if done.returncode or not found:
        sys.exit(done.stderr + "\nour own side could not be built")
    return os.path.join(ROOT, found.group(1))


def read(path):
    values = array.array("f")
    with open(path, "rb") as file:
        values.frombytes(file.read())
    return values


def error(got, wanted, sampled=False, spread=False, largest=True):
    """Largest difference, or the root of their mean square, as a share of the root mean square of what is wanted, or of its
    deviation where `spread`. Missing or NaN counts as infinite; of a side that ran a sample only what it gave counts, a
    twentieth at least."""
    if len(got) != len(wanted) or not len(wanted):
        return float("inf")
    middle = sum(wanted) / len(wanted) if spread else 0.0
    size = (sum((x - middle) ** 2 for x in wanted) / len(wanted)) ** 0.5
    differences = [abs(a - b) for a, b in zip(got, wanted)]
    if sampled:
        differences = [d for d in differences if d == d]
        if 20 * len(differences) < len(wanted):
            return float("inf")
    if any(d != d for d in differences):
        return float("inf")
    found = max(differences) if largest else (sum(d * d for d in differences) / len(differences)) ** 0.5
    return found / size


def warm(side, name, repetitions):
    """Runs until two timings agree, ten times at most: kernels are chosen and compiled in the first ones."""
    last = float("inf")
    for _ in range(10):
        now = float(side.ask("time", name, repetitions))
        if abs(now - last) < 0.1 * now:
            return
        last = now


def measure(sides, name, repetitions, rounds):
    """Seconds of each side, `rounds` of each, in turn; and of those requests the share that its threads stood ready and had no
    processor, by which one sees whether other work slowed a side down: 1 is one thread waiting all the time."""
    times, shares = {side.name: [] for side in sides}, {side.name: [] for side in sides}
    for turn in range(rounds):
        # Each goes first once in so many rounds.
        for side in sides[turn % len(sides):] + sides[:turn % len(sides)]:
            time.sleep(PAUSE)
            waited, start = side.waited(), time.perf_counter()
            times[side.name].append(float(side.ask("time", name, repetitions)))
            took, after = time.perf_counter() - start, side.waited()
            if waited is not None and after is not None:
                shares[side.name].append((after - waited) / took)
    return times, {name: middle(all) for name, all in shares.items() if all}


def middle(times):
    return statistics.median(times)
