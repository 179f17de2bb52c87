"""Rewards of actions at every step of a history, in the ways that one would write them in PyTorch."""

import torch
import torch.nn.functional as F
from decoder import CATALOGUE, CLOSING, ROOT, STEM, Fused, llama, text
from shapes import SIZE
from streams import numbers, tensor
from transformers import DynamicCache


class History:
    """One history and the actions at each of its steps."""

    def __init__(self, shape, history, actions, dtype):
        self.history, self.actions = history, actions
        self.model = llama(shape, ROOT + history + STEM + 1 + CLOSING, dtype).model
        width = self.model.config.hidden_size
        items = tensor("item_tokens", (CATALOGUE, width), SIZE).to(dtype)
        self.head = tensor("score.weight", (width,), SIZE).to(dtype)
        embed = self.model.embed_tokens.weight.detach()
        self.root, self.stem, self.closing = embed[text("root", ROOT)], embed[text("stem", STEM)], embed[text("closing", CLOSING)]
        self.trunk = torch.cat([self.root, items[numbers("history", history, CATALOGUE)]])
        self.taken = items[numbers("actions", history * actions, CATALOGUE)].view(history, actions, width)

    def leaves(self, step):
        """`[actions, 1 + CLOSING, d]`."""
        closing = self.closing.expand(self.actions, -1, -1)
        return torch.cat([self.taken[step][:, None], closing], 1)

    def empty(self):
        return torch.full((self.history, self.actions), float("nan"))


class Sampled(History):
    """A way whose cost is a sum over steps: every fifth step is run, their mean length being that of all steps."""

    every = 5

    def steps(self):
        return range(self.every // 2, self.history, self.every)

    def run(self):
        rewards = self.empty()
        for step in self.steps():
            rewards[step] = self.score(step)
        return rewards

    def share(self):
        return len(self.steps()) / self.history


class Separate(Sampled):
    """Every prompt by itself; those of a step have one length and make one batch."""

    def score(self, step):
        prefix = torch.cat([self.trunk[: ROOT + step + 1], self.stem]).expand(self.actions, -1, -1)
        prompts = torch.cat([prefix, self.leaves(step)], 1)
        last = self.model(inputs_embeds=prompts, use_cache=False).last_hidden_state[:, -1]
        return last @ self.head


class PrefixCache(Sampled):
    """The history once; at every step the separator once, then its actions as a batch on copies of the cache."""

    def run(self):
        self.cache = DynamicCache()
        self.model(inputs_embeds=self.trunk[None], past_key_values=self.cache, use_cache=True)
        return super().run()

    def copied(self, cache, length, batch):
        copy = DynamicCache()
        for index, layer in enumerate(cache.layers):
            cut = [x[:, :, :length].expand(batch, -1, -1, -1) for x in (layer.keys, layer.values)]
            copy.update(*cut, index)
        return copy

    def score(self, step):
        length = ROOT + step + 1
        prefix = self.copied(self.cache, length, 1)
        self.model(inputs_embeds=self.stem[None], past_key_values=prefix, use_cache=True)
        prefix = self.copied(prefix, length + STEM, self.actions)
        hidden = self.model(inputs_embeds=self.leaves(step), past_key_values=prefix, use_cache=True)
        return hidden.last_hidden_state[:, -1] @ self.head


class Tree(History):
    """One tree: the history once, all separators in one pass, then leaves in chunks of rows that attend by a mask."""

    def __init__(self, *shape, chunk=512):
        super().__init__(*shape)
        self.decoder = Fused(self.model)
        self.leaf = 1 + CLOSING
        self.labels = chunk // self.leaf

    def run(self):
        trunk = self.trunk.shape[0]
        keys = []

        def causal(_, q, k, v):
            keys.append((k, v))
            return self.mix(q, k, v, torch.ones(trunk, trunk, dtype=torch.bool).tril())

        self.decoder.run(self.trunk, torch.arange(trunk), causal)
        self.extend_by_stems(keys, trunk)
        stop = self.history * self.actions
        chunks = [self.chunk(keys, trunk, first, min(first + self.labels, stop)) for first in range(0, stop, self.labels)]
        return torch.cat(chunks).view(self.history, self.actions)

    def extend_by_stems(self, keys, trunk):
        """Appends the keys and values of every step's separator."""
        step = torch.arange(self.history).repeat_interleave(STEM)
        place = torch.arange(STEM).repeat(self.history)
        prefix = torch.arange(trunk)[None] < ROOT + 1 + step[:, None]
        own = (step[:, None] == step[None]) & (place[:, None] >= place[None])
        mask = torch.cat([prefix, own], 1)

        def attend(index, q, k, v):
            keys[index] = tuple(torch.cat(pair) for pair in zip(keys[index], (k, v)))
            return self.mix(q, *keys[index], mask)

        self.decoder.run(self.stem.repeat(self.history, 1), ROOT + 1 + step + place, attend)

    def chunk(self, keys, trunk, first, stop):
        """Rewards of labels first..stop, which belong to few steps."""
        step = torch.arange(first, stop) // self.actions
        low, high = int(step[0]), int(step[-1]) + 1
        stems = slice(trunk + low * STEM, trunk + high * STEM)
        prefix = torch.arange(trunk)[None] < ROOT + 1 + step[:, None]
        stem = torch.arange(low, high).repeat_interleave(STEM)[None] == step[:, None]
        mask = torch.cat([prefix, stem], 1).repeat_interleave(self.leaf, 0)
        place = torch.arange(self.leaf).repeat(stop - first)
        positions = ROOT + 1 + STEM + step.repeat_interleave(self.leaf) + place
        taken = self.taken.view(-1, self.taken.shape[-1])[first:stop]
        x = torch.cat([taken[:, None], self.closing.expand(stop - first, -1, -1)], 1).flatten(0, 1)

        def attend(index, q, k, v):
            seen = [torch.cat([whole[:trunk], whole[stems]]) for whole in keys[index]]
            return self.leaves_see(q, k, v, *seen, mask)

        x = self.decoder.run(x, positions, attend)
        return self.decoder.final(x.view(stop - first, self.leaf, -1)[:, -1]) @ self.head

    def mix(self, q, k, v, mask):
        heads = [x.transpose(0, 1)[None] for x in (q, k, v)]
        mixed = F.scaled_dot_product_attention(*heads, attn_mask=mask, enable_gqa=k.shape[1] != q.shape[1])
        return mixed[0].transpose(0, 1).flatten(1)

    def leaves_see(self, q, k, v, keys, values, mask):
        """Attention of leaves by one mask over what they see and the chunk itself."""
        leaf = torch.arange(q.shape[0]) // self.leaf
        own = (leaf[:, None] == leaf[None]) & torch.ones(q.shape[0], q.shape[0], dtype=torch.bool).tril()
        return self.mix(q, torch.cat([keys, k]), torch.cat([values, v]), torch.cat([mask, own], 1))


class TreeByHand(Tree):
    """The same with the softmax written out, so that a leaf is not compared with the other leaves of its chunk."""

    def leaves_see(self, q, k, v, keys, values, mask):
        rows, heads, dim = q.shape
        group = heads // k.shape[1]
        scale = dim**-0.5
        # [kv heads, group · rows, dim], one product a key head.
        grouped = q.view(rows, -1, group, dim).permute(1, 2, 0, 3)
        outer = (grouped.flatten(1, 2) @ keys.permute(1, 2, 0)).view(-1, group, rows, keys.shape[0])
        outer = (outer * scale).masked_fill(~mask, float("-inf"))
        leaves = rows // self.leaf
        own_k, own_v = (x.view(leaves, self.leaf, -1, dim).permute(2, 0, 1, 3) for x in (k, v))
        own_q = q.view(leaves, self.leaf, -1, group, dim).permute(2, 3, 0, 1, 4)
        own = (own_q @ own_k[:, None].transpose(-1, -2)) * scale
        own = own.masked_fill(~torch.ones(self.leaf, self.leaf, dtype=torch.bool).tril(), float("-inf"))
        weights = torch.cat([outer, own.flatten(2, 3)], -1).softmax(-1)
        seen, inner = weights.split([keys.shape[0], self.leaf], -1)
        mixed = (seen.flatten(1, 2) @ values.permute(1, 0, 2)).view(-1, group, rows, dim)
        mixed = mixed + (inner.view(-1, group, leaves, self.leaf, self.leaf) @ own_v[:, None]).flatten(2, 3)
        return mixed.permute(2, 0, 1, 3).flatten(1)


class Prefill:
    """transformers' model over one prompt: the logits after its last token."""

    def __init__(self, shape, tokens, dtype):
        self.model = llama(shape, tokens, dtype)
        self.tokens = text("prompt", tokens)[None]

    def run(self):
        return self.model(input_ids=self.tokens, use_cache=True, logits_to_keep=1).logits[0]
