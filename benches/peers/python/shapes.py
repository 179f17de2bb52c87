"""Shapes of decoders, and the weights that lea's side gives them (`benches/peers/labelling.rs`)."""

from counters import values

VOCABULARY = 512
# The deviation of a fresh decoder, as the half width of a uniform distribution.
SIZE = 0.02 * 3**0.5
# Hidden, layers, heads, key heads, FFN.
SHAPES = {
    "tiny": (288, 6, 6, 6, 768),
    "small": (576, 30, 9, 3, 1536),
    "llama-1b": (2048, 16, 32, 8, 8192),
    "llama-7b": (4096, 32, 32, 32, 11008),
}


def weight(name, shape, layers):
    """The weight `name` of a decoder of so many layers, f32. Projections that add to the residual stream are smaller."""
    adds = name.endswith(("o_proj.weight", "down_proj.weight"))
    scale = SIZE / (2 * layers) ** 0.5 if adds else SIZE
    return values(name, shape, *((0.125, 1.0) if name.endswith("norm.weight") else (scale, 0.0)))
