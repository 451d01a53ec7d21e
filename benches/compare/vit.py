"""Segment Anything's image encoder, a ViT with decomposed relative positions, under the published names.

It computes what the published program does, in the same operations: attention builds its whole score matrix, and
windows are padded by zeros.
"""

import torch
from torch import nn
from torch.nn import functional

import layers


def relative_table(size, table):
    """The rows of a (2·size-1)×C table for all pairs of `size` places: size×size×C."""
    places = torch.arange(size)
    return table[places[:, None] - places[None, :] + size - 1]


class EncoderAttention(nn.Module):
    """Attention among all tokens of H×W maps, with learned scores for distances along both axes."""

    def __init__(self, dim, heads, side):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))

    def forward(self, x):
        batch, height, width, dim = x.shape
        tokens, head = height * width, dim // self.heads
        parts = self.qkv(x).reshape(batch, tokens, 3, self.heads, head).permute(2, 0, 3, 1, 4)
        q, k, v = parts.reshape(3, batch * self.heads, tokens, head).unbind(0)
        scores = (q * head**-0.5) @ k.transpose(1, 2)
        places = q.reshape(batch * self.heads, height, width, head)
        vertical = torch.einsum("nhwc,hkc->nhwk", places, relative_table(height, self.rel_pos_h))
        horizontal = torch.einsum("nhwc,wkc->nhwk", places, relative_table(width, self.rel_pos_w))
        scores = scores.view(-1, height, width, height, width)
        scores = scores + vertical[:, :, :, :, None] + horizontal[:, :, :, None, :]
        x = scores.view(-1, tokens, tokens).softmax(dim=-1) @ v
        x = x.view(batch, self.heads, height, width, head).permute(0, 2, 3, 1, 4)
        return self.proj(x.reshape(batch, height, width, dim))


class EncoderBlock(nn.Module):
    def __init__(self, dim, heads, window, side):
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = EncoderAttention(dim, heads, window or side)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = layers.FeedForward(dim, 4 * dim, functional.gelu)

    def forward(self, x):
        inner = self.norm1(x)
        if self.window:
            attended = self.attn(layers.split_windows(inner, self.window))
            x = x + layers.join_windows(attended, x.shape[1:3])
        else:
            x = x + self.attn(inner)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, dim, patch):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, x):
        return self.proj(x).permute(0, 2, 3, 1)


class VitEncoder(nn.Module):
    """N×3×S×S normalised pixels to N×out×(S/patch)×(S/patch) features."""

    def __init__(self, image_size=1024, dim=768, depth=12, heads=12, global_layers=(2, 5, 8, 11), window=14, out=256):
        super().__init__()
        patch = 16
        side = image_size // patch
        self.image_size = image_size
        self.patch_embed = PatchEmbed(dim, patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, dim))
        windows = (0 if layer in global_layers else window for layer in range(depth))
        self.blocks = nn.ModuleList(EncoderBlock(dim, heads, window, side) for window in windows)
        self.neck = layers.neck(dim, out)

    def forward(self, x):
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))
