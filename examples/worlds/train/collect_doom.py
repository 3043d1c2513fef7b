"""Gathers Doom episodes: python collect_doom.py [--frames 120000].

ViZDoom's `health_gathering` with Freedoom's pictures, 160x120 RGB without HUD, frame skip 4. A row of `actions` is one
index: 0 nothing, 1 turn left, 2 turn right, 3 forward. The driver holds a random action for six steps on average.
"""
import argparse

import numpy as np
import vizdoom

from dataset import cache_dir, shrink, write_shard

STATE = ("x", "y", "angle", "health")
BUTTONS = ([0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1])
SKIP = 4
SHARD = 20
SEED = 2_000_000


def make_game(seed=0):
    game = vizdoom.DoomGame()
    game.load_config(f"{vizdoom.scenarios_path}/health_gathering.cfg")
    game.set_doom_config_path(str(cache_dir("doom") / "engine.ini"))      # or the engine writes one beside the script
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_window_visible(False)
    game.set_render_hud(False)
    game.set_available_game_variables([vizdoom.GameVariable.POSITION_X, vizdoom.GameVariable.POSITION_Y,
                                       vizdoom.GameVariable.ANGLE, vizdoom.GameVariable.HEALTH])
    game.set_seed(seed)
    game.init()
    return game


def episode(game, index, limit=300):
    rng = np.random.default_rng(SEED + index)
    game.set_seed(int(SEED + index))
    game.new_episode()
    frames, actions, states, left, action = [], [], [], 0, 0
    while not game.is_episode_finished() and len(frames) < limit:
        if left <= 0:
            action = int(rng.choice(4, p=[0.08, 0.23, 0.23, 0.46]))
            left = int(rng.geometric(1 / 6))
        left -= 1
        now = game.get_state()
        frames.append(shrink(now.screen_buffer))
        actions.append([action])
        states.append(now.game_variables)
        game.make_action(BUTTONS[action], SKIP)
    return np.stack(frames), np.array(actions, np.float32), np.stack(states).astype(np.float32)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--frames", type=int, default=120_000)
    args = ap.parse_args()
    folder = cache_dir("doom") / "data"
    folder.mkdir(exist_ok=True)
    game, total, shard = make_game(), 0, 0
    while total < args.frames:
        path = folder / f"shard_{shard:04d}.npz"
        if not path.exists():
            out = [(*episode(game, i), i) for i in range(shard * SHARD, (shard + 1) * SHARD)]
            write_shard(path, frames=np.concatenate([o[0] for o in out]),
                        actions=np.concatenate([o[1] for o in out]), state=np.concatenate([o[2] for o in out]),
                        episode=np.concatenate([np.full(len(o[0]), o[3], np.int32) for o in out]))
        with np.load(path) as z:
            total += len(z["episode"])
        shard += 1
        print(path.name, total, flush=True)
    game.close()


if __name__ == "__main__":
    main()
