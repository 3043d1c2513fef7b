"""What the kernels cost at best for shapes of real models: bytes over memory speed or operations over arithmetic speed."""

# Dense peaks: TFLOPS of bfloat16 with float32 sums, TOPS of int8, TFLOPS of float32, GB/s; from NVIDIA's data sheets.
GPUS = {'A100': (312, 624, 19.5, 2039), 'H100': (989, 1979, 67, 3350), 'RTX 4090': (165, 661, 82.6, 1008),
        'RTX 5090': (210, 838, 104.8, 1792), 'AGX Orin': (43, 85, 5.3, 205)}


def conv(batch_pixels, channels_in, channels_out, taps):
    """bytes (each frame in, out and the weights once), bfloat16 operations"""
    return 2 * (batch_pixels * (channels_in + channels_out) + taps * channels_in * channels_out), \
        2 * batch_pixels * channels_in * channels_out * taps


def rows():
    """kernel, what, bytes, operations, kind of operation"""
    yield 'cached_conv3d', 'Wan 2.1 decoder, 96 → 96, 4 frames of 480x832', *conv(4 * 480 * 832, 96, 96, 27), 0
    yield 'cached_conv3d', 'Wan 2.1 decoder, 384 → 384, 1 frame of 60x104', *conv(60 * 104, 384, 384, 27), 0
    tokens = 32760
    yield 'modulated_norm', f'Wan 1.3B, {tokens} tokens of 1536', 4 * tokens * 1536, 8 * tokens * 1536, 2
    yield 'gated_residual', f'Wan 14B, {tokens} tokens of 5120', 6 * tokens * 5120, 2 * tokens * 5120, 2
    yield 'qk_norm_rope', f'Wan 1.3B, queries of {tokens} tokens', 4 * tokens * 1536 + 8 * tokens * 64, 10 * tokens * 1536, 2
    numbers = 16 * 21 * 60 * 104
    yield 'sampler_step', 'Wan 1.3B latents, guided, no noise', numbers * 12, 6 * numbers, 2
    heads, width, seen, new = 12, 128, 9360, 4680  # Self-Forcing: chunks of 3 latent frames of 1560 tokens, 6 frames in sight
    yield 'paged_attention', f'Wan 1.3B streaming, {new} tokens see {seen}', 4 * heads * width * (new + seen), \
        4 * heads * width * new * seen, 0
    yield 'int8_attention', f'Wan 1.3B, {tokens} tokens, q·k alone', 2 * heads * width * tokens, 2 * heads * width * tokens * tokens, 1
    yield 'quantized_linear', 'one token, 4096 → 14336, int8', 4096 * 14336 + 4 * 14336, 2 * 4096 * 14336, 2
    yield 'top_p', 'one row of 64000 logits', 4 * 64000, 34 * 30 * 64000, 2
    yield 'fsq', 'Cosmos DV8x16x16, 1 s of 720p', 4 * 2 * 6 * 45 * 80 * 6, 40 * 6 * 45 * 80 * 6, 2
    yield 'patch', 'Haar 2x2x2 of 16 frames of 720p', 4 * 3 * 16 * 720 * 1280, 3 * 3 * 16 * 720 * 1280, 2
    yield 'frames', '16 frames of 720p NV12 to bfloat16', 16 * 720 * 1280 * 7.5, 60 * 16 * 720 * 1280, 2


def table():
    lines = ['| kernel | shape | MB | GFLOP | ' + ' | '.join(GPUS) + ' |', '|---|---|---|---|' + '---|' * len(GPUS)]
    for kernel, what, amount, operations, kind in rows():
        cells = []
        for gpu in GPUS.values():
            memory, arithmetic = amount / gpu[3] / 1e3, operations / gpu[kind] / 1e6
            cells.append(f'{max(memory, arithmetic):.0f} µs ' + ('m' if memory > arithmetic else 'a'))
        lines.append(f'| `{kernel}` | {what} | {amount / 1e6:.0f} | {operations / 1e9:.1f} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)
