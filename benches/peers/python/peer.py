#!/usr/bin/env python3
"""One rival, driven by `benches/peers/run`: requests come on standard input, one a line, each answered by one line, as in
`benches/peers/main.rs`. Arguments: the way (separate, prefix-cache, tree, tree-by-hand, transformers, dense, gathered,
compiled, eager, last-row, last-row-compiled) and the type (f32, bf16)."""

import sys
import time

import torch
from labels import Prefill, PrefixCache, Separate, Tree, TreeByHand
from recommenders import RankAll, Training

LABELLING = {"separate": Separate, "prefix-cache": PrefixCache, "tree": Tree, "tree-by-hand": TreeByHand}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def make(name, way, dtype):
    kind, *words = name.split("-")
    if kind == "label":
        return LABELLING[way](words[0], int(words[1]), int(words[2]), dtype)
    if kind == "prefill":
        return Prefill(words[0], int(words[1]), dtype)
    if kind == "train":
        heads = "dense" if way == "dense" else "gathered"
        return Training(words[0], words[1], int(words[2]), heads, way == "compiled")
    if kind == "rank":
        return RankAll(int(words[0]), way)
    raise ValueError(f"no case {name}")


class Cases:
    def __init__(self, way, dtype):
        self.way, self.dtype, self.ready = way, DTYPES[dtype], {}

    def get(self, name):
        if name not in self.ready:
            self.ready[name] = make(name, self.way, self.dtype)
        return self.ready[name]

    def run(self, name, call):
        # Training needs gradients; the rest must not pay for them.
        with torch.inference_mode(not name.startswith("train")):
            return call(self.get(name))

    def answer(self, words):
        if words == ["describe"]:
            return f"torch {torch.__version__}, {self.way}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
        if words[0] == "check":
            result = self.run(words[1], lambda case: case.check() if hasattr(case, "check") else case.run())
            result.detach().float().numpy().tofile(words[2])
            return "ok"
        if words[0] == "time":
            repetitions = int(words[2])
            case = self.get(words[1])
            start = time.perf_counter()
            self.run(words[1], lambda case: [case.run() for _ in range(repetitions)])
            seconds = (time.perf_counter() - start) / repetitions
            # A way that runs a sample of the steps tells what all of them take.
            return str(seconds / (case.share() if hasattr(case, "share") else 1.0))
        raise ValueError(f"no request {words}")


def main():
    way, dtype = sys.argv[1:3]
    cases = Cases(way, dtype)
    for line in sys.stdin:
        print(cases.answer(line.split()), flush=True)


if __name__ == "__main__":
    main()
