"""Gathers PushT episodes: python collect_pusht.py [--episodes 1200] [--jumps 500] [--steps 200] [--workers 1] [--worker 0].

A row of `actions` is the pusher's target (x, y) in 0..512, as gym-pusht takes it, ten a second. Random motion hardly
ever touches the block, so each episode mixes four ways of driving, in bouts of 10 to 40 steps:
    push   go behind the block (not through it), then aim through it: contact on most steps
    point  one far target, held: what a click does
    keys   a target a fixed distance ahead of the pusher in one of eight directions, held: what arrow keys do
    drift  a target on a smooth random walk: what a mouse does
In these the pusher flies 80 of 512 or more in only one step of a hundred. So further episodes, for training alone, have nothing but
    jump   a target anywhere, another after one to seven steps
"""
import argparse
import os

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
import gym_pusht  # noqa: F401  (registers the environment)
import gymnasium
import numpy as np

from dataset import cache_dir, shrink, write_shard

STATE = ("agent_x", "agent_y", "agent_vx", "agent_vy", "block_x", "block_y", "block_angle")
SHARD = 10
SEED = 1_000_000
JUMPS = 10_000                                            # the number of the first shard of jumps


class Driver:
    def __init__(self, rng, jumps):
        self.rng, self.left, self.jumps = rng, 0, jumps

    def begin(self, agent, block):
        rng = self.rng
        self.mode = "jump" if self.jumps else rng.choice(["push", "point", "keys", "drift"], p=[0.5, 0.12, 0.18, 0.2])
        self.left = int(rng.integers(10, 40))
        if self.mode == "push":
            angle = rng.uniform(0, 2 * np.pi)
            self.way = np.array([np.cos(angle), np.sin(angle)])
            self.side = rng.normal(0, 25)                 # off-centre pushes turn the block
            self.reach = rng.uniform(40, 130)
            self.behind = False
        elif self.mode == "point":
            self.goal, self.left = rng.uniform(10, 502, 2), int(rng.integers(5, 18))
        elif self.mode == "jump":
            self.goal, self.left = rng.uniform(0, 512, 2), int(rng.integers(1, 8))
        elif self.mode == "keys":
            angle = rng.integers(8) * np.pi / 4
            self.way, self.reach = np.array([np.cos(angle), np.sin(angle)]), rng.uniform(20, 150)
            self.left = int(rng.integers(3, 14))
        else:
            self.goal, self.speed = agent.copy(), rng.normal(0, 15, 2)

    def act(self, agent, block):
        rng = self.rng
        if self.left <= 0:
            self.begin(agent, block)
        self.left -= 1
        if self.mode == "push":
            normal = np.array([-self.way[1], self.way[0]])
            start = block - self.way * 95 + normal * self.side
            if not self.behind:
                if np.linalg.norm(agent - start) < 25:
                    self.behind = True
                ahead = (agent - block) @ self.way
                goal = start
                if ahead > -60:                           # on the wrong side: go round the block
                    turn = np.sign((agent - block) @ normal) or 1.0
                    goal = block + normal * turn * 120 - self.way * min(60, 40 + max(0, 60 - ahead))
                target = agent + np.clip(goal - agent, -110, 110)
            else:
                target = agent + self.way * self.reach
            target = target + rng.normal(0, 6, 2)
        elif self.mode in ("point", "jump"):
            target = self.goal
        elif self.mode == "keys":
            target = agent + self.way * self.reach
        else:
            self.speed = 0.9 * self.speed + rng.normal(0, 7, 2)
            self.goal = self.goal + self.speed
            self.speed = np.where((self.goal < 10) | (self.goal > 502), -self.speed, self.speed)
            target = self.goal
        return np.clip(target, 0, 512).astype(np.float32)


def episode(env, index, steps, jumps):
    rng = np.random.default_rng(SEED + index)
    frame, info = env.reset(seed=SEED + index)
    driver, frames, actions, states = Driver(rng, jumps), [], [], []
    for _ in range(steps):
        agent, block = np.array(info["pos_agent"]), np.array(info["block_pose"])
        action = driver.act(agent, block[:2])
        frames.append(shrink(frame))
        actions.append(action)
        states.append(np.r_[agent, info["vel_agent"], block].astype(np.float32))
        frame, _, done, _, info = env.step(action)
        if done:
            break
    return np.stack(frames), np.stack(actions), np.stack(states)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--episodes", type=int, default=1200)
    ap.add_argument("--jumps", type=int, default=500, help="further episodes of jumps")
    ap.add_argument("--steps", type=int, default=200)
    ap.add_argument("--workers", type=int, default=1)
    ap.add_argument("--worker", type=int, default=0)
    args = ap.parse_args()
    folder = cache_dir("pusht") / "data"
    folder.mkdir(exist_ok=True)
    env = gymnasium.make("gym_pusht/PushT-v0", obs_type="pixels", render_mode="rgb_array",
                         max_episode_steps=10_000).unwrapped
    count = args.episodes // SHARD
    for shard in range(args.worker, count + args.jumps // SHARD, args.workers):
        jumps = shard >= count
        path = folder / (f"jumps_{shard - count:04d}.npz" if jumps else f"shard_{shard:04d}.npz")
        if path.exists():
            continue
        first = (JUMPS + shard - count if jumps else shard) * SHARD
        out = [(*episode(env, i, args.steps, jumps), i) for i in range(first, first + SHARD)]
        write_shard(path, frames=np.concatenate([o[0] for o in out]), actions=np.concatenate([o[1] for o in out]),
                    state=np.concatenate([o[2] for o in out]),
                    episode=np.concatenate([np.full(len(o[0]), o[3], np.int32) for o in out]))
        print(path.name, sum(len(o[0]) for o in out), flush=True)


if __name__ == "__main__":
    main()
