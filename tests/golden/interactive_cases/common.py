"""What the cases of interactive worlds share: random weights, stand-ins for modules that the references import and do not need,
and the two formats: a component case (case.json, as everywhere) and a rollout (worlds/<name>/)."""

import importlib.machinery
import json
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

TOLERANCE = 3e-5


def stand_in(name: str, **items):
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__path__ = []
    module.__dict__.update(items)
    sys.modules[name] = module
    return module


def package(name: str, folder: Path):
    """A package whose __init__ does not run."""
    stand_in(name).__path__ = [str(folder)]


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Random weights, on float16's grid, of a scale at which every layer matters: no gate or head is zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        if "freqs" in name:  # a rotary table is no weight
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if "modulation" in name and not name.endswith(".bias"):
            noise *= 0.4 if parameter.dim() == 3 else 0.6 / parameter[0].numel() ** 0.5
        elif parameter.dim() > 1:
            noise /= parameter[0].numel() ** 0.5
        else:
            noise = 1 + 0.25 * noise if name.endswith("weight") else 0.1 * noise
        parameter.data.copy_(noise.half().float())
    return module.eval().requires_grad_(False)


def stored(module: nn.Module, prefix: str = "") -> dict:
    return {prefix + name: value.half().contiguous() if value.is_floating_point() else value
            for name, value in module.state_dict().items()}


def write_json(path: Path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def write_case(folder: Path, call: str, model: str, given: dict, expected: dict, reference: str, note: str):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in given.items()}, folder / "in.safetensors")
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    write_json(folder / "case.json", {"call": call, "model": model, "args": ["--device", "cpu", "--dtype", "float32"],
                                      "tolerance": {"max_rel_l2": TOLERANCE}, "dialect": "original", "reference": reference,
                                      "note": note})


def drawn(shape, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
