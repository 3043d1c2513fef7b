"""The sample episodes of examples/worlds/lunarlander and the golden case of its network, from the published weights and episodes.

    python make_lunarlander.py --source <checkout of nsmoly/LunarLander_RSSM> --data <folder of world_model.pt and episodes.npz> [--root <this repository>]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

SEEN, IMAGINED, EPISODES, SHORTEST = 20, 20, 40, 60


def recorded(path: Path):
    """The first 40 steps of the first 40 episodes of at least 60: observations [E,41,8] and the actions between them [E,40]."""
    data = np.load(path)
    observations, actions = [], []
    for episode in np.unique(data["ep_index"]):
        rows = np.where(data["ep_index"] == episode)[0]
        rows = rows[np.argsort(data["step_index"][rows], kind="stable")]
        if len(rows) < SHORTEST or len(observations) == EPISODES:
            continue
        rows = rows[:SEEN + IMAGINED]
        observations.append(np.concatenate([data["obs"][rows], data["next_obs"][rows[-1:]]]))
        actions.append(data["actions"][rows])
    return torch.tensor(np.stack(observations)), torch.tensor(np.stack(actions))


def imagine(model, obs, actions):
    """Posterior means while there are observations, then prior means."""
    rows = torch.nn.functional.one_hot(actions, 4).float()
    h, z = torch.zeros(len(obs), 256), torch.zeros(len(obs), 16)
    h = model.rssm.update_hidden(h, z, torch.zeros(len(obs), 4))
    z, _ = model.rssm.posterior(h, obs[:, 0])
    told = []
    for t in range(actions.shape[1]):
        h = model.rssm.update_hidden(h, z, rows[:, t])
        seen = t + 1 < obs.shape[1]
        z, _ = model.rssm.posterior(h, obs[:, t + 1]) if seen else model.rssm.prior(h)
        if not seen:
            told.append((model.reconstruct_obs(h, z), model.predict_reward(h, z), model.predict_done_logits(h, z).sigmoid()))
    return [torch.stack(x, 1) for x in zip(*told)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2])
    args = parser.parse_args()
    sys.path.insert(0, str(args.source))
    from models import WorldModel

    torch.set_grad_enabled(False)
    model = WorldModel(8, 4).eval()
    model.load_state_dict(torch.load(args.data / "world_model.pt", map_location="cpu"))
    obs, actions = recorded(args.data / "episodes.npz")
    world = args.root / "examples" / "worlds" / "lunarlander"
    save_file({"observations": obs.contiguous(), "actions": actions.to(torch.int32)}, world / "sample" / "episodes.safetensors")
    # What `orrery play` begins with: the first states of one of them, as `--embeds` takes them.
    save_file({"state": obs[2:3, :SEEN].contiguous(), "actions": actions[2:3, :SEEN - 1].unsqueeze(2).float().contiguous()},
              world / "sample" / "first_states.safetensors")

    told = imagine(model, obs[:, :SEEN], actions[:, :SEEN - 1 + IMAGINED])
    for name, shift in (("true", 0), ("wrong", 2)):
        future = imagine(model, obs[:, :SEEN], torch.cat([actions[:, :SEEN - 1], (actions[:, SEEN - 1:SEEN - 1 + IMAGINED] + shift) % 4], 1))[0]
        error = (future - obs[:, SEEN:SEEN + IMAGINED])[..., :6].square().mean((0, 2)).sqrt()
        print(name, "actions, RMSE at step 1, 5, 10, 20:", [round(error[k - 1].item(), 4) for k in (1, 5, 10, 20)])

    few = slice(0, 3)
    folder = args.root / "tests" / "golden" / "dynamics_rssm"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"obs": obs[few, :SEEN].contiguous(), "actions": actions[few, :SEEN - 1 + IMAGINED].contiguous()}, folder / "in.safetensors")
    save_file(dict(zip(("observation", "reward", "done"), (x[few].contiguous() for x in told))), folder / "expected.safetensors")
    case = {"call": "dynamics.forward", "model": "../../../examples/worlds/lunarlander/dynamics", "args": ["--device", "cpu", "--dtype", "float32"],
            "tolerance": {"max_rel_l2": 3e-5}, "dialect": "original",
            "reference": "nsmoly/LunarLander_RSSM@82d53a0 (MIT), models.py, means in place of samples", "note": "the published weights"}
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")


if __name__ == "__main__":
    main()
