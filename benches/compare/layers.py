"""What the encoders and the decoder share."""

import torch
from torch import nn
from torch.nn import functional


class LayerNorm2d(nn.Module):
    """Normalises the channels of every pixel of N×C×H×W maps."""

    def __init__(self, channels, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x):
        centred = x - x.mean(1, keepdim=True)
        normal = centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + self.eps)
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


def neck(inner, out):
    """From an encoder's width to the decoder's."""
    return nn.Sequential(
        nn.Conv2d(inner, out, 1, bias=False),
        LayerNorm2d(out),
        nn.Conv2d(out, out, 3, padding=1, bias=False),
        LayerNorm2d(out),
    )


class FeedForward(nn.Module):
    def __init__(self, dim, hidden, activation):
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)
        self.activation = activation

    def forward(self, x):
        return self.lin2(self.activation(self.lin1(x)))


def split_windows(x, window):
    """N×H×W×C maps, padded by zeros to whole windows, as (N·windows)×window×window×C."""
    batch, height, width, dim = x.shape
    x = functional.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = x.shape[1] // window, x.shape[2] // window
    x = x.view(batch, rows, window, columns, window, dim).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, window, window, dim)


def join_windows(x, size):
    """The maps of H×W pixels that such windows were cut from."""
    (height, width), window, dim = size, x.shape[1], x.shape[-1]
    rows, columns = -(-height // window), -(-width // window)
    x = x.view(-1, rows, columns, window, window, dim).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, rows * window, columns * window, dim)[:, :height, :width]
