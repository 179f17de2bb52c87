"""Training steps of SASRec and GRU4Rec, and full-ranking evaluation, in PyTorch."""

import re

import torch
import torch.nn.functional as F
from streams import numbers, tensor
from torch import nn

USERS, WIDTH, NEGATIVES, DISCOUNT = 256, 64, 10, 0.5
RANKED, CHECKED_USERS, CHECKED_STEPS = 2048, 4, 4
KINDS = {"sasrec": (50, 2), "gru": (10, 1)}
# Which weights of a recurrent layer torch's names mean.
SIDES = {"ih": "input", "hh": "hidden"}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.inner_norm = (nn.LayerNorm(WIDTH, eps=1e-8) for _ in range(2))
        for name in ("query", "key", "value", "output", "inner", "outer"):
            setattr(self, name, nn.Linear(WIDTH, WIDTH))

    def forward(self, x, last=False):
        """All rows, or the last row of each sequence alone."""
        y = self.attention_norm(x)
        asking = y[:, -1:] if last else y
        heads = [self.query(asking)[:, None], self.key(y)[:, None], self.value(y)[:, None]]
        mixed = F.scaled_dot_product_attention(*heads, is_causal=not last)[:, 0]
        x = (x[:, -1:] if last else x) + self.output(mixed)
        return x + self.outer(F.relu(self.inner(self.inner_norm(x))))


class SasRec(nn.Module):
    def __init__(self, history, blocks):
        super().__init__()
        self.positions = nn.Parameter(torch.empty(history, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-8)

    def forward(self, x, last=False):
        x = x + self.positions[: x.shape[1]]
        for block in self.blocks[:-1]:
            x = block(x)
        return self.norm(self.blocks[-1](x, last))


class Gru(nn.Module):
    def __init__(self, _history, layers):
        super().__init__()
        self.layers = nn.GRU(WIDTH, WIDTH, layers, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-8)

    def forward(self, x):
        return self.norm(self.layers(x)[0])


class Network(nn.Module):
    """Item embedding, encoder, supervised head tied to the embedding, Q head."""

    def __init__(self, kind, items, has_q):
        super().__init__()
        history, depth = KINDS[kind]
        self.items = nn.Embedding(items, WIDTH)
        self.encoder = {"sasrec": SasRec, "gru": Gru}[kind](history, depth)
        self.head_bias = nn.Parameter(torch.empty(items))
        if has_q:
            self.q = nn.Linear(WIDTH, items)

    def forward(self, ids, **rows):
        return self.encoder(self.items(ids) * WIDTH**0.5, **rows)

    def logits(self, h):
        return F.linear(h, self.items.weight, self.head_bias)

    def fill(self, prefix=""):
        """Sets every parameter to the stream of lea's name for it."""
        for name, param in self.named_parameters():
            name = name.replace("head_bias", "head.bias")
            name = re.sub(r"layers\.(weight|bias)_(ih|hh)_l(\d+)", lambda m: f"layers.{m[3]}.{SIDES[m[2]]}.{m[1]}", name)
            layers = "blocks" in name or "layers" in name
            if name.endswith("norm.weight"):
                scale, offset = 0.125, 1.0
            else:
                scale, offset = (0.125 if layers or name.endswith("bias") else 0.0625), 0.0
            param.data.copy_(tensor(prefix + name, param.shape, scale, offset))
        return self


class Training:
    """One optimiser step. `heads`: how Q-values of the chosen actions are got, "dense" as in the published code of SQN and
    SNQN (all items, then a selection) or "gathered" (those items' rows of the head alone)."""

    def __init__(self, kind, framework, items, heads="gathered", compiled=False):
        has_q = framework != "ce"
        self.framework, self.heads = framework, heads
        self.network = Network(kind, items, has_q).fill()
        self.other = Network(kind, items, has_q).fill("other.") if has_q else None
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
        history = KINDS[kind][0]
        ids = numbers("history", USERS * (history + 1), items).view(USERS, history + 1)
        self.read, self.targets = ids[:, :-1].contiguous(), ids[:, 1:].reshape(-1)
        drawn = NEGATIVES if framework == "snqn" else 0
        self.negatives = numbers("negatives", USERS * history * drawn, items).view(USERS * history, drawn)
        self.terminal = torch.zeros(USERS, history)
        self.terminal[:, -1] = 1.0
        self.loss = torch.compile(self.plain_loss) if compiled else self.plain_loss

    def next_values(self, features):
        """Q'(s, argmax Q(s, ·)) at every step."""
        with torch.no_grad():
            best = self.network.q(features.detach()).argmax(-1)
            other = self.other(self.read).flatten(0, 1)
            return (other * self.other.q.weight[best]).sum(-1) + self.other.q.bias[best]

    def q_of(self, features, ids):
        q = self.network.q
        if self.heads == "dense":
            return q(features).gather(1, ids)
        weight = F.embedding(ids, q.weight)
        return (weight @ features[:, :, None])[..., 0] + q.bias[ids]

    def plain_loss(self):
        h = self.network(self.read).flatten(0, 1)
        loss = F.cross_entropy(self.network.logits(h), self.targets)
        if self.other is None:
            return loss
        values = self.next_values(h)
        following = torch.roll(values, -1) * (1.0 - self.terminal.flatten())
        q = self.q_of(h, torch.cat([self.targets[:, None], self.negatives], 1))
        loss = loss + (0.5 * (1.0 + DISCOUNT * following - q[:, 0]) ** 2).mean()
        if self.framework == "snqn":
            loss = loss + (0.5 * (DISCOUNT * values[:, None] - q[:, 1:]) ** 2).mean()
        return loss

    def run(self):
        loss = self.loss()
        value = loss.item()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return torch.tensor([value])

    def check(self):
        return torch.cat([self.run() for _ in range(CHECKED_STEPS)])


class RankAll:
    """Ranks each user's last read item among all, ties counting half. Ways: "eager" runs both blocks for all rows, as published
    code does; "last-row" the last block for the row that is read alone, as lea does; "last-row-compiled" that compiled."""

    batch = 256

    def __init__(self, items, way):
        self.rows = {} if way == "eager" else {"last": True}
        self.ranks = torch.compile(self.plain_ranks) if way == "last-row-compiled" else self.plain_ranks
        self.network = Network("sasrec", items, False).fill().eval()
        self.read = numbers("history", RANKED * KINDS["sasrec"][0], items).view(RANKED, -1)

    def scores(self, read):
        return self.network.logits(self.network(read, **self.rows)[:, -1])

    def plain_ranks(self, read):
        scores = self.scores(read)
        own = scores.gather(1, read[:, -1:])
        greater, equal = (scores > own).sum(-1), (scores == own).sum(-1)
        return 1.0 + greater + (equal - 1) / 2.0

    def run(self):
        ranks = [self.ranks(read) for read in self.read.split(self.batch)]
        ranks = torch.cat(ranks).double()
        gains = 1.0 / torch.log2(1.0 + ranks)
        hits = [(ranks <= cutoff).double() for cutoff in (5, 10, 20)]
        return torch.stack([metric.mean() for hit in hits for metric in (hit, hit * gains)])

    def check(self):
        return torch.cat([self.run(), self.scores(self.read[:CHECKED_USERS]).flatten()])
