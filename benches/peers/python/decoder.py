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


def configured(shape, context, layers=None):
    """The configuration of a shape, with fewer layers where `layers` says so."""
    hidden, all_layers, heads, kv_heads, ffn = SHAPES[shape]
    return LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers or all_layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=ffn,
        vocab_size=VOCABULARY,
        max_position_embeddings=context,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        attn_implementation="sdpa",
    )


def llama(shape, context, dtype):
    """transformers' model with its language model's head, in evaluation mode."""
    config = configured(shape, context)
    model = LlamaForCausalLM(config).eval()
    for name, param in model.named_parameters():
        param.data.copy_(torch.from_numpy(weight(name, tuple(param.shape), config.num_hidden_layers)))
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
        self.cos, self.sin = angles.cos().to(self.norm), angles.sin().to(self.norm)

    def rotate(self, x, cos, sin):
        """`x: [rows, heads, head_dim]`."""
        half = self.head_dim // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * cos + turned * sin

    def project(self, weights, x, cos, sin):
        """Query, key and value of a layer, each `[rows, heads, head_dim]`."""
        y = F.linear(F.rms_norm(x, (x.shape[1],), weights[0], self.eps), weights[1])
        q, k, v = y.view(x.shape[0], -1, self.head_dim).split([self.heads, self.kv_heads, self.kv_heads], 1)
        return self.rotate(q, cos, sin), self.rotate(k, cos, sin), v

    def feed(self, weights, x, mixed):
        """What a layer does after its attention."""
        _, _, out, post_norm, gate_up, down = weights
        x = x + F.linear(mixed, out)
        gate, up = F.linear(F.rms_norm(x, (x.shape[1],), post_norm, self.eps), gate_up).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, down)

    def run(self, x, positions, attend, read=None):
        """Rows `[rows, d]` through all layers; `attend(layer, q, k, v)` gives `[rows, heads · head_dim]`. Only the rows `read`
        leave the last layer, where given."""
        cos, sin = self.cos[positions, None], self.sin[positions, None]
        for index, weights in enumerate(self.layers):
            mixed = attend(index, *self.project(weights, x, cos, sin))
            if read is not None and index == len(self.layers) - 1:
                x, mixed = x[read], mixed[read]
            x = self.feed(weights, x, mixed)
        return x

    def final(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.norm, self.eps)
