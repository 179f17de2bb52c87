"""Labels a data set in shards on a Ray cluster whose nodes see one folder, then merges them.

    python label_shards.py --shards 16 --out OUT -- --data DATA --decoder DECODER --le LE [more flags of lea label]

Give absolute paths. A shard whose node is lost is run again and goes on where it stopped; run the whole again, and finished shards do nothing.
"""

import argparse
import ctypes
import os
import signal
import subprocess
import sys

import ray


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--out", required=True, help="folder of the labels, seen by every node")
    parser.add_argument("--cpus", type=float, default=1, help="CPUs that Ray sets aside for a shard")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs that Ray sets aside for a shard")
    parser.add_argument("--retries", type=int, default=3, help="runs of a shard beyond the first")
    parser.add_argument("--address", help="cluster to join; a local one is started without it")
    parser.add_argument("--lea", default="lea", help="the program, on every node")
    parser.add_argument("label", nargs="+", help="flags of lea label")
    return parser.parse_args()


def die_with(parent):
    """Has the process that this is called in killed once `parent` is gone: a worker that is killed would leave a shard
    that goes on, and whose lock keeps out the run that takes its place."""
    PR_SET_PDEATHSIG = 1
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def run(command):
    parent = os.getpid()
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: die_with(parent))
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout.strip()


def main():
    args = arguments()
    # Workers have working folders of their own.
    out = os.path.abspath(args.out)
    ray.init(address=args.address, num_cpus=None if args.address else os.cpu_count())

    # A failed run and a lost node are both reasons to run the shard again.
    @ray.remote(num_cpus=args.cpus, num_gpus=args.gpus, max_retries=args.retries, retry_exceptions=True)
    def label(number):
        shard = f"{number}/{args.shards}"
        return run([args.lea, "label", *args.label, "--out", out, "--shard", shard, "--resume"])

    waiting = [label.remote(number) for number in range(1, args.shards + 1)]
    while waiting:
        done, waiting = ray.wait(waiting)
        print(ray.get(done[0]).splitlines()[-1], flush=True)
    print(run([args.lea, "labels", "merge", out]))


if __name__ == "__main__":
    main()
