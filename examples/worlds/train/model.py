"""The two networks of a bundled world, the same for every world. ARCHITECTURE.md gives the same thing as formulas.

Shape key: B batch, T frames, H W pixels, C latent channels, S tokens of a frame, D width, F action features.
"""
import math

import torch
from torch import nn
from torch.nn import functional as nnf

# ---------------------------------------------------------------------------------------------------- tokenizer


class ResBlock(nn.Module):
    """x + conv2(silu(norm2(conv1(silu(norm1(x)))))"""

    def __init__(self, width, groups):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, width, eps=1e-5), nn.Conv2d(width, width, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, width, eps=1e-5), nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x):
        x1 = self.conv1(nnf.silu(self.norm1(x)))
        return x + self.conv2(nnf.silu(self.norm2(x1)))


class Encoder(nn.Module):
    def __init__(self, channels, widths, blocks, groups):
        super().__init__()
        self.conv_in = nn.Conv2d(12, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        for i, (w, n) in enumerate(zip(widths, blocks)):
            level = nn.Module()
            if i:
                level.down = nn.Conv2d(widths[i - 1], w, 3, stride=2, padding=1)
            level.blocks = nn.ModuleList(ResBlock(w, groups) for _ in range(n))
            self.levels.append(level)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(nnf.pixel_unshuffle(x, 2))
        for level in self.levels:
            if hasattr(level, "down"):
                x = level.down(x)
            for block in level.blocks:
                x = block(x)
        return torch.tanh(self.conv_out(nnf.silu(self.norm_out(x))))


class Decoder(nn.Module):
    def __init__(self, channels, widths, blocks, groups):
        super().__init__()
        widths, blocks = widths[::-1], blocks[::-1]
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        for i, (w, n) in enumerate(zip(widths, blocks)):
            level = nn.Module()
            if i:
                level.up = nn.Conv2d(widths[i - 1], 4 * w, 1)
            level.blocks = nn.ModuleList(ResBlock(w, groups) for _ in range(n))
            self.levels.append(level)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[-1], 12, 3, padding=1)

    def forward(self, z):
        x = self.conv_in(z)
        for level in self.levels:
            if hasattr(level, "up"):
                x = nnf.pixel_shuffle(level.up(x), 2)
            for block in level.blocks:
                x = block(x)
        return nnf.pixel_shuffle(self.conv_out(nnf.silu(self.norm_out(x))), 2)


class Tokenizer(nn.Module):
    """encode: [B, 3, 64, 64] in [-1, 1] -> [B, C, h, w] in (-1, 1), without randomness; decode: the way back."""

    def __init__(self, latent_channels=8, widths=(32, 64, 128), encoder_blocks=(1, 1, 2), decoder_blocks=(1, 2, 2),
                 norm_groups=8, **_):
        super().__init__()
        self.encoder = Encoder(latent_channels, list(widths), list(encoder_blocks), norm_groups)
        self.decoder = Decoder(latent_channels, list(widths), list(decoder_blocks), norm_groups)

    def encode(self, x):
        return self.encoder(x)

    def decode(self, z):
        return self.decoder(z)


# ----------------------------------------------------------------------------------------------------- dynamics


def action_features(actions, space, known=None):
    """Rows in the simulator's own units [..., A] -> [..., F]. `known` (bool [...]) zeroes the rows nobody knows.

    continuous: u = 2 (a - low) / (high - low) - 1; per component u, then sin and cos of pi 2^j u for j = 0..n-1
    discrete:   one-hot
    and a last feature that is 1 for a known action; an unknown one is all zeros.
    """
    if space["type"] == "discrete":
        x = nnf.one_hot(actions[..., 0].long(), space["count"]).float()
    else:
        low, high = (actions.new_tensor(space[k]) for k in ("low", "high"))
        u = 2 * (actions - low) / (high - low) - 1
        freq = math.pi * 2.0 ** torch.arange(space["frequencies"], device=u.device)
        angle = u[..., None] * freq                                       # [..., A, n]
        x = torch.cat([u[..., None], angle.sin(), angle.cos()], -1).flatten(-2)
    x = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    return x if known is None else x * known[..., None]


def feature_width(space):
    return 1 + (space["count"] if space["type"] == "discrete" else len(space["low"]) * (1 + 2 * space["frequencies"]))


def rope_table(positions, head_dim, base):
    """cos and sin [n, head_dim / 2]: angle = position * base^(-i / (head_dim / 2))."""
    half = head_dim // 2
    freq = base ** (-torch.arange(half, dtype=torch.float32) / half)
    angle = positions.float()[:, None] * freq
    return angle.cos(), angle.sin()


def rotate(x, table):
    """x [..., n, head_dim]; element i turns with element i + head_dim / 2."""
    cos, sin = table
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def moved(x, flow, groups):
    """x [N, E, h, w], flow [N, 2 groups, h, w] -> x as seen from elsewhere: place (r, c) of a group of channels shows what x has
    at (r + flow[2 g + 1], c + flow[2 g]), between places in bilinear steps, beyond the edge the edge."""
    n, e, h, w = x.shape
    at = flow.float().reshape(n * groups, 2, h, w)
    column = torch.arange(w, dtype=torch.float32) + at[:, 0]
    row = torch.arange(h, dtype=torch.float32)[:, None] + at[:, 1]
    grid = torch.stack([column * (2 / (w - 1)) - 1, row * (2 / (h - 1)) - 1], -1)
    out = nnf.grid_sample(x.float().reshape(n * groups, e // groups, h, w), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return out.view(n, e, h, w).to(x.dtype)


class Block(nn.Module):
    """Three residual branches, each modulated by the frame's condition: inside the frame, over time, MLP."""

    def __init__(self, width, heads, mlp):
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 9 * width)
        self.space_qkv, self.space_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.time_qkv, self.time_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, mlp), nn.Linear(mlp, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def split(self, qkv):                                                 # [B, T, S, 3D] -> 3 x [B, T, S, h, d]
        return qkv.unflatten(-1, (3, self.heads, -1)).unbind(3)

    def forward(self, x, c, table, mask=None, past=None):
        """x [B,T,S,D]; c [B,T,D], already through SiLU; past: the keys and values [B,S,h,n,d] of earlier frames.

        Returns x and this call's own rotated keys and values. `mask` is bool [T, n + T]; None means all may be seen.
        """
        m = self.modulation(c)[:, :, None].chunk(9, -1)                   # shift, scale, gate of each branch
        norm = lambda y, i: nnf.layer_norm(y, y.shape[-1:], eps=1e-6) * (1 + m[i + 1]) + m[i]

        q, k, v = (t.transpose(2, 3) for t in self.split(self.space_qkv(norm(x, 0))))       # [B,T,h,S,d]
        y = nnf.scaled_dot_product_attention(q, k, v)
        x = x + m[2] * self.space_out(y.transpose(2, 3).flatten(-2))

        q, k, v = (t.permute(0, 2, 3, 1, 4) for t in self.split(self.time_qkv(norm(x, 3))))  # [B,S,h,T,d]
        q, k = rotate(q, table), rotate(k, table)
        keys, values = (k, v) if past is None else (torch.cat([p, t], 3) for p, t in zip(past, (k, v)))
        y = nnf.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        x = x + m[5] * self.time_out(y.permute(0, 3, 1, 2, 4).flatten(-2))

        y = self.mlp_out(nnf.gelu(self.mlp_in(norm(x, 6)), approximate="tanh"))
        return x + m[8] * y, (k, v)


class WorldTransformer(nn.Module):
    """Predicts the clean latent of each frame from its noisy one, the two latents before it, and the frames before that.

    Two convolutions before the tokens and two after them work at the latent's own resolution: what moves by a pixel or
    two is their business, the tokens' is everything farther away in space and time. Actions reach the tokens as
    a modulation and the convolutions as planes.
    """

    def __init__(self, in_channels=8, latent_size=8, patch_size=2, width=160, layers=4, heads=5, mlp_width=480,
                 conv_width=64, planes=6, head_convs=1, flows=0, action_features=19, noise_features=128, rope_base=1000.0, window=16, **_):
        super().__init__()
        self.patch, self.size, self.channels, self.planes = patch_size, latent_size, in_channels, planes
        self.head_dim, self.rope_base, self.noise_features, self.window = width // heads, rope_base, noise_features, window
        tokens, values = (latent_size // patch_size) ** 2, conv_width * patch_size**2
        self.plane_in = nn.Linear(action_features + 1, planes * latent_size**2)
        self.conv_in = nn.Conv2d(3 * in_channels + planes, conv_width, 3, padding=1)
        self.conv_stem = nn.Conv2d(conv_width, conv_width, 3, padding=1)
        self.patch_in = nn.Linear(values, width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.noise_in, self.noise_out = nn.Linear(noise_features, width), nn.Linear(width, width)
        self.action_in, self.action_out = nn.Linear(action_features, width), nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_width) for _ in range(layers))
        self.final_modulation = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, values)
        self.conv_head = nn.Conv2d(conv_width, conv_width, 3, padding=1)
        self.convs_head = nn.ModuleList(nn.Conv2d(conv_width, conv_width, 3, padding=1) for _ in range(head_convs - 1))
        self.flows = flows
        if flows:                                                         # begins with a small share, at rest
            self.conv_flow = nn.Conv2d(conv_width, 2 * flows, 3, padding=1)
            self.conv_moved = nn.Conv2d(conv_width, conv_width, 3, padding=1)
            with torch.no_grad():
                self.conv_flow.weight.mul_(0.1)
                self.conv_moved.weight.mul_(0.2)
        self.conv_out = nn.Conv2d(conv_width, in_channels, 3, padding=1)
        for layer in (self.final_modulation, self.conv_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def begin_planes(self, space):
        """What the planes show before training: how far each place is from the target, or which action it is; the last
        one the noise level. All of it is learned on from there."""
        weight = self.plane_in.weight.view(self.planes, self.size, self.size, -1)
        weight.mul_(0.1)
        at = (torch.arange(self.size) + 0.5) * 2 / self.size - 1
        if space["type"] == "discrete":
            for action in range(space["count"]):
                weight[action, ..., action] = 1
        else:
            for plane, places in ((0, at[None].expand(self.size, -1)), (1, at[:, None].expand(-1, self.size))):
                weight[plane, ..., plane * (1 + 2 * space["frequencies"])] = 1
                weight[plane, ..., -2] = -places
        weight[-1, ..., -1] = 1

    def to_tokens(self, x):                                               # [B,T,C,h,w] -> [B,T,S,C*p*p], order (c, y, x)
        b, t, c, h, w = x.shape
        p = self.patch
        return x.reshape(b, t, c, h // p, p, w // p, p).permute(0, 1, 3, 5, 2, 4, 6).reshape(b, t, -1, c * p * p)

    def from_tokens(self, x):
        b, t = x.shape[:2]
        p, n = self.patch, self.size // self.patch
        c = x.shape[-1] // p**2
        return x.reshape(b, t, n, n, c, p, p).permute(0, 1, 4, 2, 5, 3, 6).reshape(b, t, c, n * p, n * p)

    def condition(self, level, features):
        """level [B,T] in [0, 1], features [B,T,F] -> [B,T,D]"""
        half = self.noise_features // 2
        freq = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=level.device) / half)
        angle = 1000.0 * level[..., None] * freq
        noise = self.noise_out(nnf.silu(self.noise_in(torch.cat([angle.cos(), angle.sin()], -1).to(features.dtype))))
        return nnf.silu(noise + self.action_out(nnf.silu(self.action_in(features))))

    def forward(self, x, previous, level, features, positions=None, mask="causal", past=None):
        """x [B,T,C,h,w] normalised latents; previous [B,T,2C,h,w]: of frame k, frames k - 1 and k - 2 as context (zeros
        where there is none).

        mask "causal": each frame sees itself and at most window - 1 frames before it; else bool [T, n + T] or None.
        past: per layer the keys and values of earlier frames; positions [T]: frame numbers (default 0, 1, ...).
        Returns the clean latents predicted [B,T,C,h,w] and per layer this call's keys and values.
        """
        batch, frames = x.shape[:2]
        if positions is None:
            positions = torch.arange(frames)
        if isinstance(mask, str):
            age = torch.arange(frames)[:, None] - torch.arange(frames)[None]
            mask = (age >= 0) & (age < self.window)
        table = rope_table(positions, self.head_dim, self.rope_base)
        c = self.condition(level, features)
        planes = self.plane_in(torch.cat([features, level[..., None].to(features.dtype)], -1)).unflatten(-1, (-1, self.size, self.size))
        fine = self.conv_in(torch.cat([x, previous, planes], 2).flatten(0, 1))             # [B*T,E,h,w]
        stem = fine = fine + self.conv_stem(nnf.silu(fine))
        h = self.patch_in(self.to_tokens(fine.unflatten(0, (batch, frames)))) + self.position   # [B,T,S,D]
        kept = []
        for i, block in enumerate(self.blocks):
            h, kv = block(h, c, table, mask, None if past is None else past[i])
            kept.append(kv)
        shift, scale = self.final_modulation(c)[:, :, None].chunk(2, -1)
        h = nnf.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift
        fine = fine + self.from_tokens(self.patch_out(h)).flatten(0, 1)                    # [B*T,E,h,w]
        if self.flows:
            fine = fine + self.conv_moved(nnf.silu(moved(stem, self.conv_flow(nnf.silu(fine)), self.flows)))
        for conv in (self.conv_head, *self.convs_head):
            fine = fine + conv(nnf.silu(fine))
        out = self.conv_out(nnf.silu(fine)).unflatten(0, (batch, frames))
        return previous[:, :, : self.channels] + out, kept


# ------------------------------------------------------------------------------------------------------ sampling


def noise_levels(steps, shift):
    """steps + 1 levels from 1 to 0: u = 1 - i / steps, t = shift u / (1 + (shift - 1) u)."""
    u = 1 - torch.arange(steps + 1, dtype=torch.float32) / steps
    return shift * u / (1 + (shift - 1) * u)


class World:
    """One batch of worlds being imagined: the keys and values of past frames, and the last two latents.

    `observe` takes a frame as given; `step` imagines the next one. Latents are normalised, [B, C, h, w].
    """

    def __init__(self, net, steps=4, shift=3.0, context_level=0.1):
        self.net, self.levels, self.context_level = net, noise_levels(steps, shift), context_level
        self.past, self.previous, self.frame = None, None, 0

    def before(self, x):
        return torch.zeros_like(x).repeat(1, 2, 1, 1) if self.previous is None else self.previous

    def run(self, x, level, features):
        out, kv = self.net(x[:, None], self.before(x)[:, None], torch.full((len(x), 1), float(level)), features[:, None],
                           torch.tensor([self.frame]), None, self.past)
        return out[:, 0], kv

    @torch.no_grad()
    def observe(self, x, features):
        keep = self.net.window - 1
        if keep:                                                          # else the two frames before are all it knows
            _, kv = self.run(x, self.context_level, features)
            if self.past is not None:
                kv = [tuple(torch.cat([p, n], 3)[:, :, :, -keep:] for p, n in zip(old, new)) for old, new in zip(self.past, kv)]
            self.past = kv
        self.previous = torch.cat([x, self.before(x)[:, : x.shape[1]]], 1)
        self.frame += 1

    @torch.no_grad()
    def step(self, noise, features):
        x = noise
        for now, then in zip(self.levels[:-1], self.levels[1:]):
            clean, _ = self.run(x, now, features)
            x = clean + (then / now) * (x - clean)
        self.observe(x, features)
        return x
