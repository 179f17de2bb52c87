"""The streams of `counters` as tensors."""

import counters
import torch


def numbers(name, count, bound):
    return torch.from_numpy(counters.numbers(name, count, bound))


def tensor(name, shape, scale=1.0, offset=0.0):
    return torch.from_numpy(counters.values(name, shape, scale, offset))
