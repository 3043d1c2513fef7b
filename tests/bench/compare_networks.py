#!/usr/bin/env python3
"""Times a transformer or a text encoder at true size against diffusers or transformers, in one run on one machine.

    compare_networks.py FOLDER --form wan-1.3b|predict2-2b|t5-slice|umt5-slice [--threads 2] [--repeat 2] [--warmup 1] [--weights int8]
                        [--layers N] [--keep] [--device cuda] [--dtype bfloat16]
                        [--program build/bin/orrery]

FOLDER is filled with a checkpoint of the published size (--layers: with so many of its equal blocks) and random bfloat16 weights,
unless it is there already, and removed afterwards, unless --keep. Both sides run the same inputs from it, each in a process of its own, taking turns, so that other work
on the machine falls on both; the reference computes in float32, as it must on a CPU without fast bfloat16. Told are wall seconds,
processor seconds (which waiting for a busy machine does not lengthen; the ratio is theirs), the highest resident size of the
process, and the relative L2 between the two results (of a text encoder: at the prompt's own tokens).
orrery projects a transformer's prompt once for all its steps (`prompt s`), the reference in every forward.
The reference needs diffusers, transformers, accelerate and torchvision.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

CHILD = """
import json, sys, time, resource, torch
from safetensors.torch import load_file, save_file
folder, inputs, output, threads, warmup, device, dtype = sys.argv[1:]
torch.set_num_threads(int(threads)); torch.set_grad_enabled(False)
config = json.load(open(folder + "/config.json"))
if "_class_name" in config:
    import diffusers
    make = getattr(diffusers, config["_class_name"])
else:
    import transformers
    make = getattr(transformers, config["architectures"][0])
model = make.from_pretrained(folder, torch_dtype=getattr(torch, dtype)).to(device).eval()
x, wall, cpu = {k: v.to(device, getattr(torch, dtype) if v.is_floating_point() else None) for k, v in load_file(inputs).items()}, [], []
for _ in range(int(warmup) + 1):
    start, busy = time.perf_counter(), time.process_time()
    y = model(**x, return_dict=False)[0]
    if device != "cpu": torch.cuda.synchronize()
    wall.append(time.perf_counter() - start); cpu.append(time.process_time() - busy)
save_file({"y": y.float().cpu().contiguous()}, output)
print(json.dumps({"wall": wall[-1], "cpu": cpu[-1], "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""

WAN = {"_class_name": "WanTransformer3DModel", "patch_size": [1, 2, 2], "num_attention_heads": 12, "attention_head_dim": 128,
       "in_channels": 16, "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "ffn_dim": 8960, "num_layers": 30,
       "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6, "rope_max_seq_len": 1024}
PREDICT2 = {"_class_name": "CosmosTransformer3DModel", "in_channels": 16, "out_channels": 16, "num_attention_heads": 16,
            "attention_head_dim": 128, "num_layers": 28, "mlp_ratio": 4.0, "text_embed_dim": 1024, "adaln_lora_dim": 256,
            "max_size": [128, 240, 240], "patch_size": [1, 2, 2], "rope_scale": [1.0, 4.0, 4.0], "concat_padding_mask": True,
            "extra_pos_embed_type": None}
# T5-11B's widths with 2 of its 24 layers: the whole does not fit beside its float32 twin.
T5 = {"architectures": ["T5EncoderModel"], "model_type": "t5", "d_model": 1024, "d_kv": 128, "d_ff": 65536, "num_heads": 128,
      "num_layers": 2, "vocab_size": 32128, "feed_forward_proj": "relu", "relative_attention_num_buckets": 32,
      "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6}
# UMT5-XXL's widths with 2 of its 24 layers.
UMT5 = {"architectures": ["UMT5EncoderModel"], "model_type": "umt5", "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64,
        "num_layers": 2, "vocab_size": 256384, "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6}
FORMS = {"wan-1.3b": (WAN, "transformer.forward", "sample"), "predict2-2b": (PREDICT2, "transformer.forward", "sample"),
         "t5-slice": (T5, "text_encoder.forward", "last_hidden_state"), "umt5-slice": (UMT5, "text_encoder.forward", "last_hidden_state")}


def make_model(folder, form, layers):
    import torch

    config = FORMS[form][0]
    if layers:
        config = config | {"num_layers": layers}

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    if "_class_name" in config:
        import diffusers

        model = getattr(diffusers, config["_class_name"]).from_config(config)
    else:
        import transformers

        make = getattr(transformers, config["architectures"][0])
        model = make(make.config_class(**config))
    with torch.no_grad():  # what starts as zero or one would hide a mistake
        for name, parameter in model.named_parameters():
            if parameter.std() == 0:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)


def make_inputs(form, prompt_tokens):
    import torch

    torch.manual_seed(1)
    torch.set_default_dtype(torch.float32)
    if form.endswith("-slice"):
        ids, mask = torch.zeros(1, 512, dtype=torch.long), torch.zeros(1, 512, dtype=torch.long)
        ids[:, :prompt_tokens], mask[:, :prompt_tokens] = torch.randint(2, 32000, (1, prompt_tokens)), 1
        return {"input_ids": ids, "attention_mask": mask}
    inputs = {"hidden_states": torch.randn(1, 16, 3, 32, 32)}  # 768 tokens
    if form == "wan-1.3b":
        return inputs | {"timestep": torch.tensor([500.0]), "encoder_hidden_states": torch.randn(1, 512, 4096)}
    return inputs | {"timestep": torch.tensor([0.5]), "encoder_hidden_states": torch.randn(1, 512, 1024),
                     "padding_mask": torch.zeros(1, 1, 256, 256)}


def reference_once(args, inputs, output):
    out = subprocess.run([sys.executable, "-c", CHILD, args.folder, inputs, output, str(args.threads), str(args.warmup),
                          args.device, args.dtype],
                         check=True, stdout=subprocess.PIPE, text=True).stdout
    told = json.loads(out.splitlines()[-1])
    return told["wall"], told["cpu"], told["peak"]


def orrery_once(args, inputs, call):
    told = json.loads(subprocess.run(
        [args.program, "bench", "--model", args.folder, "--call", call, "--inputs", inputs, "--threads", str(args.threads),
         "--warmup", str(args.warmup), "--repeat", "1", "--json", "--device", args.device, "--dtype", args.dtype] + args.form_in_memory, check=True, stdout=subprocess.PIPE, text=True).stdout)
    stage, once = told["stages"][call], told["stages"].get("transformer.prepare", {"median_s": 0})
    return stage["median_s"], stage["processor_s"], told["peak_rss_bytes"], told["stages"]["load"]["median_s"], once["median_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--form", choices=sorted(FORMS), required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2, help="processes of each side")
    parser.add_argument("--warmup", type=int, default=1, help="passes of each process before the one that counts")
    parser.add_argument("--weights", action="append", default=[], help="also this form in memory (repeatable)")
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--prompt-tokens", type=int, default=20)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--program", default="build/bin/orrery")
    args = parser.parse_args()
    _, call, result = FORMS[args.form]
    if not (pathlib.Path(args.folder) / "config.json").exists():
        subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r});"
                        f"import compare_networks as c; c.make_model({args.folder!r}, {args.form!r}, {args.layers})"], check=True)
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory() as work:
        inputs, expected, actual = (str(pathlib.Path(work) / f"{name}.safetensors") for name in ("in", "expected", "actual"))
        save_file(make_inputs(args.form, args.prompt_tokens), inputs)
        sides = ["as stored"] + args.weights
        runs, error = {"reference": []} | {side: [] for side in sides}, {}
        for _ in range(args.repeat):
            runs["reference"].append(reference_once(args, inputs, expected))
            for side in sides:
                args.form_in_memory = [] if side == "as stored" else ["--weights", side]
                runs[side].append(orrery_once(args, inputs, call))
        for side in sides:
            form = [] if side == "as stored" else ["--weights", side]
            subprocess.run([args.program, "eval", "--model", args.folder, "--call", call, "--inputs", inputs, "--output", actual,
                            "--threads", str(args.threads), "--device", args.device, "--dtype", args.dtype] + form, check=True)
            y, z = load_file(expected)["y"].double(), load_file(actual)[result].double()
            if args.form.endswith("-slice"):  # what stands behind the prompt is nobody's input
                y, z = y[:, :args.prompt_tokens], z[:, :args.prompt_tokens]
            error[side] = ((y - z).norm() / y.norm()).item()
    if not args.keep:
        shutil.rmtree(args.folder)
    part = f", {args.layers} of its blocks" if args.layers else ""
    print(f"{args.form}{part}, {args.dtype} on {args.device}, {args.threads} threads, {args.repeat} runs each, medians")
    print(f"{'':12} {'wall s':>8} {'ratio':>6} {'CPU s':>8} {'ratio':>6} {'peak MiB':>9} {'ratio':>6} {'rel. L2':>9} {'load s':>7} {'prompt s':>8}")
    middle = {name: [statistics.median(values) for values in zip(*each)] for name, each in runs.items()}
    for name, values in middle.items():
        line = f"{name:12} {values[0]:8.2f} {middle['reference'][0] / values[0]:6.2f}"
        line += f" {values[1]:8.2f} {middle['reference'][1] / values[1]:6.2f} {values[2] / 2**20:9.0f}"
        line += f" {values[2] / middle['reference'][2]:6.2f}"
        print(line + (f" {error[name]:9.1e} {values[3]:7.2f} {values[4]:8.2f}" if name in error else ""))


if __name__ == "__main__":
    main()
