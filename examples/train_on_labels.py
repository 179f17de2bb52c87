"""Trains a plain PyTorch GRU on labels:  python train_on_labels.py LABELS_DIR [--epochs N]

At every step it learns the item taken next and, at a smaller weight, the action that the LE itself would take; states of
the LE enter as a second input. Users of the split's test part are left out and ranked at the end. Needs labels of a split
by the protocol sqn, made with candidates.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence


def read(folder):
    """The manifest, and of every user with labels the tensors of its steps in order."""
    manifest = json.loads((folder / "manifest.json").read_text())
    users = {}
    for entry in manifest["files"]:
        tensors = load_file(folder / entry["file"])
        names, counts = torch.unique_consecutive(tensors["user"].long(), return_counts=True)
        parts = {name: values.split(counts.tolist()) for name, values in tensors.items()}
        for i, user in enumerate(names.tolist()):
            users[user] = {name: values[i] for name, values in parts.items()}
    return manifest, users


class Recommender(nn.Module):
    def __init__(self, items, state_dim, width=64):
        super().__init__()
        self.items = nn.Embedding(items + 1, width, padding_idx=items)
        self.state = nn.Linear(state_dim, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, items)

    def forward(self, items, states, there):
        """Scores of all items at the steps that are there, of padded ones none: [steps, items]."""
        return self.out(self.gru(self.items(items) + self.state(states))[0][there])


def batch(users, items):
    """Inputs, padded, and which steps are there; targets of these. A step reads the action before it; of the first one
    the labels do not tell the item."""

    def padded(name, fill):
        return pad_sequence([user[name] for user in users], batch_first=True, padding_value=fill)

    counts = torch.tensor([len(user["t"]) for user in users])
    there = torch.arange(counts.max())[None] < counts[:, None]
    action, augmented = (torch.cat([user[name] for user in users]).long() for name in ("action", "augmented_action"))
    read = torch.full(there.shape, items)
    read[there] = action
    read = torch.cat([torch.full_like(read[:, :1], items), read[:, :-1]], 1)
    return (read, padded("state", 0.0), there), action, augmented


def hit_rate(model, users, items, k):
    with torch.no_grad():
        inputs, action, _ = batch(users, items)
        found = model(*inputs).topk(k, -1).indices == action[:, None]
        return found.any(-1).double().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--augmented", type=float, default=0.1, help="weight of the augmented actions")
    args = parser.parse_args()
    torch.manual_seed(1)
    manifest, users = read(args.labels)
    split = json.loads((args.labels / "split.json").read_text())
    items, apart = manifest["header"]["items"], set(split["validation"]) | set(split["test"])
    train = [labels for user, labels in users.items() if user not in apart]
    test = [users[user] for user in split["test"] if user in users]
    model = Recommender(items, manifest["header"]["state_dim"])
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, args.epochs + 1):
        order, total = torch.randperm(len(train)).tolist(), 0.0
        for start in range(0, len(train), 128):
            chosen = [train[i] for i in order[start : start + 128]]
            inputs, action, augmented = batch(chosen, items)
            scores = model(*inputs)
            loss = cross_entropy(scores, action) + args.augmented * cross_entropy(scores, augmented)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(chosen)
        print(f"epoch {epoch}: loss {total / len(train):.3f}", flush=True)
    print(f"HR@10 of {len(test)} test users: {hit_rate(model, test, items, 10):.4f}")


if __name__ == "__main__":
    main()
