"""The decoder of a shape, with the weights that lea gives it: transformers' model, and its weights fused for a model
written by hand."""

import torch
import torch.nn.functional as F
from shapes import SHAPES, VOCABULARY, weight
from streams import numbers
from transformers import LlamaConfig, LlamaForCausalLM

CATALOGUE = 1000
# Tokens before the history, between history and action, after the action.
ROOT, STEM, CLOSING = 8, 4, 1


def text(name, length):
    return numbers(name, length, VOCABULARY)


def llama(shape, context, dtype):
    """transformers' model with its language model's head, in evaluation mode."""
    hidden, layers, heads, kv_heads, ffn = SHAPES[shape]
    config = LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=ffn,
        vocab_size=VOCABULARY,
        max_position_embeddings=context,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config).eval()
    for name, param in model.named_parameters():
        param.data.copy_(torch.from_numpy(weight(name, tuple(param.shape), layers)))
    return model.to(dtype)


class Fused:
    """The same weights for a model by hand: query, key and value in one product, gate and up in another."""

    def __init__(self, model):
        config = model.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self.layers = []
        for layer in model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            qkv = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]).detach()
            gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).detach()
            self.layers.append((
                layer.input_layernorm.weight.detach(), qkv, attention.o_proj.weight.detach(),
                layer.post_attention_layernorm.weight.detach(), gate_up, mlp.down_proj.weight.detach(),
            ))
        self.norm = model.norm.weight.detach()
        frequencies = 1.0 / 10000.0 ** (torch.arange(0, self.head_dim, 2).float() / self.head_dim)
        angles = torch.outer(torch.arange(config.max_position_embeddings).float(), frequencies)
        angles = torch.cat([angles, angles], -1)
        self.cos, self.sin = angles.cos().to(self.norm.dtype), angles.sin().to(self.norm.dtype)

    def rotate(self, x, positions):
        """`x: [rows, heads, head_dim]`."""
        half = self.head_dim // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * self.cos[positions, None] + turned * self.sin[positions, None]

    def run(self, x, positions, attend):
        """Rows `[rows, d]` through all layers; `attend(layer, q, k, v)` gives `[rows, heads · head_dim]`."""
        rows, width = x.shape
        cut = [self.heads, self.kv_heads, self.kv_heads]
        for index, (input_norm, qkv, out, post_norm, gate_up, down) in enumerate(self.layers):
            y = F.linear(F.rms_norm(x, (width,), input_norm, self.eps), qkv)
            q, k, v = y.view(rows, -1, self.head_dim).split(cut, 1)
            mixed = attend(index, self.rotate(q, positions), self.rotate(k, positions), v)
            x = x + F.linear(mixed, out)
            gate, up = F.linear(F.rms_norm(x, (width,), post_norm, self.eps), gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, down)
        return x

    def final(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.norm, self.eps)
