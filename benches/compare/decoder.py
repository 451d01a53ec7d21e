"""Segment Anything's prompt encoder and mask decoder in plain torch, under the published names."""

import math

import torch
from torch import nn
from torch.nn import functional

from layers import FeedForward, LayerNorm2d


class Places(nn.Module):
    """Coordinates from 0 to 1 as sines and cosines of random frequencies."""

    def __init__(self, features):
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.zeros(2, features))

    def forward(self, coordinates):
        angles = 2 * math.pi * ((2 * coordinates - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Points to tokens; boxes and mask prompts play no part in the comparison, the latter's weights are only read."""

    def __init__(self, image_size, dim=256, mask_channels=16):
        super().__init__()
        self.image_size, self.grid = image_size, image_size // 16
        self.pe_layer = Places(dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.no_mask_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, 2, 2),
            LayerNorm2d(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, 2, 2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, dim, 1),
        )

    def image_places(self):
        """1×C×h×w, where the image's tokens are."""
        centres = (torch.arange(self.grid) + 0.5) / self.grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        return self.pe_layer(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]

    def forward(self, points, labels):
        """B×P×2 places in pixels of the network's input and B×P labels: B×(P+1)×C tokens and B×C×h×w mask prompts."""
        count = len(points)
        # A token that is no point ends the list where there is no box.
        points = torch.cat([points + 0.5, points.new_zeros(count, 1, 2)], dim=1)
        labels = torch.cat([labels, labels.new_full((count, 1), -1)], dim=1)
        tokens = self.pe_layer(points / self.image_size)
        tokens[labels == -1] = self.not_a_point_embed.weight
        for label in (0, 1):
            tokens[labels == label] += self.point_embeddings[label].weight
        no_mask = self.no_mask_embed.weight.view(1, -1, 1, 1)
        return tokens, no_mask.expand(count, -1, self.grid, self.grid)


class Attention(nn.Module):
    def __init__(self, dim, heads, inner):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, q, k, v):
        q, k, v = self.split(self.q_proj(q)), self.split(self.k_proj(k)), self.split(self.v_proj(v))
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        x = scores.softmax(dim=-1) @ v
        return self.out_proj(x.transpose(1, 2).flatten(2))


class TwoWayLayer(nn.Module):
    """Tokens attend to themselves and the image, then the image to the tokens."""

    def __init__(self, dim, heads, hidden, first):
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, heads, dim)
        self.cross_attn_token_to_image = Attention(dim, heads, dim // 2)
        self.cross_attn_image_to_token = Attention(dim, heads, dim // 2)
        self.mlp = FeedForward(dim, hidden, functional.relu)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(dim) for _ in range(4))

    def forward(self, tokens, image, token_places, image_places):
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_places
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed = image + image_places
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_places, placed, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        placed = image + image_places
        image = self.norm4(image + self.cross_attn_image_to_token(placed, tokens + token_places, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    def __init__(self, dim, depth, heads, hidden):
        super().__init__()
        self.layers = nn.ModuleList(TwoWayLayer(dim, heads, hidden, layer == 0) for layer in range(depth))
        self.final_attn_token_to_image = Attention(dim, heads, dim // 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, tokens, image, image_places):
        """B×T×C tokens, B×C×h×w features and their places, to B×T×C and B×(h·w)×C."""
        image, image_places = (x.flatten(2).transpose(1, 2) for x in (image, image_places))
        token_places = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_places, image_places)
        attended = self.final_attn_token_to_image(tokens + token_places, image + image_places, image)
        return self.norm_final_attn(tokens + attended), image


class Perceptron(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, widths[1:]))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        return self.layers[-1](x)


class MaskDecoder(nn.Module):
    """Image features and prompt tokens to mask logits and the masks' predicted IoU."""

    def __init__(self, dim=256, depth=2, heads=8, hidden=2048, iou_depth=3, iou_hidden=256):
        super().__init__()
        masks = 4
        self.transformer = TwoWayTransformer(dim, depth, heads, hidden)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(masks, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, 2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2),
            nn.GELU(),
        )
        hypernetworks = (Perceptron([dim, dim, dim, dim // 8]) for _ in range(masks))
        self.output_hypernetworks_mlps = nn.ModuleList(hypernetworks)
        self.iou_prediction_head = Perceptron([dim] + (iou_depth - 1) * [iou_hidden] + [masks])

    def forward(self, features, places, tokens, mask_prompts):
        """1×C×h×w features and places, B×T×C tokens and B×C×h×w mask prompts: B×4×4h×4w logits and B×4 scores, of
        the single mask and of the three of an ambiguous prompt."""
        count, (height, width) = len(tokens), features.shape[-2:]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(count, -1, -1), tokens], dim=1)
        image = features.repeat_interleave(count, dim=0) + mask_prompts
        tokens, image = self.transformer(tokens, image, places.repeat_interleave(count, dim=0))
        image = self.output_upscaling(image.transpose(1, 2).view(count, -1, height, width))
        weights = [network(tokens[:, 1 + i]) for i, network in enumerate(self.output_hypernetworks_mlps)]
        masks = torch.stack(weights, dim=1) @ image.flatten(2)
        return masks.view(count, -1, 4 * height, 4 * width), self.iou_prediction_head(tokens[:, 0])
