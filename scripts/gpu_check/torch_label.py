"""Labelling and LE training in PyTorch with transformers and peft, beside lea bench label and lea bench fit: same shapes, same
rows, random weights.

    python3 torch_label.py --shape llama-1b --shape llama-7b:8 --seconds 90 > TORCH_LABEL.jsonl     # 8 of its layers
    python3 torch_label.py --device cpu --quick          # everything on tiny extents: a test of this script

First a small forest is compared with separate prompts, in f32: nothing is timed where they differ. What is timed is compared at
its own size too. One JSON line a row; a row that cannot be done has a note instead of a time. Ends with 1 where something is
wrong, with 3 where this Python lacks PyTorch (with CUDA), transformers or peft.
"""

import argparse
import copy
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# In a pack all files lie in one folder.
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "benches", "peers", "python")]

try:
    from torch_times import Deadline, median_ms, said, tell  # ahead of the others: time is counted from here

    import torch
    import torch.nn.functional as F
    import transformers  # noqa: F401
    from peft import LoraConfig, get_peft_model
except ImportError as error:
    print(f"nothing to compare with: {error}", file=sys.stderr)
    sys.exit(3)
import torch_fit
from decoder import CATALOGUE, CLOSING, ROOT, STEM, Fused, configured
from shapes import SHAPES, VOCABULARY

from torch_forest import Compiled, DenseChunks, Flex, Forest, Users, leaf_states
from torch_table import title
from transformers import LlamaModel

# Of the steps of a history every fifth is run as separate prompts: their mean length is that of all.
EVERY = 5
DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


def decoder(shape, history, layers, dtype, device):
    """transformers' model without a language model's head, random weights, and the table of text and item tokens."""
    config = configured(shape, ROOT + history + STEM + 1 + CLOSING, layers)
    before = torch.get_default_dtype()
    # In the type from the start: a conversion would take the rotary frequencies along.
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlamaModel(config).eval()
            for name, param in model.named_parameters():
                if param.dim() == 2:
                    torch.nn.init.normal_(param.data, 0.0, 0.02)
            table = torch.randn(VOCABULARY + CATALOGUE, config.hidden_size) * 0.02
    finally:
        torch.set_default_dtype(before)
    return model, table


def adapted(model, rank=8):
    """With adapters of q_proj and v_proj as peft makes them, neither of their factors 0."""
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]))
    for name, param in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(param.data, 0.0, 0.02)
    return model


def separate(model, table, prompts):
    """Hidden state at the last token of every prompt. All have one length: no mask, so that SDPA takes its fastest kernel."""
    return model(inputs_embeds=F.embedding(prompts, table), use_cache=False).last_hidden_state[:, -1]


def error(got, wanted):
    """Root mean square error as a share of the deviation of a step's candidates: `[steps, candidates, d]`, on f32."""
    spread = (wanted - wanted.mean(1, keepdim=True)).pow(2).mean().sqrt()
    return ((got.float() - wanted).pow(2).mean().sqrt() / spread).item()


def compare_small(device):
    """Tells how far the forest's states are from those of separate prompts, in f32 and on a small shape of two users: prompts with
    adapters unmerged, the forest with merged ones."""
    model, table = decoder("tiny", 6, 2, torch.float32, device)
    model = adapted(model)
    users = Users(2, 6, 5, device)
    wanted = torch.stack([separate(model, table, users.prompts(step)).view(2, 5, -1) for step in range(6)], 1).flatten(0, 1)
    model = model.merge_and_unload()
    forest, found = Forest(users), {}
    for way, attend in (("DenseChunks", DenseChunks(forest, torch.float32, rows=24)), ("Flex", Flex(forest, compiled=False))):
        got = leaf_states(Fused(model), table, forest, attend).view(wanted.shape)
        found[way] = error(got, wanted)
        if not found[way] < 1e-3 or not error(got.roll(1, 1), wanted) > 0.5:
            raise ArithmeticError(f"{way}: error {found[way]:.1e} against separate prompts, f32, small shape")
    return "root mean square error: " + ", ".join(f"{way} {e:.1e}" for way, e in found.items())


class Labelling:
    """The rows of one shape."""

    def __init__(self, shape, layers, given, deadline):
        self.given, self.deadline, self.wrong = given, deadline, False
        self.name = title("label", {"shape": shape, "layers": layers, "history": given.history, "actions": given.actions})
        self.users = Users(max(given.pack, *given.batches), given.history, given.actions, given.device)
        self.steps = range(EVERY // 2, given.history, EVERY)
        self.batches = given.batches
        self.dtype = DTYPES[given.dtype]
        self.model, self.table = decoder(shape, given.history, layers, self.dtype, given.device)

    def row(self, by, work, least=5.0):
        """Runs `work`, which gives users, their time and a note; one that fails, or has no time, does not take the others with it."""
        if self.deadline.left() < least:
            return tell(self.name, by, self.given.dtype, note=f"skipped: less than {least:g} s were left")
        try:
            with torch.no_grad():
                users, ms, note = work()
            labels = users * self.given.history * self.given.actions
            tell(self.name, by, self.given.dtype, ms, labels_per_s=labels / ms * 1e3, note=note)
        except Exception as failure:  # whatever it is, it is told
            self.wrong |= isinstance(failure, ArithmeticError)
            tell(self.name, by, self.given.dtype, note=said(failure))
        finally:
            if self.given.device == "cuda":
                torch.cuda.empty_cache()

    def by_prompts(self):
        """The best size of batches, each of all prompts of a length of so many users; the next row tries that one alone."""
        found = {}
        for users in self.batches:
            prompts = [self.users.prompts(step, users) for step in self.steps]
            try:
                run = lambda: [separate(self.model, self.table, batch) for batch in prompts]
                ms = median_ms(run, self.given.device, 3, seconds=self.deadline.left() / 40, warm_up=1)
            except torch.OutOfMemoryError:
                break
            found[users] = ms / users * self.given.history / len(self.steps)
        if not found:
            raise MemoryError("not even the smallest batch has room")
        best, ms = min(found.items(), key=lambda pair: pair[1])
        self.batches = [best]
        tried = ", ".join(f"{users * self.given.actions}: {found[users]:.1f} ms" for users in found)
        share = f"1 user, extrapolated from {len(self.steps)} of {self.given.history} steps"
        return 1, ms, f"{share}; batches of {best * self.given.actions} prompts of one length ({tried})"

    def merge(self):
        """Adapters into the weights, and what the forest is compared with: f32 prompts of the first and the last step run."""
        self.model = self.model.merge_and_unload()
        with torch.no_grad():
            exact, table = copy.deepcopy(self.model).float(), self.table.float()
            self.checked = [self.steps[0], self.steps[-1]]
            states = lambda model, table: torch.stack([separate(model, table, self.users.prompts(step, 1)) for step in self.checked])
            self.wanted = states(exact, table)
            self.plain = error(states(self.model, self.table), self.wanted)

    def by_forest(self, made):
        """A pack of users in one pass, by the decoder and the attention that `made` gives."""
        users = Users(self.given.pack, self.given.history, self.given.actions, self.given.device)
        users.histories[0], users.taken[0] = self.users.histories[0], self.users.taken[0]
        forest = Forest(users)
        fused, attend = made(forest)
        run = lambda: leaf_states(fused, self.table, forest, attend)
        got = run().view(users.count, users.history, users.actions, -1)[0, self.checked]
        found = error(got, self.wanted)
        note = f"{users.count} users, {forest.rows} rows; error {found:.1e}, of separate prompts {self.plain:.1e}"
        if not found <= 2 * self.plain + 1e-3:
            raise ArithmeticError(f"wrong, not timed: {note}")
        return users.count, median_ms(run, self.given.device, 9, seconds=self.deadline.left() / 10), note

    def run(self):
        self.model = adapted(self.model)
        self.row("separate prompts, peft unmerged", self.by_prompts)
        self.merge()
        self.row("separate prompts, merged", self.by_prompts)
        compiled = []

        def shared():
            # One copy of the fused weights for all ways.
            compiled[:] = compiled or [Compiled(self.model)]
            return compiled[0]

        flex = lambda forest: (shared(), Flex(forest))
        dense = lambda forest: (shared(), DenseChunks(forest, self.dtype))
        plain = lambda forest: (Fused(self.model), DenseChunks(forest, self.dtype))
        self.row("forest, FlexAttention, compiled layers", lambda: self.by_forest(flex), least=20.0)
        self.row("forest, SDPA in chunks", lambda: self.by_forest(plain))
        self.row("forest, SDPA in chunks, compiled layers", lambda: self.by_forest(dense), least=15.0)


def shape_and_layers(text):
    shape, _, layers = text.partition(":")
    if shape not in SHAPES or (layers and not 0 < int(layers) <= SHAPES[shape][1]):
        raise argparse.ArgumentTypeError(f"{text} is not one of {', '.join(SHAPES)}, or has fewer layers")
    return shape, int(layers or SHAPES[shape][1])


def arguments():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shape", action="append", type=shape_and_layers, metavar="SHAPE[:LAYERS]",
                         help=f"{', '.join(SHAPES)}, with so many of its layers; may be given more than once [llama-1b]")
    options.add_argument("--history", type=int, default=50)
    options.add_argument("--actions", type=int, default=100, help="candidates of a step")
    options.add_argument("--users", type=int, default=2, help="of a training step")
    options.add_argument("--negatives", type=int, default=4, help="of a training step")
    options.add_argument("--pack", type=int, default=3, help="users of a forest: as lea bench label packs them on CUDA")
    options.add_argument("--batches", default="1,2,4", help="sizes of batches of separate prompts, in users of all candidates")
    options.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    options.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options.add_argument("--seconds", type=float, default=90.0, help="the end, from the start of the process")
    options.add_argument("--quick", action="store_true", help="tiny extents")
    given = options.parse_args()
    given.shape = given.shape or [shape_and_layers("tiny:2" if given.quick else "llama-1b")]
    if given.quick:
        given.history, given.actions, given.pack, given.batches = 10, 5, 2, "1,2"
    given.batches = [int(size) for size in given.batches.split(",")]
    return given


def told(name, compare):
    """Whether a comparison could be made. One that finds a difference ends the program."""
    try:
        tell(name, "PyTorch", "f32", note=compare())
        return True
    except ArithmeticError as difference:
        tell(name, "PyTorch", "f32", note=said(difference))
        sys.exit(1)
    except Exception as failure:  # each forest is compared at its full size too
        tell(name, "PyTorch", "f32", note=said(failure))
        return False


def main():
    given = arguments()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("this PyTorch has no CUDA", file=sys.stderr)
        sys.exit(3)
    deadline = Deadline(given.seconds)
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.no_grad():
        small = told("small forest against separate prompts", lambda: compare_small(given.device))
    step = told("small forest's step against that of separate prompts", lambda: torch_fit.compare_small(decoder, adapted, given.device))
    wrong = not small or not step
    for index, (shape, layers) in enumerate(given.shape):
        labelling = Labelling(shape, layers, given, deadline)
        labelling.run()
        wrong |= labelling.wrong
        del labelling
        if index == 0 and step:
            torch_fit.rows(decoder, adapted, (shape, layers), given, deadline)
    sys.stdout.flush()
    # Without waiting for the compiler's own processes.
    os._exit(int(wrong))


if __name__ == "__main__":
    main()
