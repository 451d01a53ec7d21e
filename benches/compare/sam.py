"""Segment Anything put together: an image or a crop of one is embedded once and asked about points."""

import torch
from torch import nn
from torch.nn import functional
from torchvision.transforms import functional as images

from decoder import MaskDecoder, PromptEncoder
from tiny_vit import TinyVit
from vit import VitEncoder

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class Embedding:
    """An image's features and what maps points to the network's frame and masks back."""

    def __init__(self, features, original, resized):
        self.features, self.original, self.resized = features, original, resized


class Sam(nn.Module):
    def __init__(self, image_encoder, prompt_encoder, mask_decoder):
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.side = image_encoder.image_size
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    def embed(self, image):
        """H×W×3 bytes: resized by Pillow to the longer side, normalised, padded by zeros, encoded."""
        original = tuple(image.shape[:2])
        scale = self.side / max(original)
        height, width = resized = tuple(int(length * scale + 0.5) for length in original)
        picture = images.to_pil_image(image.numpy())
        pixels = images.pil_to_tensor(images.resize(picture, list(resized)))
        x = functional.pad((pixels - self.mean) / self.std, (0, self.side - width, 0, self.side - height))
        return Embedding(self.image_encoder(x[None]), original, resized)

    def masks_at(self, embedding, points):
        """The three masks of each of B foreground points (x, y in pixels of the image).

        B×3×H×W logits of the image's size, B×3 predicted IoU and B×3×h×w logits of the decoder's size.
        """
        (height, width), (rows, columns) = embedding.original, embedding.resized
        scale = torch.tensor([columns / width, rows / height], dtype=torch.float64)
        places = (points.double() * scale).float()[:, None]
        tokens, mask_prompts = self.prompt_encoder(places, torch.ones(len(points), 1, dtype=torch.int64))
        image_places = self.prompt_encoder.image_places()
        low_res, scores = self.mask_decoder(embedding.features, image_places, tokens, mask_prompts)
        low_res, scores = low_res[:, 1:], scores[:, 1:]
        masks = functional.interpolate(low_res, (self.side, self.side), mode="bilinear", align_corners=False)
        masks = masks[..., :rows, :columns]
        masks = functional.interpolate(masks, embedding.original, mode="bilinear", align_corners=False)
        return masks, scores, low_res


def vit_b():
    encoder = VitEncoder()
    return Sam(encoder, PromptEncoder(encoder.image_size), MaskDecoder())


def mobile_sam():
    encoder = TinyVit()
    return Sam(encoder, PromptEncoder(encoder.image_size), MaskDecoder())
