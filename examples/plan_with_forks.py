"""Evaluates plan_with_forks in the real PushT simulator against random actions: how often is the pusher at the target at the end?

    python -m pip install gym-pusht
    python examples/plan_with_forks.py --episodes 30 --json plan.json
"""
import argparse
import json
import math
import pathlib
import subprocess

import gymnasium
import gym_pusht  # noqa: F401  (registers the environment)
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEAR = 40.0  # simulator pixels of 512, less than the pusher's diameter and a half


class Planner:
    def __init__(self, program, world, seed):
        self.process = subprocess.Popen([program, world, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.waiting = []

    def begin(self):
        self.waiting = []
        self.say(b"begin\n")

    def observe(self, frame):
        self.say(b"observe %d %d\n" % frame.shape[:2] + np.ascontiguousarray(frame).tobytes())

    def act(self, target):
        if not self.waiting:
            self.say(b"plan %f %f\n" % tuple(target))
            numbers = [float(word) for word in self.process.stdout.readline().split()]
            if not numbers:
                raise SystemExit("the planner ended; see its message above")
            self.waiting = list(zip(numbers[::2], numbers[1::2]))
        return self.waiting.pop(0)

    def say(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()


class Random:
    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def begin(self):
        pass

    def observe(self, frame):
        pass

    def act(self, target):
        return self.random.uniform(0, 512, 2)


def episode(environment, agent, seed, steps):
    """The pusher's distance from the target at the beginning and at the end."""
    target = np.random.default_rng(seed).uniform(100, 412, 2)
    observation, info = environment.reset(seed=1_000_000_000 + seed)
    start = np.asarray(info["pos_agent"])
    agent.begin()
    agent.observe(observation["pixels"])
    for _ in range(steps):
        observation, _, _, _, info = environment.step(np.asarray(agent.act(target), dtype=np.float32))
        agent.observe(observation["pixels"])
    return math.dist(start, target), math.dist(info["pos_agent"], target)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--planner", default=str(ROOT / "build/bin/plan_with_forks"))
    parser.add_argument("--world", default=str(ROOT / "examples/worlds/pusht"))
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json")
    options = parser.parse_args()
    environment = gymnasium.make("gym_pusht/PushT-v0", obs_type="pixels_agent_pos", render_mode="rgb_array")
    agents = {"planner": Planner(options.planner, options.world, options.seed), "random": Random(options.seed)}
    results = {}
    for name, agent in agents.items():
        distances = [episode(environment, agent, options.seed + i, options.steps) for i in range(options.episodes)]
        end = np.array([last for _, last in distances])
        results[name] = {"episodes": options.episodes, "success": float((end < NEAR).mean()), "median_distance": float(np.median(end)),
                         "median_distance_at_start": float(np.median([first for first, _ in distances]))}
        print(f"{name}: at the target in {100 * results[name]['success']:.0f} % of {options.episodes} episodes; "
              f"median distance {results[name]['median_distance']:.0f} (at the start {results[name]['median_distance_at_start']:.0f})", flush=True)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
