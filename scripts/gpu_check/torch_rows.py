"""Times of PyTorch beside those of bench-cuda: python3 torch_rows.py [--flex] ROWS.jsonl > TORCH.jsonl

Reads the rows that bench-cuda wrote and does the same work: products in the same type by torch.matmul, attention in bf16 under the
same forest mask by scaled_dot_product_attention (dense mask), its gradients, projections with an adapter; with --flex, attention by FlexAttention (block mask) alone, which is
compiled for each shape, the longest history first. One JSON line a row, or a line with "note" where one cannot be done. Exits with
3 where there is no PyTorch with CUDA.
"""

import json
import re
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    from torch_times import median_ms, said, tell
except ImportError:
    sys.exit(3)
if not torch.cuda.is_available():
    sys.exit(3)

HEAD_DIM = 128


def factor(rows, columns, transposed, kind):
    """A matrix [rows, columns], stored as that or as its transpose."""
    stored = (columns, rows) if transposed else (rows, columns)
    x = torch.rand(*stored, device="cuda", dtype=kind) * 2 - 1
    return x.t() if transposed else x


def product(name, dtype, m, n, k, layout):
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    a, b = factor(m, k, layout[0] == "t", kind), factor(k, n, layout[1] == "t", kind)
    tell(name, "torch.matmul", dtype, median_ms(lambda: torch.matmul(a, b)))


def adapter(name, rank, m, n, k, pass_of):
    """A projection with an adapter, all in bf16: forward, the gradients of x, A and B, or that of x without the adapter."""
    rows = lambda *shape: factor(*shape, False, torch.bfloat16)
    x, w, a, b, grad = rows(m, k), rows(n, k), rows(rank, k), rows(n, rank), rows(m, n)
    if pass_of == ", backward without it":
        return tell(name, "torch.matmul", "bf16", median_ms(lambda: grad @ w))
    forward = lambda: F.linear(x, w) + 2.0 * F.linear(F.linear(x, a), b)
    if not pass_of:
        return tell(name, "F.linear", "bf16", median_ms(forward))
    with torch.enable_grad():
        trained = [t.requires_grad_() for t in (x, a, b)]
        y = forward()
        tell(name, "autograd", "bf16", median_ms(lambda: torch.autograd.grad(y, trained, grad, retain_graph=True)))


def visible(history, candidates, q, kv):
    """Whether row q sees key kv: a trunk row its prefix, a leaf its step's prefix and itself."""
    step = torch.where(q < history, q, (q - history) // candidates)
    return ((kv < history) & (kv <= step)) | (kv == q)


def factors(heads, kv_heads, rows, width=HEAD_DIM):
    return [torch.rand(1, n, rows, width, device="cuda", dtype=torch.bfloat16) for n in (heads, kv_heads, kv_heads)]


def mask_of(history, candidates):
    """`[rows, rows]`, true where seen."""
    at = torch.arange(history * (1 + candidates), device="cuda")
    return visible(history, candidates, at[:, None], at[None, :])


def gradients(name, heads, kv_heads, width, history, candidates):
    """Without extents: the forest of a step of the LE's training."""
    if history:
        mask = mask_of(history, candidates)
    else:
        from torch_forest import Forest, Users

        at = torch.arange((forest := Forest(Users(2, 50, 5, "cuda"))).rows, device="cuda")
        mask = forest.mask(at, at)
    with torch.enable_grad():
        inputs = [x.requires_grad_() for x in factors(heads, kv_heads, len(mask), width)]
        out = F.scaled_dot_product_attention(*inputs, attn_mask=mask, enable_gqa=heads != kv_heads)
        grad = torch.rand_like(out)
        tell(name, "SDPA", "bf16", median_ms(lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True)))


def dense(name, heads, kv_heads, history, candidates):
    rows = history * (1 + candidates)
    if rows > 16384:
        return tell(name, "SDPA", "bf16", note=f"a dense mask of {rows} x {rows} was left out")
    q, k, v = factors(heads, kv_heads, rows)
    mask = mask_of(history, candidates)
    sdpa = lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=heads != kv_heads)
    tell(name, "SDPA", "bf16", median_ms(sdpa))


def flex(name, heads, kv_heads, history, candidates):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    rows = history * (1 + candidates)
    q, k, v = factors(heads, kv_heads, rows)
    seen = lambda b, h, q, kv: visible(history, candidates, q, kv)
    # One shape's kernel is no other's: nothing is compiled for any shape.
    torch._dynamo.reset()
    start = time.monotonic()
    blocks = create_block_mask(seen, None, None, rows, rows, device="cuda", _compile=True)
    compiled = torch.compile(flex_attention, dynamic=False)
    work = lambda: compiled(q, k, v, block_mask=blocks, enable_gqa=heads != kv_heads)
    work()
    torch.cuda.synchronize()
    took = f"{time.monotonic() - start:.0f} s to compile"
    tell(name, "FlexAttention", "bf16", median_ms(work), note=took)


def work(row):
    """What a row is: a kind and its extents, or nothing that PyTorch has."""
    name = row["name"]
    if found := re.search(r"adapter of rank (\d+): (\d+) x (\d+) x (\d+)(, backward(?: without it)?)?$", name):
        *extents, pass_of = found.groups()
        # Products with the adapter's factors alone are among those of f32.
        if row["dtype"] == "bf16":
            return "adapter", (*map(int, extents), pass_of or "")
    of = r"forest gradients, (\d+) heads(?: over (\d+))? of (\d+), (?:LE step|history (\d+), (\d+) candidates)$"
    if row["dtype"] == "bf16" and (found := re.match(of, name)):
        heads, kv_heads, *rest = (int(x) if x else None for x in found.groups())
        return "gradients", (heads, kv_heads or heads, *rest)
    if found := re.search(r": (\d+) x (\d+) x (\d+)(?: ([nt][nt]))?$", name):
        *extents, layout = found.groups()
        return "product", (row["dtype"], *map(int, extents), layout or "nt")
    if row["dtype"] == "bf16" and (
        found := re.match(r"forest, (\d+) heads(?: over (\d+))?, history (\d+), (\d+) candidates$", name)
    ):
        heads, kv_heads, history, candidates = found.groups()
        return "attention", (int(heads), int(kv_heads or heads), int(history), int(candidates))
    return None, ()


def main():
    torch.backends.cuda.matmul.allow_tf32 = False
    with open(sys.argv[-1]) as file:
        rows = [(row, *work(row)) for row in map(json.loads, file)]
    does = {"product": product, "attention": dense, "adapter": adapter, "gradients": gradients}
    if "--flex" in sys.argv:
        does = {"attention": flex}
        # Sorted by history and candidates, both falling; of one shape the heads as they stood.
        rows = sorted((row for row in rows if row[1] == "attention"), key=lambda row: row[2][2:], reverse=True)
    for row, kind, extents in rows:
        if kind not in does:
            continue
        try:
            does[kind](row["name"], *extents)
        except Exception as error:  # one row that fails must not take the others with it
            tell(row["name"], "torch", row["dtype"], note=said(error))
        torch.cuda.empty_cache()


if __name__ == "__main__":
    with torch.no_grad():
        main()
