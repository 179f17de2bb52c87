"""Users as separate prompts and as one forest, in PyTorch: ids, positions, who sees whom, and attention by that."""

import torch
import torch.nn.functional as F
from decoder import CATALOGUE, CLOSING, ROOT, STEM, Fused
from shapes import VOCABULARY

LEAF = 1 + CLOSING


class Users:
    """Histories and the actions at each of their steps: ids of a table of text tokens and, behind them, items."""

    def __init__(self, count, history, actions, device, seed=1):
        self.count, self.history, self.actions, self.device = count, history, actions, device
        draw = torch.Generator().manual_seed(seed)
        items = lambda *shape: (VOCABULARY + torch.randint(CATALOGUE, shape, generator=draw)).to(device)
        self.histories, self.taken = items(count, history), items(count, history, actions)
        text = lambda length: torch.arange(length, device=device)
        self.root, self.stem, self.closing = text(ROOT), text(STEM), text(CLOSING)

    def prompts(self, step, users=None):
        """All prompts of a step, `[users · actions, length]`, of the first `users` only where given."""
        users = users or self.count
        parts = [self.root.expand(users, -1), self.histories[:users, : step + 1], self.stem.expand(users, -1)]
        prefix = torch.cat(parts, 1).repeat_interleave(self.actions, 0)
        actions = self.taken[:users, step].reshape(-1, 1)
        return torch.cat([prefix, actions, self.closing.expand(len(actions), -1)], 1)

    def trunks(self):
        """Root and history, `[users, length]`."""
        return torch.cat([self.root.expand(self.count, -1), self.histories], 1)


def seeing(depth, step, own, user, stem, leaf):
    """Whether row q sees row `key`, as a function of both: a key that is no deeper, of no later step, and in a branch that q is in
    itself. `own` is the branch of a row, -1 for the root's; `user`, `stem` and `leaf` are those that it is in, -2 where none."""
    depth, step, own, user, stem, leaf = (x.int() for x in (depth, step, own, user, stem, leaf))

    def sees(q, key):
        of = own[key]
        in_branch = (of == -1) | (of == user[q]) | (of == stem[q]) | (of == leaf[q])
        return in_branch & (depth[key] <= depth[q]) & (step[key] <= step[q])

    return sees


class Forest:
    """The rows of one forest: the root, all histories, all separators, all leaves."""

    def __init__(self, users):
        count, history, actions = users.count, users.history, users.actions
        grid = lambda *shape: torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
        steps = count * history
        user, step = (x.flatten() for x in grid(count, history))
        stem_user, stem_step, stem_place = (x.flatten() for x in grid(count, history, STEM))
        leaf_user, leaf_step, leaf, place = (x.flatten() for x in grid(count, history, actions, LEAF))
        stem_branch = count + stem_user * history + stem_step
        leaf_stem = count + leaf_user * history + leaf_step
        leaf_branch = count + steps + (leaf_user * history + leaf_step) * actions + leaf
        root, none = torch.arange(ROOT), lambda like: torch.full_like(like, -2)
        join = lambda *parts: torch.cat(parts).to(users.device)
        self.ids = join(
            users.root.cpu(), users.histories.flatten().cpu(), users.stem.cpu().repeat(steps),
            torch.cat([users.taken[..., None].cpu(), users.closing.cpu().expand(count, history, actions, -1)], -1).flatten(),
        )
        self.positions = join(root, ROOT + step, ROOT + 1 + stem_step + stem_place, ROOT + 1 + STEM + leaf_step + place)
        self.sees = seeing(
            self.positions,
            join(torch.full_like(root, -1), step, stem_step, leaf_step),
            join(torch.full_like(root, -1), user, stem_branch, leaf_branch),
            join(none(root), user, stem_user, leaf_user),
            join(none(root), none(user), stem_branch, leaf_stem),
            join(none(root), none(user), none(stem_user), leaf_branch),
        )
        self.rows = len(self.ids)
        self.inner = self.rows - len(leaf)
        self.trunk = ROOT + torch.arange(steps, device=users.device).view(count, history)
        ends = self.inner + LEAF - 1 + LEAF * torch.arange(steps * actions, device=users.device)
        self.ends = ends.view(count, history, actions)

    def mask(self, q, keys):
        """`[q, keys]`, true where seen."""
        return self.sees(q[:, None], keys[None])


def mix(q, k, v, bias):
    """`[rows, heads, head_dim]` under an additive mask. Key heads are repeated: with a mask, SDPA has no fast kernel that shares
    them."""
    group = q.shape[1] // k.shape[1]
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)[0].transpose(0, 1).flatten(1)


class DenseChunks:
    """SDPA: all rows but the leaves at once, then leaves in chunks that see those and themselves by a dense mask."""

    def __init__(self, forest, dtype, rows=1024):
        inner = torch.arange(forest.inner, device=forest.ids.device)
        self.inner = forest.inner
        self.biases = [self.bias(forest.mask(inner, inner), dtype)]
        for first in range(forest.inner, forest.rows, rows // LEAF * LEAF):
            chunk = torch.arange(first, min(first + rows // LEAF * LEAF, forest.rows), device=inner.device)
            self.biases.append(self.bias(forest.mask(chunk, torch.cat([inner, chunk])), dtype))

    def bias(self, mask, dtype):
        # Rows that begin at whole 16 bytes are what the fast kernel takes without a copy.
        padded = torch.zeros(mask.shape[0], -(-mask.shape[1] // 8) * 8, dtype=dtype, device=mask.device)
        return padded[:, : mask.shape[1]].masked_fill_(~mask, float("-inf"))

    def __call__(self, _, q, k, v):
        sizes = [len(bias) for bias in self.biases]
        inner_k, inner_v = k[: self.inner], v[: self.inner]
        mixed = []
        for bias, q, k, v in zip(self.biases, q.split(sizes), k.split(sizes), v.split(sizes)):
            if mixed:
                k, v = torch.cat([inner_k, k]), torch.cat([inner_v, v])
            mixed.append(mix(q, k, v, bias))
        return torch.cat(mixed)


class Flex:
    """FlexAttention under a block mask; compiled, without which it is no fast kernel."""

    def __init__(self, forest, compiled=True):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        sees = forest.sees
        seen = lambda batch, head, q, key: sees(q, key)
        self.blocks = create_block_mask(seen, None, None, forest.rows, forest.rows, device=forest.ids.device.type)
        self.flex = torch.compile(flex_attention, dynamic=False) if compiled else flex_attention

    def __call__(self, _, q, k, v):
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        mixed = self.flex(q, k, v, block_mask=self.blocks, enable_gqa=q.shape[1] != k.shape[1])
        return mixed[0].transpose(0, 1).flatten(1)


class Compiled(Fused):
    """The layers with what lies between their products fused by torch.compile. One compilation serves all layers; the last has
    fewer rows behind its attention, which is one more."""

    def __init__(self, model):
        super().__init__(model)
        self.project = torch.compile(super().project, dynamic=False)
        self.feed = torch.compile(super().feed, dynamic=False)


def leaf_states(decoder, table, forest, attend):
    """Final hidden state of every leaf's end, `[users · history · actions, d]`."""
    ends = forest.ends.flatten()
    return decoder.final(decoder.run(F.embedding(forest.ids, table), forest.positions, attend, read=ends))
