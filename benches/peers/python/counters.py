"""Inputs that every side computes for itself: elements of named streams, by a counter (`benches/peers/counter.rs`)."""

import numpy as np

MASK = (1 << 64) - 1


def bits(name, count):
    """The bits of the first `count` elements of the stream `name`."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def numbers(name, count, bound):
    """Whole numbers below `bound`, int64."""
    return (bits(name, count) % np.uint64(bound)).astype(np.int64)


def values(name, shape, scale=1.0, offset=0.0):
    """Uniform in offset ± scale, f32."""
    floats = (bits(name, int(np.prod(shape))) >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1.0
    return (offset + scale * floats).astype(np.float32).reshape(shape)
