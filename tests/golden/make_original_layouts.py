#!/usr/bin/env python3
"""Makes the golden cases of the diffusion networks in the layouts of their original repositories.

    make_original_layouts.py --wan DIR --predict1 DIR --predict2 DIR [--only NAME…] [--out DIR]

DIR are checkouts of Wan-Video/Wan2.1 (9737cba), nvidia-cosmos/cosmos-predict1 (4ed35fa) and nvidia-cosmos/cosmos-predict2
(661da47); einops is needed. The networks are the originals' own code, run in float32 on the CPU, with tiny random weights of
which none is zero; what needs a GPU (transformer_engine, flash attention) is replaced by the same arithmetic in plain torch.
The weights are saved as the repositories save them, with the extra entries that released files have.
"""

import argparse
import functools
import importlib.abc
import importlib.machinery
import json
import math
import pathlib
import sys
import types
from enum import Enum
from types import SimpleNamespace
from unittest import mock

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

torch.set_grad_enabled(False)
torch.set_num_threads(1)
HERE = pathlib.Path(__file__).parent
RUN = ["--device", "cpu", "--dtype", "float32"]


# ------------------------------------------------------------------------------------ what needs a GPU, in plain torch
class RMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def reset_parameters(self):
        pass

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class DotProductAttention(nn.Module):
    def __init__(self, *_, qkv_format="bshd", **__):
        super().__init__()
        self.order = (1, 2, 0, 3) if qkv_format == "sbhd" else (0, 2, 1, 3)
        self.back = (2, 0, 1, 3) if qkv_format == "sbhd" else (0, 2, 1, 3)

    def forward(self, q, k, v, **_):
        q, k, v = (t.permute(self.order) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).permute(self.back).flatten(2)


def apply_rotary_pos_emb(t, freqs, tensor_format="bshd", fused=True):
    freqs = freqs if tensor_format == "sbhd" else freqs.transpose(0, 1)  # [S,1,1,D] -> [1,S,1,D]
    a, b = t.chunk(2, -1)
    return t * freqs.cos() + torch.cat((-b, a), -1) * freqs.sin()


def flash_attention(q, k, v, k_lens=None, window_size=(-1, -1), **_):
    return F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of packages that are not here with empty modules, whose attributes are mocks unless given."""

    def __init__(self, names, given):
        self.names, self.given = names, given

    def find_spec(self, name, path, target=None):
        if any(name == n or name.startswith(n + ".") for n in self.names):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = lambda attribute: self.given.get(attribute, mock.MagicMock(name=attribute))
        return module

    def exec_module(self, module):
        pass


class originals:
    """Imports from one checkout, and forgets it afterwards: two of them use the same package names."""

    def __init__(self, root, stubbed):
        self.root, self.stubs = str(root), Stubs(stubbed, {
            "RMSNorm": RMSNorm, "DotProductAttention": DotProductAttention, "apply_rotary_pos_emb": apply_rotary_pos_emb,
            "flash_attention": flash_attention, "pytorch": types.SimpleNamespace(RMSNorm=RMSNorm)})

    def __enter__(self):
        self.before = set(sys.modules)
        self.here = mock.patch("torch.Tensor.cuda", lambda tensor, *_: tensor)
        self.here.start()
        sys.path.insert(0, self.root)
        sys.meta_path.insert(0, self.stubs)
        # The package's own __init__ imports everything there is.
        for package in ("wan", "wan.modules"):
            if (pathlib.Path(self.root) / package.replace(".", "/")).is_dir():
                shell = types.ModuleType(package)
                shell.__path__ = [str(pathlib.Path(self.root) / package.replace(".", "/"))]
                sys.modules[package] = shell

    def __exit__(self, *_):
        self.here.stop()
        sys.path.remove(self.root)
        sys.meta_path.remove(self.stubs)
        for name in set(sys.modules) - self.before:
            if name.split(".")[0] in ("cosmos_predict1", "cosmos_predict2", "wan", "imaginaire", "transformer_engine", "megatron"):
                del sys.modules[name]


# ------------------------------------------------------------------------------------ weights and files
def randomise(model, gen):
    for name, p in sorted(model.named_parameters()):
        r = torch.randn(p.shape, generator=gen)
        if p.ndim == 1 and name.endswith("weight"):
            p.copy_(1 + 0.2 * r)
        elif "pos_emb" in name or "emb_pos" in name:
            p.copy_(0.5 * r)
        elif "modulation" in name and p.ndim == 3:
            p.copy_(0.3 * r)
        elif p.ndim >= 2:
            p.copy_(r / math.sqrt(p[0].numel()))
        else:
            p.copy_(0.1 * r)
    return model.eval()


def finish(out, name, inputs, expected, call, note, args=()):
    for value in expected.values():
        assert torch.isfinite(value).all() and 0.02 < value.std() < 60, name
    save_file({k: v.contiguous() for k, v in inputs.items()}, out / name / "in.safetensors")
    save_file({k: v.contiguous() for k, v in expected.items()}, out / name / "expected.safetensors")
    about = {"call": call, "model": "model", "args": [*RUN, *args], "tolerance": {"max_rel_l2": 1e-4}, "note": note}
    files = list((out / name / "model").iterdir())
    if len(files) == 1:
        about["model"] = "model/" + files[0].name
    (out / name / "case.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def write(out, name, inputs, expected, note):
    finish(out, name, inputs, {"sample": expected}, "transformer.forward", note)


def folder(out, name):
    (out / name / "model").mkdir(parents=True, exist_ok=True)
    return out / name / "model"


# ------------------------------------------------------------------------------------ Cosmos
def predict1(args, gen, video=True):
    with originals(args.predict1, ["transformer_engine", "megatron", "loguru", "cosmos_predict1.utils",
                                   "cosmos_predict1.diffusion.conditioner"]):
        import cosmos_predict1.diffusion.conditioner as conditioner

        conditioner.DataType = Enum("DataType", "IMAGE VIDEO")
        from cosmos_predict1.diffusion.networks.general_dit import GeneralDIT
        from cosmos_predict1.diffusion.networks.general_dit_video_conditioned import VideoExtendGeneralDIT

        channels, frames, height, width = 3, 2, 4, 6
        net = (VideoExtendGeneralDIT if video else GeneralDIT)(
            max_img_h=8, max_img_w=12, max_frames=4, in_channels=channels + video, out_channels=channels, patch_spatial=2,
            patch_temporal=1, model_channels=32, num_blocks=1 + video, num_heads=2, mlp_ratio=2.0, block_x_format="THWBD",
            crossattn_emb_channels=10, pos_emb_cls="rope3d", affline_emb_norm=True, use_adaln_lora=True, adaln_lora_dim=5,
            rope_t_extrapolation_ratio=2.0, extra_per_block_abs_pos_emb=True, extra_per_block_abs_pos_emb_type="learnable")
        randomise(net, gen)
        x = torch.randn(1, channels, frames, height, width, generator=gen)
        t, text = torch.tensor([0.3]), torch.randn(1, 7, 10, generator=gen)
        padding = torch.zeros(1, 1, height, width)
        padding[..., -1:] = 1
        mask = torch.zeros(1, 1, frames, height, width)
        mask[:, :, :1] = 1
        more = {"condition_video_input_mask": mask} if video else {}
        expected = net(x, t, text, fps=torch.tensor([16.0]), padding_mask=padding,
                       data_type=conditioner.DataType.VIDEO, **more)
        inputs = {"hidden_states": x, "timestep": t, "encoder_hidden_states": text, "fps": torch.tensor(16.0),
                  "padding_mask": padding, **({"condition_mask": mask} if video else {})}
        name = "original_predict1_" + ("video2world" if video else "text2world")
        state = {"net." + k: v for k, v in net.state_dict().items()}
        state["net.logvar.0.freqs"] = torch.randn(4, generator=gen)  # of training; released files have it
        torch.save({"model": state} if video else state, folder(args.out, name) / "model.pt")
        write(args.out, name, inputs, expected, "cosmos-predict1's network and names")


def predict2_network(root, form):
    with originals(root, ["transformer_engine", "megatron", "imaginaire", "cosmos_predict2.conditioner", "natten",
                                   "cosmos_predict2.module", "cosmos_predict2.networks", "cosmos_predict2.utils"]):
        import cosmos_predict2.conditioner as conditioner
        import cosmos_predict2.module.a2a_cp as a2a
        import cosmos_predict2.module.neighborhood_attn as neighbours
        import cosmos_predict2.networks.model_weights_stats as statistics
        import cosmos_predict2.networks.selective_activation_checkpoint as checkpointing
        import imaginaire.auxiliary.text_encoder as text_encoder
        conditioner.DataType = Enum("DataType", "IMAGE VIDEO")
        a2a.MinimalA2AAttnOp = a2a.NattenA2AAttnOp = type("Other", (nn.Module,), {})
        neighbours.NeighborhoodAttention = type("Other", (nn.Module,), {})
        statistics.WeightTrainingStat = nn.Module
        checkpointing.SACConfig = type("SACConfig", (), {"mode": "none"})
        text_encoder.CosmosTextEncoderConfig = types.SimpleNamespace(EMBED_DIM=10)
        from cosmos_predict2.models.text2image_dit import MiniTrainDIT
        from cosmos_predict2.models.video2world_dit import MinimalV1LVGDiT

        video, projected = form != "text2image", 14 if form == "predict25" else 10
        rope = 3.0 if video else 4.0
        net = (MinimalV1LVGDiT if video else MiniTrainDIT)(
            max_img_h=8, max_img_w=12, max_frames=4, in_channels=3, out_channels=3, patch_spatial=2,
            patch_temporal=1, model_channels=32, num_blocks=2 if form == "predict25" else 1, num_heads=2, mlp_ratio=2.0, crossattn_emb_channels=10,
            crossattn_proj_in_channels=projected, pos_emb_cls="rope3d", use_adaln_lora=True, adaln_lora_dim=5,
            rope_h_extrapolation_ratio=rope, rope_w_extrapolation_ratio=rope, rope_enable_fps_modulation=False)
        net.forward = functools.partial(net.forward, data_type=conditioner.DataType.VIDEO)
        return net


def predict2(args, gen, form):
    video, projected = form != "text2image", 14 if form == "predict25" else 10
    channels, frames, height, width = 3, 2 if video else 1, 4, 6
    net = predict2_network(args.predict2, form)
    randomise(net, gen)
    x = torch.randn(1, channels, frames, height, width, generator=gen)
    t = torch.rand(1, frames, generator=gen)
    text = torch.randn(1, 7, projected, generator=gen)
    padding = torch.zeros(1, 1, height, width)
    padding[..., -1:] = 1
    mask = torch.zeros(1, 1, frames, height, width)
    mask[:, :, :1] = 1
    more = {"condition_video_input_mask_B_C_T_H_W": mask} if video else {}
    expected = net(x, t, text, padding_mask=padding, **more)
    inputs = {"hidden_states": x, "timestep": t.view(1, 1, frames, 1, 1), "encoder_hidden_states": text,
              "padding_mask": padding, **({"condition_mask": mask} if video else {})}
    name = f"original_{form}" if form == "predict25" else f"original_predict2_{form}"
    state = {"net." + k: v for k, v in net.state_dict().items()}
    if form == "video2world":  # the averaged copy of training stands beside the network, and is another one
        state.update({k.replace("net.", "net_ema."): v + 1 for k, v in state.items()})
        state["net.accum_iteration"] = torch.tensor(7)
    torch.save(state, folder(args.out, name) / "model.pt")
    write(args.out, name, inputs, expected, "cosmos-predict2's network and names"
          + (", with the text projection of Predict2.5" if form == "predict25" else ""))


# ------------------------------------------------------------------------------------ Wan
def wan(args, gen, name, dim=24, heads=2, kind="t2v", layers=2, file="", dtype=torch.float32):
    with originals(args.wan, ["flash_attn", "wan.modules.attention"]):
        with mock.patch("torch.cuda.current_device", return_value=0):
            from wan.modules.model import WanModel

        channels, frames, height, width = 3, 2, 4, 6
        first, tokens = kind != "t2v", {"t2v": 0, "i2v": 257, "flf2v": 514}[kind]
        config = dict(model_type=kind, patch_size=(1, 2, 2), text_len=512 if first else 8,
                      in_dim=2 * channels + 4 if first else channels, dim=dim, ffn_dim=40, freq_dim=32, text_dim=12,
                      out_dim=channels, num_heads=heads, num_layers=layers, cross_attn_norm=True)
        net = WanModel(**config)
        image_dim = 10
        if first:  # the original fixes 1280
            import wan.modules.model as module

            net.img_emb = module.MLPProj(image_dim, dim, flf_pos_emb=False)
            if kind == "flf2v":
                net.img_emb.emb_pos = nn.Parameter(torch.zeros(1, tokens, image_dim))
        randomise(net, gen)
        for p in net.parameters():
            p.copy_(p.to(dtype).float())
        x = torch.randn(channels, frames, height, width, generator=gen)
        extra = torch.randn(channels + 4, frames, height, width, generator=gen)
        text = torch.randn(5, 12, generator=gen)
        image = torch.randn(2 if kind == "flf2v" else 1, 257, image_dim, generator=gen)
        t = torch.tensor([437.0])
        more = {"clip_fea": image, "y": [extra]} if first else {}
        if kind == "i2v":
            cross = net.blocks[0].cross_attn.__class__.__name__
            assert "I2V" in cross, cross
        expected = net([x], t, [text], frames * height * width // 4, **more)[0][None]
        padded = torch.cat([text, torch.zeros(config["text_len"] - 5, 12)])[None]  # what the original does inside
        inputs = {"hidden_states": (torch.cat([x, extra]) if first else x)[None], "timestep": t,
                  "encoder_hidden_states": padded, **({"encoder_hidden_states_image": image} if first else {})}
        model = folder(args.out, name)
        state = {k: v.to(dtype).contiguous() for k, v in net.state_dict().items()}
        if file:
            save_file(state, model / file)
        else:
            about = {"_class_name": "WanModel", "_diffusers_version": "0.30.0", "eps": 1e-6}
            about.update({k: config[k] for k in ("dim", "ffn_dim", "freq_dim", "in_dim", "model_type", "num_heads", "num_layers",
                                                 "out_dim", "text_len")})
            (model / "config.json").write_text(json.dumps(about, indent=1) + "\n")
            half, index = sorted(state)[: len(state) // 2], {}
            for i, part in enumerate((half, [k for k in sorted(state) if k not in half])):
                shard = f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors"
                save_file({k: state[k] for k in part}, model / shard)
                index.update({k: shard for k in part})
            (model / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
        write(args.out, name, inputs, expected, "Wan2.1's network and names")


# ------------------------------------------------------------------------------------ what stands beside Wan's network
def text_encoder(args, gen, name):
    with originals(args.wan, ["wan.modules.tokenizers"]):
        with mock.patch("torch.cuda.current_device", return_value=0):
            from wan.modules.t5 import T5Encoder

        net = randomise(T5Encoder(vocab=37, dim=16, dim_attn=24, dim_ffn=20, num_heads=3, num_layers=2, num_buckets=8,
                                  shared_pos=False), gen)
        for key, p in net.named_parameters():
            if "embedding" in key:
                p.copy_(torch.randn(p.shape, generator=gen))
        ids, mask = torch.randint(0, 37, (2, 11), generator=gen), torch.ones(2, 11, dtype=torch.long)
        mask[1, 7:] = 0
        expected = net(ids, mask)
        torch.save(net.state_dict(), folder(args.out, name) / "models_t5_umt5-xxl-enc-bf16.pth")
        finish(args.out, name, {"input_ids": ids, "attention_mask": mask}, {"last_hidden_state": expected}, "text_encoder.forward",
               "Wan2.1's UMT5 and its names")


def image_encoder(args, gen, name):
    with originals(args.wan, ["flash_attn", "wan.modules.attention", "wan.modules.tokenizers", "wan.modules.xlm_roberta"]):
        with mock.patch("torch.cuda.current_device", return_value=0):
            import wan.modules.xlm_roberta as roberta

            roberta.XLMRoberta = nn.Module
            from wan.modules.clip import CLIPModel, VisionTransformer

        net = randomise(VisionTransformer(image_size=12, patch_size=4, dim=32, mlp_ratio=2, out_dim=6, num_heads=16, num_layers=3,
                                          activation="gelu"), gen)
        pixels = torch.randn(2, 3, 12, 12, generator=gen)
        expected = {"hidden_states.2": net(pixels, use_31_block=True), "last_hidden_state": net(pixels)}
        state = {"visual." + k: v for k, v in net.state_dict().items()}
        state.update({"textual.norm.weight": torch.ones(4), "log_scale": torch.tensor(2.0)})
        torch.save(state, folder(args.out, name) / "models_clip.pth")
        # A picture of another size as the repository brings it to the network, for worlds that look at pictures through it.
        picture = torch.randint(0, 256, (1, 16, 32, 3), generator=gen, dtype=torch.uint8)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)))
        clip = SimpleNamespace(model=SimpleNamespace(image_size=12, visual=net), dtype=torch.float32,
                               transforms=SimpleNamespace(transforms=[lambda x: (x - mean) / std]))
        tokens = CLIPModel.visual(clip, [(picture.permute(3, 0, 1, 2).float() / 127.5 - 1)])
        save_file({"picture": picture, "tokens": tokens.float()}, args.out / name / "picture.safetensors")
        finish(args.out, name, {"pixel_values": pixels}, expected, "image_encoder.forward", "Wan2.1's CLIP and its names", ["--all-layers"])


CASES = {
    "original_predict1_video2world": predict1,
    "original_predict2_text2image": lambda a, g: predict2(a, g, "text2image"),
    "original_predict2_video2world": lambda a, g: predict2(a, g, "video2world"),
    "original_predict25": lambda a, g: predict2(a, g, "predict25"),
    "original_wan_text2video": lambda a, g: wan(a, g, "original_wan_text2video"),
    "original_wan_image2video": lambda a, g: wan(a, g, "original_wan_image2video", kind="i2v"),
    "original_wan_first_last": lambda a, g: wan(a, g, "original_wan_first_last", kind="flf2v", layers=1),
    "original_wan_text_encoder": lambda a, g: text_encoder(a, g, "original_wan_text_encoder"),
    "original_wan_image_encoder": lambda a, g: image_encoder(a, g, "original_wan_image_encoder"),
    # One file alone: the number of heads follows from the width of the released ones; float8 keeps it small.
    "original_wan_file": lambda a, g: wan(a, g, "original_wan_file", dim=128, heads=1, layers=1, file="wan_t2v_fp8_e4m3fn.safetensors",
                                          dtype=torch.float8_e4m3fn),
}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for repository in ("wan", "predict1", "predict2"):
        p.add_argument("--" + repository, type=pathlib.Path, required=True)
    p.add_argument("--only", nargs="+")
    p.add_argument("--out", type=pathlib.Path, default=HERE)
    args = p.parse_args()
    for i, (name, make) in enumerate(CASES.items()):
        if not args.only or name in args.only:
            make(args, torch.Generator().manual_seed(1000 + i))
            print(name)


if __name__ == "__main__":
    main()
