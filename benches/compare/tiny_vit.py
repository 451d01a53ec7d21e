"""MobileSAM's image encoder, TinyViT, in plain torch under the names of the published checkpoint.

Batch normalisations run as layers of their own, as in the published program.
"""

import torch
from torch import nn
from torch.nn import functional

import layers


class ConvBn(nn.Module):
    """A convolution without bias and its batch normalisation."""

    def __init__(self, inner, out, kernel=1, stride=1, groups=1):
        super().__init__()
        self.c = nn.Conv2d(inner, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x):
        return self.bn(self.c(x))


class PatchEmbed(nn.Module):
    """To a quarter of the size."""

    def __init__(self, dim):
        super().__init__()
        self.seq = nn.Sequential(ConvBn(3, dim // 2, 3, 2), nn.GELU(), ConvBn(dim // 2, dim, 3, 2))

    def forward(self, x):
        return self.seq(x)


class Bottleneck(nn.Module):
    """1×1, depthwise 3×3 and 1×1 convolutions of N×C×H×W maps."""

    def __init__(self, inner, hidden, out, stride=1):
        super().__init__()
        self.conv1 = ConvBn(inner, hidden)
        self.conv2 = ConvBn(hidden, hidden, 3, stride, groups=hidden)
        self.conv3 = ConvBn(hidden, out)

    def forward(self, x):
        x = functional.gelu(self.conv1(x))
        return self.conv3(functional.gelu(self.conv2(x)))


class ConvolutionBlock(Bottleneck):
    def __init__(self, dim):
        super().__init__(dim, 4 * dim, dim)

    def forward(self, x):
        return functional.gelu(x + super().forward(x))


class WindowAttention(nn.Module):
    """Attention among the tokens of N×(window²)×C windows, with a learned score for every distance."""

    def __init__(self, dim, heads, window):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        rows, columns = (part.flatten() for part in torch.meshgrid(2 * [torch.arange(window)], indexing="ij"))
        distances = [(places[:, None] - places[None, :]).abs() for places in (rows, columns)]
        self.register_buffer("pairs", distances[0] * window + distances[1], persistent=False)
        self.scores_of_pairs = None

    def train(self, mode=True):
        """Leaving the training mode looks the pairs' scores up once, for the weights that are then in place."""
        self.scores_of_pairs = None if mode else self.attention_biases.detach()[:, self.pairs]
        return super().train(mode)

    def forward(self, x):
        batch, tokens, dim = x.shape
        head = dim // self.heads
        parts = self.qkv(self.norm(x)).view(batch, tokens, self.heads, 3 * head)
        q, k, v = (part.permute(0, 2, 1, 3) for part in parts.split(head, dim=3))
        scores = (q @ k.transpose(2, 3)) * head**-0.5 + self.scores_of_pairs
        x = scores.softmax(dim=-1) @ v
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, dim))


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(functional.gelu(self.fc1(self.norm(x))))


class AttentionBlock(nn.Module):
    """N×C×H×W maps through window attention, a convolution of every channel by itself, and a perceptron."""

    def __init__(self, dim, heads, window):
        super().__init__()
        self.window = window
        self.attn = WindowAttention(dim, heads, window)
        self.local_conv = ConvBn(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim)

    def forward(self, x):
        tokens = x.permute(0, 2, 3, 1)
        windows = layers.split_windows(tokens, self.window)
        attended = self.attn(windows.flatten(1, 2)).view(windows.shape)
        tokens = tokens + layers.join_windows(attended, tokens.shape[1:3])
        x = self.local_conv(tokens.permute(0, 3, 1, 2))
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.mlp(tokens)
        return tokens.transpose(1, 2).reshape(x.shape)


class Stage(nn.Module):
    def __init__(self, blocks, downsample):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyVit(nn.Module):
    """N×3×S×S normalised pixels to N×out×(S/16)×(S/16) features."""

    def __init__(
        self,
        image_size=1024,
        dims=(64, 128, 160, 320),
        depths=(2, 2, 6, 2),
        heads=(2, 4, 5, 10),
        windows=(7, 7, 14, 7),
        out=256,
    ):
        super().__init__()
        self.image_size = image_size
        self.patch_embed = PatchEmbed(dims[0])
        self.layers = nn.ModuleList()
        for stage, dim in enumerate(dims):
            def block():
                return AttentionBlock(dim, heads[stage], windows[stage]) if stage else ConvolutionBlock(dim)

            # The last merge changes the channels only.
            following = dims[stage + 1] if stage < 3 else None
            merge = following and Bottleneck(dim, following, following, stride=1 if stage == 2 else 2)
            self.layers.append(Stage([block() for _ in range(depths[stage])], merge))
        self.neck = layers.neck(dims[3], out)

    def forward(self, x):
        x = self.patch_embed(x)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)
