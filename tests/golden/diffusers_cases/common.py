"""What every case is made with: sizes and draws, weights that leave no path dead, the files of a case."""

import argparse
import copy
import io
import json
import math
import pathlib
import random
import shutil
import struct
import sys
import warnings
from types import SimpleNamespace

warnings.filterwarnings("ignore")
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

torch.set_grad_enabled(False)
torch.set_num_threads(1)  # the same sums whatever the machine, and faster at these sizes
CASES = {}
RUN = ["--device", "cpu", "--dtype", "float32"]


def case(name):
    def keep(make):
        CASES[name] = make
        return make

    return keep


# ------------------------------------------------------------------------------------------------ sizes and draws
class Plan:
    """Where every case gets its sizes and its choices. This one returns the sizes of the command line."""

    def __init__(self, seed, **fixed):
        self.seed, self.fixed, self.again = seed, fixed, 0

    def start(self, name):
        """Called before each case: its draws depend on the seed and its name alone."""
        self.rng = random.Random(f"{self.seed} {name}" + f" again {self.again}" * (self.again > 0))
        self.gen = torch.Generator().manual_seed(self.rng.randrange(2**31))
        return SimpleNamespace(**self.fixed)

    def pick(self, *options):
        return self.rng.choice(options)

    def randn(self, *shape):
        return torch.randn(*shape, generator=self.gen)

    def rand(self, *shape):
        return torch.rand(*shape, generator=self.gen)

    def ints(self, low, high, *shape):
        return torch.randint(low, high, shape, generator=self.gen)


# ------------------------------------------------------------------------------------------------ weights
def randomise(module, plan):
    """Draws every parameter so that no path is dead: projections ~ 1/sqrt(fan in), norms near 1, tables not zero."""
    norms = {n for n, m in module.named_modules() if "norm" in type(m).__name__.lower()}
    for name, p in sorted(module.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        r = torch.randn(p.shape, generator=plan.gen)
        if leaf == "gamma" or (owner in norms and leaf == "weight" and p.ndim == 1):
            v = 1 + 0.2 * r
        elif "pos_emb" in leaf or "pos_embed" in leaf:
            v = 0.5 * r
        elif leaf == "scale_shift_table":
            v = 0.3 * r
        elif "relative_attention_bias" in name:
            v = 0.7 * r
        elif "embed_tokens" in name or name == "shared.weight":
            v = r
        elif p.ndim >= 2:
            v = r / math.sqrt(p[0].numel())
        else:
            v = 0.1 * r
        p.copy_(v.to(p.dtype))
    return module.eval()


def to_bfloat16(model):
    """Rounds the weights in place; returns a copy that stores them as bfloat16 (what stays float32 in a checkpoint
    stays float32)."""
    keep = set(getattr(model, "_keep_in_fp32_modules", None) or [])
    stored = copy.deepcopy(model)
    for (name, p), q in zip(model.named_parameters(), stored.parameters()):
        if not keep & set(name.split(".")):
            q.data = p.data.to(torch.bfloat16)
            p.data = q.data.float()
    return stored


# ------------------------------------------------------------------------------------------------ writing
def flat(name, value):
    if value is None:
        return {}
    if isinstance(value, (list, tuple)):
        return {k: v for i, item in enumerate(value) for k, v in flat(f"{name}.{i}", item).items()}
    return {name: torch.as_tensor(value).detach().clone().contiguous()}


def flatten(tensors):
    return {k: v for name, value in tensors.items() for k, v in flat(name, value).items()}


def rel(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-30))


def lively(name, t, low=0.02, high=60.0):
    if t.is_floating_point():
        s = float(t.float().std())
        assert torch.isfinite(t).all() and low < s < high, f"{name}: standard deviation {s} looks degenerate"


class Sink:
    def __init__(self, root):
        self.root = pathlib.Path(root)

    def folder(self, name):
        path = self.root / name.replace("/", "-")
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def write(self, name, about, expected, inputs=None, save=None):
        path = self.folder(name)
        save(path / "model")
        if inputs:
            save_file(flatten(inputs), str(path / "in.safetensors"))
        self.finish(path, about, expected)

    @staticmethod
    def finish(path, about, expected):
        expected = flatten(expected)
        for key, value in expected.items():
            lively(f"{path.name} {key}", value)
        save_file(expected, str(path / "expected.safetensors"))
        (path / "case.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def eval_case(sink, plan, name, model, call, inputs, forward, *, out="sample", tolerance=1e-4, args=(), note="",
              vary=(), store="", save=None):
    """Runs `forward(**inputs)`, writes the case, and checks that each input named in `vary` matters."""
    stored = to_bfloat16(model) if store == "bfloat16" else model
    base = forward(**inputs)
    expected = base if isinstance(base, dict) else {out: base}
    for key in vary:
        other = dict(inputs)
        value = inputs[key]
        many = isinstance(value, (list, tuple))
        for i, item in enumerate(value if many else [value]):
            t = torch.as_tensor(item)
            if t.is_floating_point():
                t = t.roll(1, -1) + 0.5 * torch.randn(t.shape, generator=plan.gen).to(t.dtype)
            elif t.dtype == torch.bool:
                t = ~t
            else:
                t = 2 * t + 3
            new = t if torch.is_tensor(item) else t.item()
            other[key] = type(value)(new if j == i else v for j, v in enumerate(value)) if many else new
            after = forward(**other)
            after = after if isinstance(after, dict) else {out: after}
            moved = max(rel(flatten(after)[k], flatten(expected)[k]) for k in flatten(expected))
            assert moved > 20 * tolerance, f"{name}: {key}.{i} moves the output by {moved:.1e} only"

    def default_save(path):
        shard = {"max_shard_size": "40KB"} if store == "sharded" else {}
        stored.save_pretrained(path, **shard)
        if store == "sharded":
            assert list(path.glob("*.index.json")), f"{name}: not sharded"

    about = {"call": call, "args": [*RUN, *args], "tolerance": {"max_rel_l2": tolerance}, "note": note}
    sink.write(name, about, expected, inputs, save or default_save)
