"""What both training scripts share: resumable checkpoints, an exponential moving average, a learning-rate schedule."""
import copy
import json
import math
import os
import random
import signal
import time

import numpy as np
import torch
from safetensors.torch import load_file


def setup(seed, threads=1):
    torch.set_num_threads(threads)
    random.seed(seed)
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def rate(step, total, peak, fresh=0, warmup=100, cooldown=1.0, floor=0.02):
    """Warm-up from step `fresh`, constant, then a cosine over the last `cooldown` share of the steps."""
    if step < fresh + warmup:
        return peak * (step - fresh + 1) / warmup
    start = total * (1 - cooldown)
    if step <= start:
        return peak
    u = min(1.0, (step - start) / max(1, total - start))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * u)))


def same_shapes(net, exported):
    """Are there exported weights, and are they of this architecture?"""
    if not (exported / "config.json").exists():
        return False
    state = load_file(exported / "diffusion_pytorch_model.safetensors")
    own = net.state_dict()
    return all(name in own and own[name].shape == value.shape for name, value in state.items())


class Run:
    """A network, its average, its optimiser and both random generators: one file, replaced atomically.

    Without that file, but with `exported` (a component's folder in the tree), training goes on from the weights there:
    so a new machine needs nothing but the tree.
    """

    def __init__(self, path, net, optimizer, rng, exported, decay=0.998, every_s=240):
        self.path, self.net, self.optimizer, self.rng = path, net, optimizer, rng
        self.decay, self.every_s, self.saved = decay, every_s, time.time()
        self.average, self.step, self.fresh, self.log = copy.deepcopy(net).requires_grad_(False), 0, 0, []
        if not path.exists() and same_shapes(net, exported):
            state = {k: v.float() for k, v in load_file(exported / "diffusion_pytorch_model.safetensors").items()}
            for one in (net, self.average):
                one.load_state_dict(state, strict=False)
            self.step = self.fresh = json.loads((exported / "config.json").read_text())["trained_steps"]
            self.save()
            print(f"began from {exported} at step {self.step}", flush=True)
        elif path.exists():
            kept = torch.load(path, weights_only=False)
            grown, unknown = net.load_state_dict(kept["net"], strict=False)
            self.average.load_state_dict(kept["average"], strict=False)
            if unknown:
                raise SystemExit(f"{path} is of another architecture: {unknown[0]}")
            self.step, self.log, self.rng.bit_generator.state = kept["step"], kept["log"], kept["rng"]
            if grown:                       # more layers than before: new ones begin as the identity, moments begin anew
                self.fresh = self.step
            else:
                optimizer.load_state_dict(kept["optimizer"])
                self.fresh = kept.get("fresh", 0)
            torch.set_rng_state(kept["torch_rng"])
            print(f"resumed {path.name} at step {self.step}", flush=True)
        self.asked_to_stop = False
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "asked_to_stop", True))

    def descend(self, loss):
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()

    @torch.no_grad()
    def advance(self):
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for a, p in zip(self.average.parameters(), self.net.parameters()):
            a.lerp_(p, 1 - decay)
        if self.asked_to_stop or time.time() - self.saved > self.every_s:
            self.save()
        if self.asked_to_stop:
            raise SystemExit("stopped after saving")

    def save(self):
        part = self.path.with_suffix(".part")
        torch.save({"net": self.net.state_dict(), "average": self.average.state_dict(), "step": self.step, "fresh": self.fresh,
                    "optimizer": self.optimizer.state_dict(), "log": self.log,
                    "rng": self.rng.bit_generator.state, "torch_rng": torch.get_rng_state()}, part)
        os.replace(part, self.path)
        self.saved = time.time()
