"""Golden cases of the interactive worlds, from the original repositories at tiny sizes with random weights.

    python make_interactive.py [--oasis <checkout of etched-ai/open-oasis>] [--self-forcing <of guandeh17/Self-Forcing>]
        [--matrix-game <folder Matrix-Game-2 of zoheth/Matrix-Game>] [--cosmos-predict2 <of nvidia-cosmos/cosmos-predict2>]
        [--cosmos-transfer25 <of nvidia-cosmos/cosmos-transfer2.5>] [--out <folder>]

Each repository that is given is run, with stand-ins for what it imports and does not need (a GPU, timm, torchvision).
"""

import argparse
from pathlib import Path

import torch

from interactive_cases import causal_wan, cosmos_action, cosmos_robot, oasis


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oasis", type=Path)
    parser.add_argument("--self-forcing", type=Path)
    parser.add_argument("--matrix-game", type=Path)
    parser.add_argument("--cosmos-predict2", type=Path)
    parser.add_argument("--cosmos-transfer25", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if args.oasis:
        oasis.make(args.out, args.oasis)
    if args.self_forcing:
        causal_wan.make_self_forcing(args.out, args.self_forcing)
    if args.matrix_game:
        causal_wan.make_matrix_game(args.out, args.matrix_game)
    if args.cosmos_predict2:
        cosmos_action.make_predict2(args.out, args.cosmos_predict2)
        cosmos_robot.make_predict2(args.out, args.cosmos_predict2)
    if args.cosmos_transfer25:
        cosmos_action.make_predict25(args.out, args.cosmos_transfer25)
        cosmos_robot.make_predict25(args.out, args.cosmos_transfer25)
        cosmos_robot.make_interactive(args.out, args.cosmos_transfer25)


if __name__ == "__main__":
    main()
