"""A step of the LE's training in transformers and peft: both losses, backward, clipping, AdamW, as lea bench fit has them."""

import torch
import torch.nn.functional as F
from shapes import VOCABULARY
from torch_forest import Forest, Users
from torch_table import title
from torch_times import median_ms, said, tell

TEMPERATURE = 0.1


class Step:
    """Adapters, score head and item tokens are trained, f32; all else is frozen."""

    def __init__(self, model, table, users, way):
        self.model, self.users, self.way = model, users, way
        self.text = table[:VOCABULARY]
        self.items = torch.nn.Parameter(table[VOCABULARY:].float())
        self.head = torch.nn.Parameter(torch.randn(table.shape[1], device=table.device) * 0.02)
        self.params = [param for param in model.parameters() if param.requires_grad] + [self.items, self.head]
        self.optimiser = torch.optim.AdamW(self.params, lr=2e-3, weight_decay=0.0, fused=table.device.type == "cuda")
        self.positives = (users.taken[..., 0] - VOCABULARY).flatten()
        if way == "forest":
            self.forest = Forest(users)
            at = torch.arange(self.forest.rows, device=table.device)
            self.mask = self.forest.mask(at, at)[None, None]

    def hidden(self):
        """States `[users, history, d]` and leaves `[users, history, actions, d]`, after the final norm."""
        table = torch.cat([self.text, self.items.to(self.text.dtype)])
        return (self.hidden_of_forest if self.way == "forest" else self.hidden_of_prompts)(table)

    def hidden_of_forest(self, table):
        forest = self.forest
        x = F.embedding(forest.ids, table)[None]
        out = self.model(inputs_embeds=x, attention_mask=self.mask, position_ids=forest.positions[None], use_cache=False)
        rows = out.last_hidden_state[0]
        return rows[forest.trunk], rows[forest.ends]

    def hidden_of_prompts(self, table):
        """The histories for their states; all prompts in one batch, padded behind their ends, which causal rows do not see."""
        users = self.users
        run = lambda ids: self.model(inputs_embeds=F.embedding(ids, table), use_cache=False).last_hidden_state
        states = run(users.trunks())[:, -users.history :]
        prompts = [users.prompts(step) for step in range(users.history)]
        longest = prompts[-1].shape[1]
        padded = torch.stack([F.pad(ids, (0, longest - ids.shape[1])) for ids in prompts])
        ends = torch.tensor([ids.shape[1] - 1 for ids in prompts], device=users.device)
        rows = run(padded.flatten(0, 1)).unflatten(0, padded.shape[:2])
        leaves = rows[torch.arange(users.history, device=users.device), :, ends]
        return states, leaves.unflatten(1, (users.count, users.actions)).transpose(0, 1)

    def loss(self):
        states, leaves = (x.float() for x in self.hidden())
        directions = F.normalize(self.items - self.items.mean(0), dim=-1)
        similarity = F.normalize(states.flatten(0, 1), dim=-1) @ directions.T
        rewards = leaves @ self.head
        order = -F.logsigmoid(rewards[..., :1] - rewards[..., 1:]).mean()
        return F.cross_entropy(similarity / TEMPERATURE, self.positives) + order

    def run(self):
        self.optimiser.zero_grad(set_to_none=True)
        self.loss().backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimiser.step()

    def gradients(self):
        loss = self.loss()
        return loss.item(), torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, self.params)])


def compare_small(decoder, adapted, device):
    """Tells how far the forest's gradients are from those of separate prompts, in f32 and on a small shape."""
    model, table = decoder("tiny", 6, 2, torch.float32, device)
    model, users = adapted(model).train(), Users(2, 6, 3, device)
    sides = [Step(model, table, users, way) for way in ("prompts", "forest")]
    sides[1].head = sides[0].head
    sides[1].params[-1] = sides[0].head
    (wanted, wanted_grad), (got, grad) = [side.gradients() for side in sides]
    found = ((grad - wanted_grad).norm() / wanted_grad.norm()).item()
    if not (abs(got - wanted) < 1e-4 * abs(wanted) and found < 1e-3):
        raise ArithmeticError(f"the forest's loss is {got}, that of separate prompts {wanted}; gradients differ by {found:.1e}")
    return f"gradients differ by {found:.1e}"


def rows(decoder, adapted, of, given, deadline):
    """Steps of both ways, the forest's with and without checkpoints of the layers; `of`: shape and layers."""
    shape, layers = of
    dtype = torch.bfloat16 if given.dtype == "bf16" else torch.float32
    base, table = decoder(shape, given.history, layers, dtype, given.device)
    model = adapted(base.train())
    users = Users(given.users, given.history, 1 + given.negatives, given.device)
    ways = (("forest", True), ("prompts", True), ("forest", False))
    for way, checkpoint in ways:
        settings = {"shape": shape, "layers": layers, "checkpoint": checkpoint}
        name = title("fit", {**settings, "history": given.history, "users": given.users, "negatives": given.negatives})
        by = "forest, transformers + peft, 4D mask" if way == "forest" else "separate prompts in one padded batch, transformers + peft"
        if deadline.left() < 5.0:
            tell(name, by, given.dtype, note="skipped: less than 5 s were left")
            continue
        try:
            if checkpoint:
                base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            else:
                base.gradient_checkpointing_disable()
            step = Step(model, table, users, way)
            ms = median_ms(step.run, given.device, 7, seconds=deadline.left() / 20, warm_up=1)
            prompts = given.users * given.history * users.actions
            note = f"{step.forest.rows} rows" if way == "forest" else f"{prompts} prompts"
            tell(name, by, given.dtype, ms, note=note)
        except Exception as failure:  # whatever it is, it is told
            tell(name, by, given.dtype, note=said(failure))
        finally:
            step = None
            if given.device == "cuda":
                torch.cuda.empty_cache()
