"""Writes a world's model card from its configs and evaluation.json: python card.py pusht|doom."""
import argparse

from safetensors import safe_open

from dataset import exported
from pipeline import read_json
from worlds import WORLDS

TEXT = {
    "pusht": ("PushT: a pusher, a block, two numbers",
              "A round pusher on a table pushes a T-shaped block. An action is the position (x, y) in 0..512 that the pusher is pulled "
              "towards; ten actions a second. Learned from `gym-pusht` 0.1.8 (Apache-2.0), which draws its pictures by code.",
              "the pusher's centroid moved more than 20 of 512 the commanded way after eight steps"),
    "doom": ("Doom: health gathering, first person",
             "A room with an acid floor and medkits, seen in first person. An action is one of: nothing, turn left, turn right, forward; "
             "8.75 actions a second (frame skip 4). Learned from ViZDoom's `health_gathering` (`vizdoom` 1.3.2, MIT for its own part) "
             "with the pictures of Freedoom (BSD-style licence, by that project's statement).",
             "turning: the sign of the picture's horizontal shift over eight steps; forward: the picture grows over four steps"),
}


LIMITS = {"pusht": "**What is wrong**: the block stays a sharp T until it is touched, and where it is pushed gently. A hard push that turns it leaves something with\n"
          "rounded limbs, rather a Y than a T, somewhat too large, and the farther it is pushed the less of a T it is; it no longer fades. Its area, of that in the real\n"
          "frames (1.3 to 1.4 is where a soft edge counts on both sides): {a} after 8 steps, {b} after 16, {c} after 32 (over all starts, pushed or not).\n\n"}


def parameters(folder):
    with safe_open(folder / "diffusion_pytorch_model.safetensors", "pt") as f:
        total = 0
        for key in f.keys():
            n = 1
            for side in f.get_slice(key).get_shape():
                n *= side
            total += n
    return total


def verdict(e):
    """Which of the aims the figures reach, one line each; nothing but comparisons of measured numbers."""
    r, lines = e["rollouts"], []
    say = lambda ok, what: lines.append(f"- {'reached' if ok else '**not reached**'}: {what}")
    say(e["tokenizer"]["psnr_db"] >= 28, f"tokenizer PSNR of 28 dB or more ({e['tokenizer']['psnr_db']} dB)")
    mine = r["imagined"]["moving_psnr_db"]
    for k, v in mine.items():
        rivals = {n: r[n]["moving_psnr_db"][k] for n in ("last_frame", "mean_frame")}
        say(all(v > x for x in rivals.values()),
            f"step {k} better than both controls on moving pixels ({v} dB against {rivals['last_frame']} and {rivals['mean_frame']})")
    low, high = r["true_minus_swapped_db"]["ci95"]
    say(low > 0, f"true actions beat swapped ones, 95 % interval above zero ({low} to {high} dB)")
    for name, s in e["scripted"].items():
        say(s["right_way"] >= 0.9, f"held action `{name}` moves the right way in 90 % of rollouts ({100 * s['right_way']:.0f} % of {s['rollouts']})")
    return "\n".join(lines)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("world", choices=TEXT)
    world = ap.parse_args().world
    folder = exported(world)
    net, title = read_json(folder / "transformer" / "config.json"), TEXT[world][0]
    if not (folder / "evaluation.json").exists():
        (folder / "README.md").write_text(f"""# {title}

{TEXT[world][1]}

**The transformer is barely trained**: {net['trained_steps']} steps of the {WORLDS[world]['dynamics_steps']} planned, and its rollouts were not measured. Expect
little more than the last frame, held; do not judge the architecture by it. The tokenizer is trained (figures
on validation frames: `../train/README.md`, "State"). `../train/README.md` says how to go on; `../train/evaluate.py` measures, and
`../train/card.py` then writes a card with figures and pictures in place of this one.

`sample/` holds a real first frame, the actions that followed it in a held-out episode, and the real frames (`real.mp4`, and side by
side in `real_frames.png`). The actions and their ranges are in `action_space.json`.
""")
        return
    e = read_json(folder / "evaluation.json")
    sched, r = read_json(folder / "scheduler" / "scheduler_config.json"), e["rollouts"]
    title, about, scripted = TEXT[world]
    seen = f"window of {net['window']} frames" if net["window"] > 1 else "which sees the two frames before"
    looks = "one look" if sched["num_inference_steps"] == 1 else f"{sched['num_inference_steps']} steps"
    rows = "\n".join(
        f"| {label} | " + " | ".join(str(r[key]["moving_psnr_db"][k]) for k in ("1", "8", "16", "32")) + " | "
        + " | ".join(str(r[key]["whole_psnr_db"][k]) for k in ("1", "8", "16", "32")) + " |"
        for key, label in (("imagined", "**imagined**"), ("swapped_actions", "imagined, actions of another episode"),
                           ("last_frame", "control: last frame held"), ("mean_frame", "control: mean frame")))
    held = "\n".join(f"| {name} | {s['rollouts']} | {100 * s['right_way']:.0f} % |" for name, s in e["scripted"].items())
    gain = r["true_minus_swapped_db"]
    left = {n: f"{100 * r['block_left'][k]:.0f} %" for n, k in zip("abc", ("8", "16", "32"))} if "block_left" in r else {}
    (folder / "README.md").write_text(f"""# {title}

{about}

A convolutional tokenizer ({parameters(folder / 'vae') / 1e6:.2f} M parameters, 64x64 pictures, 8 channels at {net['latent_size']}x{net['latent_size']}) and a causal diffusion-forcing transformer
({parameters(folder / 'transformer') / 1e6:.2f} M parameters, 16 tokens a frame, {seen}, {looks} a frame), weights in float16. How it works:
`../train/ARCHITECTURE.md`; how it was trained: `../train/README.md`. The transformer has had {e['trained_steps']} training steps, on a CPU.

`sample/` holds a real first frame, the actions that followed it in a held-out episode, and the real frames side by side
(`real_frames.png`). The actions and their ranges are in `action_space.json`.

## Measured

`python evaluate.py {world}` on the {e['split']} episodes, which no training has seen; {r['starts']} starts, {r['context_frames']} real frames given, then imagined
frames only. All figures are in `evaluation.json`.

Tokenizer: PSNR {e['tokenizer']['psnr_db']} dB over {e['tokenizer']['frames']} frames; {e['tokenizer']['psnr_db_away_from_mean']} dB on pixels away from the mean frame.

PSNR in dB; *moving* pixels are those that have changed since the last frame given:

| | moving, step 1 | 8 | 16 | 32 | whole, step 1 | 8 | 16 | 32 |
|---|---|---|---|---|---|---|---|---|
{rows}

True actions minus swapped actions, moving pixels, steps {gain['steps']}: {gain['mean']} dB, 95 % interval {gain['ci95'][0]} to {gain['ci95'][1]} ({gain['starts']} starts).

{LIMITS.get(world, '').format(**left)}| action held | rollouts | moves the right way |
|---|---|---|
{held}

(The right way: {scripted}.)

Against the project's aims:

{verdict(e)}

## Pictures

Pairs of rows: real above, imagined below; the first column is the last frame given, then steps 1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32.

![rollouts](rollouts.png)

One action held for eight steps ({', '.join(e['scripted'])}), imagined:

![scripted](scripted.png)

Tokenizer: real above, reconstructed below.

![reconstruction](reconstruction.png)
""")


if __name__ == "__main__":
    main()
