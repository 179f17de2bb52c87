"""Our labelling and training beside those of PyTorch, as a table: python3 torch_table.py FILE.jsonl…

The files, of which some may be missing: records of lea bench label and lea bench fit, rows of torch_label.py. Needs nothing but
Python."""

import json
import sys


def title(bench, of):
    """Work in words; the same of us and of others is the same work. `of`: settings as the records of lea bench have them."""
    layers = f"{of['shape']}, {of['layers']} layers, history {of['history']}"
    if bench == "label":
        return f"label, {layers}, {of['actions']} candidates"
    checkpoint = ", checkpoint" if of["checkpoint"] else ""
    return f"fit{checkpoint}, {layers}, {of['users']} users, {of['negatives']} negatives"


def lines(path):
    try:
        with open(path) as file:
            return [json.loads(line) for line in file if line.startswith("{")]
    except OSError:
        return []


def line(by, ms, labels_per_s, ratio, note):
    cells = [f"{x:{form}}" if x is not None else "" for x, form in ((ms, ",.3f"), (labels_per_s, ",.0f"), (ratio, ".2f"))]
    print(f"  {by:<58} {cells[0]:>12} {cells[1]:>12} {cells[2]:>8}  {note or ''}".rstrip())


def main():
    rows = [row for path in sys.argv[1:] for row in lines(path)]
    ours = [row for row in rows if "bench" in row]
    rivals = [row for row in rows if "by" in row]
    own = {title(row["bench"], row["settings"]): row for row in ours}
    names = list(own) + [name for name in dict.fromkeys(row["name"] for row in rivals) if name not in own]
    print(f"{'labelling and LE training':<60} {'ms':>12} {'labels/s':>12} {'lea is':>8}")
    for name in names:
        print(name)
        mine = own.get(name, {})
        labels_per_s, seconds = mine.get("labels_per_s"), mine.get("median_seconds")
        if mine:
            line("lea", 1e3 * seconds, labels_per_s, None, f"{mine['settings']['users']} users")
        for row in (row for row in rivals if row["name"] == name):
            theirs, ratio = row.get("labels_per_s"), None
            if theirs and labels_per_s:
                ratio = labels_per_s / theirs
            elif row["ms"] and seconds and not labels_per_s:
                ratio = row["ms"] / (1e3 * seconds)
            line(row["by"], row["ms"], theirs, ratio, row["note"])


if __name__ == "__main__":
    main()
