"""A bundled world at play: orrery beside the training code in eager PyTorch, alternating in one run.

    python tests/bench/compare_worlds.py --threads 1 2 --rounds 5

A frame is a decode and a pass of the transformer for each look, and one more that writes the cache, where the world has one. Times are medians over all frames of all rounds; "processor" is processor time a frame,
which a busy machine disturbs less. PyTorch without a cache recomputes the window of each pass.
"""
import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "examples/worlds/train"))
import pipeline  # noqa: E402


class Eager:
    def __init__(self, folder, frames):
        self.model, self.frames = pipeline.Pipeline(folder), frames
        self.features = self.model.features(np.load(folder / "sample/actions.npy")[None])
        self.start = self.model.encode(np.zeros((1, 64, 64, 3), np.uint8))[None]

    @torch.inference_mode()
    def cached(self):
        world = self.model.begin(self.start)
        return self.time(lambda noise, features: world.step(noise, features))

    @torch.inference_mode()
    def uncached(self):
        net, scheduler = self.model.net, self.model.scheduler
        n, shift = scheduler["num_inference_steps"], scheduler["shift"]
        levels = [shift * (1 - i / n) / (1 + (shift - 1) * (1 - i / n)) for i in range(n + 1)]
        window = self.model.config["window"]
        past = [self.start[:, 0]] * (window + 1)
        known = [torch.zeros_like(self.features[:, 0])] * window

        def step(noise, features):
            x = noise
            for t, u in zip(levels, levels[1:]):
                latents = torch.stack((past + [x])[-window:], 1)
                given = torch.cat([torch.stack(past[-window:], 1), torch.stack(past[-window - 1:-1], 1)], 2)  # the two before
                times = torch.tensor([[scheduler["context_level"]] * (window - 1) + [t]])
                clean = net(latents, given, times, torch.stack((known + [features])[-window:], 1))[0][:, -1]
                x = clean + u / t * (x - clean)
            past.append(x)
            known.append(features)
            del past[:-window - 1], known[:-window]
            return x
        return self.time(step)

    def time(self, step):
        """(seconds of each frame, processor seconds a frame)"""
        walls, start = [], time.process_time()
        for i in range(self.frames):
            begin = time.perf_counter()
            latent = step(torch.randn_like(self.start[:, 0]), self.features[:, i % self.features.shape[1]])
            self.model.decode(latent)
            walls.append(time.perf_counter() - begin)
        return walls, (time.process_time() - start) / self.frames


def orrery(program, folder, threads, frames, actions):
    def run(count):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with tempfile.TemporaryDirectory() as place:
            out = subprocess.run([program, "rollout", "--model", str(folder), "-i", str(folder / "sample/first_frame.png"), "--actions", actions, "--num-frames", str(count),
                                  "--threads", str(threads), "--json", "-o", place + "/out.safetensors"], check=True, capture_output=True, text=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return json.loads(out), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    _, start = run(10)
    result, whole = run(10 + frames)
    return [result["step_ms"]["p50"] / 1000], max(whole - start, 1e-9) / frames


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--orrery", default=str(ROOT / "build/bin/orrery"))
    parser.add_argument("--worlds", nargs="+", default=["pusht", "doom"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=40)
    options = parser.parse_args()
    for name in options.worlds:
        folder = ROOT / "examples/worlds" / name
        eager = Eager(folder, options.frames)
        recorded = np.load(folder / "sample/actions.npy")
        frames = 10 * options.frames
        with tempfile.NamedTemporaryFile(suffix=".npy") as actions:
            np.save(actions.name, np.concatenate([recorded] * (1 + (frames + 10) // len(recorded))))
            for threads in options.threads:
                torch.set_num_threads(threads)
                ways = {"eager PyTorch, cache": eager.cached, "eager PyTorch, no cache": eager.uncached,
                        "orrery": lambda: orrery(options.orrery, folder, threads, frames, actions.name)}
                walls, processor = {way: [] for way in ways}, {way: [] for way in ways}
                for _ in range(options.rounds):
                    for way, run in ways.items():
                        wall, cpu = run()
                        walls[way] += wall
                        processor[way].append(cpu)
                ours, our_cpu = statistics.median(walls["orrery"]), statistics.median(processor["orrery"])
                for way in ways:
                    wall, cpu = statistics.median(walls[way]), statistics.median(processor[way])
                    print(f"{name}, {threads} thread{'s' * (threads > 1)}, {way:24}: {1 / wall:6.1f} frames/s, {1000 * wall:6.1f} ms (orrery {wall / ours:4.1f}x); "
                          f"processor {1000 * cpu:6.1f} ms ({cpu / our_cpu:4.1f}x)", flush=True)


if __name__ == "__main__":
    main()
