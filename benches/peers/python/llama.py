#!/usr/bin/env python3
"""llama.cpp's side of the prefill, through llama-cpp-python: the same weights in a GGUF file and the same tokens, with the
requests of `benches/peers/main.rs`. The argument is the type of the weights, f32 or bf16."""

import ctypes
import os
import sys
import tempfile
import time

import gguf
import llama_cpp
import numpy as np
from counters import numbers
from shapes import SHAPES, VOCABULARY, weight


def interleaved(rows, heads):
    """llama.cpp rotates neighbouring elements of a head, a checkpoint has its halves."""
    dim = rows.shape[0] // heads
    return rows.reshape(heads, 2, dim // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def write(path, shape, context, kind):
    hidden, layers, heads, kv_heads, ffn = SHAPES[shape]
    width = hidden // heads * kv_heads
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(context)
    out.add_embedding_length(hidden)
    out.add_block_count(layers)
    out.add_feed_forward_length(ffn)
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_freq_base(10000.0)
    out.add_rope_dimension_count(hidden // heads)
    out.add_vocab_size(VOCABULARY)
    out.add_tokenizer_model("none")

    def add(name, data):
        stored = kind if data.ndim == 2 else gguf.GGMLQuantizationType.F32
        out.add_tensor(name, gguf.quants.quantize(data, stored), raw_dtype=stored)

    add("token_embd.weight", weight("model.embed_tokens.weight", (VOCABULARY, hidden), layers))
    add("output_norm.weight", weight("model.norm.weight", (hidden,), layers))
    add("output.weight", weight("lm_head.weight", (VOCABULARY, hidden), layers))
    for layer in range(layers):
        of = lambda part, *size: weight(f"model.layers.{layer}.{part}.weight", size, layers)
        add(f"blk.{layer}.attn_norm.weight", of("input_layernorm", hidden))
        add(f"blk.{layer}.attn_q.weight", interleaved(of("self_attn.q_proj", hidden, hidden), heads))
        add(f"blk.{layer}.attn_k.weight", interleaved(of("self_attn.k_proj", width, hidden), kv_heads))
        add(f"blk.{layer}.attn_v.weight", of("self_attn.v_proj", width, hidden))
        add(f"blk.{layer}.attn_output.weight", of("self_attn.o_proj", hidden, hidden))
        add(f"blk.{layer}.ffn_norm.weight", of("post_attention_layernorm", hidden))
        add(f"blk.{layer}.ffn_gate.weight", of("mlp.gate_proj", ffn, hidden))
        add(f"blk.{layer}.ffn_up.weight", of("mlp.up_proj", ffn, hidden))
        add(f"blk.{layer}.ffn_down.weight", of("mlp.down_proj", hidden, ffn))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


class Prefill:
    def __init__(self, name, kind):
        _, shape, tokens = name.split("-")
        tokens = int(tokens)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.gguf")
            write(path, shape, tokens, kind)
            threads = len(os.sched_getaffinity(0))
            self.model = llama_cpp.Llama(path, n_ctx=tokens, n_batch=tokens, n_ubatch=tokens, n_threads=threads,
                                         n_threads_batch=threads, use_mmap=False, verbose=False)
        self.tokens = [int(token) for token in numbers("prompt", tokens, VOCABULARY)]

    def run(self):
        self.model.reset()
        self.model.eval(self.tokens)

    def logits(self):
        self.run()
        found = llama_cpp.llama_get_logits_ith(self.model.ctx, -1)
        return np.ctypeslib.as_array(ctypes.cast(found, ctypes.POINTER(ctypes.c_float)), (VOCABULARY,)).copy()


def answer(words, kind, ready):
    if words == ["describe"]:
        return f"llama.cpp through llama-cpp-python {llama_cpp.__version__}"
    what, name, last = words
    if name not in ready:
        ready[name] = Prefill(name, kind)
    if what == "check":
        ready[name].logits().tofile(last)
        return "ok"
    if what == "time":
        start = time.perf_counter()
        for _ in range(int(last)):
            ready[name].run()
        return str((time.perf_counter() - start) / int(last))
    raise ValueError(f"no request {words}")


def main():
    kind, ready = gguf.GGMLQuantizationType[sys.argv[1].upper()], {}
    for line in sys.stdin:
        print(answer(line.split(), kind, ready), flush=True)


if __name__ == "__main__":
    main()
