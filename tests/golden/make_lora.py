#!/usr/bin/env python3
"""Makes the golden cases of LoRA files beside this script: random LoRAs for the tiny networks of other cases, and what the
references give once they are merged.

    make_lora.py [--predict2 DIR]

The bases are those of `transformer_wan_text2video` and `original_predict2_video2world`. References: diffusers 0.42.1
(`load_lora_weights`, `fuse_lora`) and peft 0.21.2, float32, CPU. DIR is a checkout of nvidia-cosmos/cosmos-predict2 (661da47),
whose own network and adapters make `lora_cosmos_original`; without it that case is left as it is.
"""

import argparse
import json
import pathlib
import shutil
import sys

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
HERE = pathlib.Path(__file__).parent
BASE = HERE / "transformer_wan_text2video"
RUN = ["--device", "cpu", "--dtype", "float32"]
ATTENTION, FEED_FORWARD = ("q", "k", "v", "o"), ("ffn.0", "ffn.2")


def network():
    return WanTransformer3DModel.from_pretrained(BASE / "model").eval()


def pipeline():
    return WanPipeline(tokenizer=None, text_encoder=None, vae=None, transformer=network(),
                       scheduler=FlowMatchEulerDiscreteScheduler())


def inputs():
    return load_file(BASE / "in.safetensors")


def finish(name, expected, loras, note, base=BASE, model="model"):
    plain = load_file(base / "expected.safetensors")["sample"]
    moved = float((expected - plain).norm() / plain.norm())
    assert moved > 0.02, f"{name} moves the output by {moved} only"
    save_file({"sample": expected.contiguous()}, HERE / name / "expected.safetensors")
    shutil.copy(base / "in.safetensors", HERE / name / "in.safetensors")
    args = [a for lora in loras for a in ("--lora", lora)]
    about = {"call": "transformer.forward", "model": f"../{base.name}/{model}", "args": RUN + args,
             "tolerance": {"max_rel_l2": 1e-4}, "note": note}
    (HERE / name / "case.json").write_text(json.dumps(about, indent=1) + "\n")
    print(name, f"moved {moved:.3f}")


def folder(name):
    (HERE / name).mkdir(exist_ok=True)
    return HERE / name


def original_layers(model):
    """Linear layers under the original repository's names, with their shapes."""
    d, f = model.config.num_attention_heads * model.config.attention_head_dim, model.config.ffn_dim
    for i in range(model.config.num_layers):
        for kind in ("self_attn", "cross_attn"):
            for part in ATTENTION:
                yield f"blocks.{i}.{kind}.{part}", d, d
        yield f"blocks.{i}.ffn.0", f, d
        yield f"blocks.{i}.ffn.2", d, f


def product(gen, out, rank, into):
    return torch.randn(rank, into, generator=gen) * into**-0.5, torch.randn(out, rank, generator=gen) * 0.3


def fused(files):
    pipe = pipeline()
    names = []
    for i, (path, scale) in enumerate(files):
        pipe.load_lora_weights(str(path), adapter_name=f"a{i}")
        names.append(f"a{i}")
    pipe.set_adapters(names, [scale for _, scale in files])
    pipe.fuse_lora(adapter_names=names)
    return pipe.transformer(**inputs(), return_dict=False)[0]


def randomised(model, gen):
    for name, p in model.named_parameters():
        if "magnitude" in name:
            p.mul_(1 + 0.3 * torch.rand(p.shape, generator=gen))
        elif "lora_" in name:
            p.copy_(torch.randn(p.shape, generator=gen) * (p.shape[-1] ** -0.5 if "lora_A" in name else 0.3))


def diffusers_form():
    """What diffusers saves: its names, alpha in the file's metadata."""
    name, gen = "lora_diffusers", torch.Generator().manual_seed(1)
    pipe = pipeline()
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"],
                        alpha_pattern={"blocks.1.attn1.to_q": 2})
    pipe.transformer.add_adapter(config)
    randomised(pipe.transformer, gen)
    WanPipeline.save_lora_weights(folder(name), get_peft_model_state_dict(pipe.transformer), weight_name="lora.safetensors",
                                  transformer_lora_adapter_metadata=pipe.transformer.peft_config["default"].to_dict())
    finish(name, fused([(HERE / name / "lora.safetensors", 0.7)]), ["lora.safetensors:0.7"], "diffusers' names and metadata")


def kohya_form():
    name, gen, state = "lora_kohya", torch.Generator().manual_seed(2), {}
    for i, (layer, out, into) in enumerate(original_layers(network())):
        key = "lora_unet_" + layer.replace(".", "_")
        state[key + ".lora_down.weight"], state[key + ".lora_up.weight"] = product(gen, out, 3, into)
        state[key + ".alpha"] = torch.tensor(1.5 + i % 3)
    save_file(state, folder(name) / "lora.safetensors")
    finish(name, fused([(HERE / name / "lora.safetensors", 1.0)]), ["lora.safetensors:1"], "kohya's names, an alpha a layer")


def original_form(name, seed, rank):
    gen, state, model = torch.Generator().manual_seed(seed), {}, network()
    d = model.config.num_attention_heads * model.config.attention_head_dim
    ends = [("time_projection.1", 6 * d, d), ("text_embedding.0", d, model.config.text_dim), ("text_embedding.2", d, d)]
    for layer, out, into in [*original_layers(model), *ends]:
        key = "diffusion_model." + layer
        state[key + ".lora_down.weight"], state[key + ".lora_up.weight"] = product(gen, out, rank, into)
        if layer.startswith("blocks"):
            state[key + ".alpha"] = torch.tensor(float(rank + 1))
        state[key + ".diff_b"] = 0.1 * torch.randn(out, generator=gen)
    save_file(state, folder(name) / f"{name}.safetensors")
    return HERE / name / f"{name}.safetensors"


def two_forms():
    one = original_form("lora_two", 3, 3)
    two = HERE / "lora_kohya" / "lora.safetensors"
    finish("lora_two", fused([(one, 0.5), (two, -0.25)]), ["lora_two.safetensors:0.5", "../lora_kohya/lora.safetensors:-0.25"],
           "two files: the original names with changes of biases, and kohya's")


def peft_form(name, seed, **form):
    """A folder as peft saves it, with a rank-stabilised scale or with DoRA's lengths."""
    gen = torch.Generator().manual_seed(seed)
    model = get_peft_model(network(), LoraConfig(r=4, lora_alpha=3, target_modules=["to_q", "to_v", "proj_out"], **form))
    randomised(model, gen)
    model.save_pretrained(folder(name) / "adapter")
    (HERE / name / "adapter" / "README.md").unlink(missing_ok=True)
    finish(name, model.base_model.model(**inputs(), return_dict=False)[0], ["adapter:1"], f"a peft folder, {form}")


def cosmos_original(root):
    """cosmos-predict2's way: peft's adapters inside the original network, saved under its names."""
    import make_original_layouts as layouts

    name, base, gen = "lora_cosmos_original", HERE / "original_predict2_video2world", torch.Generator().manual_seed(6)
    state = torch.load(base / "model" / "model.pt")
    net = layouts.predict2_network(root, "video2world")
    net.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("net.") and "accum" not in k})
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=4, target_modules=[
        "q_proj", "k_proj", "v_proj", "output_proj", "mlp.layer1", "mlp.layer2"]), net)
    randomised(net, gen)
    torch.save({"net." + k: v for k, v in net.state_dict().items() if "lora_" in k}, folder(name) / "lora.pt")
    x = load_file(base / "in.safetensors")
    expected = net(x["hidden_states"], x["timestep"].flatten(1), x["encoder_hidden_states"], padding_mask=x["padding_mask"],
                   condition_video_input_mask_B_C_T_H_W=x["condition_mask"])
    finish(name, expected, ["lora.pt:1"], "cosmos-predict2's adapters on its own network", base, "model/model.pt")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--predict2", type=pathlib.Path)
    args = p.parse_args()
    sys.path.insert(0, str(HERE))
    diffusers_form()
    kohya_form()
    two_forms()
    peft_form("lora_peft", 5, use_rslora=True)
    peft_form("lora_dora", 7, use_dora=True)
    if args.predict2:
        cosmos_original(args.predict2)


if __name__ == "__main__":
    main()
