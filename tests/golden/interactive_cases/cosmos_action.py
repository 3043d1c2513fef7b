"""Cosmos under actions, in small: the action-conditioned networks of Predict2 (all actions at once) and Predict2.5 (by latent frame)."""

import sys
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from .common import drawn, package, randomise, stand_in, stored, write_case

PREDICT2 = "nvidia-cosmos/cosmos-predict2@661da47 (Apache-2.0) ActionConditionedMinimalV1LVGDiT, float32 on CPU"
PREDICT25 = "nvidia-cosmos/cosmos-transfer2.5 (Apache-2.0) ActionChunkConditionedMinimalV1LVGDiT, float32 on CPU"
TEXT = 24


class RMSNorm(nn.Module):
    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def reset_parameters(self):
        pass

    def forward(self, x):
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight


def apply_rotary_pos_emb(t, freqs, tensor_format="bshd", fused=True, **_):
    """Rotate-half on the first channels, as transformer_engine does it; freqs [S,1,1,D]."""
    angle = freqs.squeeze(1).squeeze(1)[None, :, None, :]
    a, b = t[..., :angle.shape[-1]].chunk(2, -1)
    return t * angle.cos() + torch.cat((-b, a), -1) * angle.sin()


class Absent:
    """A kind of attention that these networks could have and do not."""


class DataType(Enum):
    IMAGE = "image"
    VIDEO = "video"


def resize(mask, size, interpolation=None):
    return F.interpolate(mask.float(), size=list(size), mode="nearest")


def prepare():
    for name in [n for n in sys.modules if n.split(".")[0] in ("cosmos_predict2", "cosmos_transfer2", "imaginaire", "torchvision")]:
        del sys.modules[name]
    pytorch = stand_in("transformer_engine.pytorch", RMSNorm=RMSNorm)
    stand_in("transformer_engine", pytorch=pytorch)
    stand_in("transformer_engine.pytorch.attention", DotProductAttention=None, apply_rotary_pos_emb=apply_rotary_pos_emb)
    stand_in("transformer_engine.pytorch.attention.rope", apply_rotary_pos_emb=apply_rotary_pos_emb)
    functional = SimpleNamespace(resize=resize)
    stand_in("torchvision", transforms=SimpleNamespace(functional=functional, InterpolationMode=SimpleNamespace(NEAREST=None)))
    torch.Tensor.cuda = lambda self, *a, **k: self
    nn.Module.cuda = lambda self, *a, **k: self
    torch.cuda.current_device = lambda: "cpu"


SIZES = dict(max_img_h=16, max_img_w=16, max_frames=8, in_channels=4, out_channels=4, patch_spatial=2, patch_temporal=1,
             concat_padding_mask=True, model_channels=48, num_blocks=2, num_heads=2, mlp_ratio=4.0, crossattn_emb_channels=TEXT,
             pos_emb_cls="rope3d", use_adaln_lora=True, adaln_lora_dim=16, rope_h_extrapolation_ratio=3.0,
             rope_w_extrapolation_ratio=3.0, rope_t_extrapolation_ratio=1.0, rope_enable_fps_modulation=False)


def surroundings(root: str, attention: str, neighborhood: str):
    stand_in(f"{root}.conditioner", DataType=DataType)
    for name in {attention.rstrip("."), neighborhood.rstrip(".")}:
        if f"{root}.{name}" not in sys.modules:
            stand_in(f"{root}.{name}")
    stand_in(f"{root}.{attention}a2a_cp", MinimalA2AAttnOp=Absent, NattenA2AAttnOp=Absent)
    stand_in(f"{root}.{neighborhood}neighborhood_attn", NeighborhoodAttention=Absent)


def inputs(seed: int):
    shape = (2, 4, 4, 4, 6)
    mask = torch.zeros(2, 1, *shape[2:])
    mask[:, :, 0] = 1
    return {"x_B_C_T_H_W": drawn(shape, seed), "timesteps_B_T": torch.tensor([[0.01, 0.7, 0.7, 0.7], [0.01, 0.2, 0.2, 0.2]]),
            "crossattn_emb": drawn((2, 5, TEXT), seed + 1), "condition_video_input_mask_B_C_T_H_W": mask,
            "padding_mask": torch.zeros(2, 1, 32, 48), "action": drawn((2, 12, 7), seed + 2)}


def predict2_network(source: Path):
    prepare()
    package("cosmos_predict2", source / "cosmos_predict2")
    package("cosmos_predict2.models", source / "cosmos_predict2/models")
    log = SimpleNamespace(**{k: lambda *a, **b: None for k in ("info", "warning", "critical", "debug", "success", "error")})
    surroundings("cosmos_predict2", "module.", "module.")
    stand_in("cosmos_predict2.networks")
    stand_in("cosmos_predict2.networks.model_weights_stats", WeightTrainingStat=nn.Module)
    stand_in("cosmos_predict2.networks.selective_activation_checkpoint", SACConfig=SimpleNamespace)
    stand_in("cosmos_predict2.utils")
    stand_in("cosmos_predict2.utils.context_parallel", split_inputs_cp=None)
    stand_in("imaginaire")
    stand_in("imaginaire.auxiliary")
    stand_in("imaginaire.auxiliary.text_encoder", CosmosTextEncoderConfig=SimpleNamespace(EMBED_DIM=TEXT, NUM_TOKENS=5))
    stand_in("imaginaire.utils", log=log)
    stand_in("imaginaire.utils.graph", create_cuda_graph=None)
    from cosmos_predict2.models import text2image_dit
    from cosmos_predict2.models.video2world_action_dit import ActionConditionedMinimalV1LVGDiT

    text2image_dit.MiniTrainDIT.enable_selective_checkpoint = lambda self, config: self
    return randomise(ActionConditionedMinimalV1LVGDiT(action_dim=12 * 7, atten_backend="torch", **SIZES), 41)


def make_predict2(out: Path, source: Path):
    model = predict2_network(source)
    folder = out / "transformer_cosmos_action"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored(model, "net."), folder / "model.safetensors")
    given = inputs(42)
    sample = model(**given)
    write_case(folder, "transformer.forward", "model.safetensors", given, {"sample": sample}, PREDICT2, "a lone file; random float16 weights")


def predict25_surroundings(source: Path):
    prepare()
    root = "cosmos_transfer2._src.predict2"
    for name in ("cosmos_transfer2", "cosmos_transfer2._src", root, root + ".networks", root + ".utils", root + ".action", root + ".action.networks"):
        package(name, source / name.replace(".", "/"))
    surroundings(root, "networks.", "modules.")
    stand_in(root + ".networks.model_weights_stats", WeightTrainingStat=nn.Module)
    stand_in(root + ".networks.selective_activation_checkpoint", SACConfig=SimpleNamespace)
    log = SimpleNamespace(**{k: lambda *a, **b: None for k in ("info", "warning", "critical", "debug", "success", "error")})
    stand_in("cosmos_transfer2._src.imaginaire")
    stand_in("cosmos_transfer2._src.imaginaire.attention", attention=None)
    stand_in("cosmos_transfer2._src.imaginaire.utils", log=log)
    stand_in("cosmos_transfer2._src.imaginaire.utils.context_parallel", split_inputs_cp=None)


def predict25_network(source: Path):
    predict25_surroundings(source)
    from cosmos_transfer2._src.predict2.action.networks.action_conditioned_minimal_v1_lvg_dit import ActionChunkConditionedMinimalV1LVGDiT

    return small_predict25(ActionChunkConditionedMinimalV1LVGDiT, timestep_scale=0.001)


def small_predict25(network, **more):
    from cosmos_transfer2._src.predict2.networks import minimal_v4_dit

    minimal_v4_dit.MiniTrainDIT.enable_selective_checkpoint = lambda self, *a, **k: self
    return randomise(network(action_dim=7, atten_backend="torch", use_crossattn_projection=True, crossattn_proj_in_channels=40, **more,
                             **SIZES), 51)


def make_predict25(out: Path, source: Path):
    model = predict25_network(source)
    folder = out / "transformer_cosmos_action_chunk"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored(model, "net."), folder / "model.safetensors")
    given = inputs(52)
    given["crossattn_emb"] = drawn((2, 5, 40), 55)
    sample = model(**{**given, "timesteps_B_T": given["timesteps_B_T"] * 1000})
    write_case(folder, "transformer.forward", "model.safetensors", given, {"sample": sample}, PREDICT25,
               "a lone file; the network's own scale of 0.001 is in the timesteps already; random float16 weights")
