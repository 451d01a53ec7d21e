"""Segment Anything's automatic mask generator: grids of points on an image and on crops of it, filtered masks, NMS.

Filters and their order are those of the published program, with all masks of a batch at full size at once.
"""

import json
from dataclasses import dataclass

import torch
from torch.nn import functional
from torchvision.ops import batched_nms

# How close to a crop's edge a mask counts as cut, in pixels.
EDGE = 20


@dataclass
class Settings:
    pred_iou_thresh: float
    stability_score_thresh: float
    box_nms_thresh: float
    crop_nms_thresh: float
    points_per_side: int
    crop_n_layers: int
    crop_n_points_downscale_factor: int = 1
    points_per_batch: int = 64
    crop_overlap_ratio: float = 512 / 1500
    stability_score_offset: float = 1.0

    @classmethod
    def read(cls, path):
        """The settings that the file has to hold, whatever else it holds."""
        values = json.loads(path.read_text())
        names = ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh", "crop_nms_thresh")
        return cls(**{name: values[name] for name in (*names, "points_per_side", "crop_n_layers")})


@dataclass
class Candidates:
    """Masks as runs, row by row with their boxes (in pixels of the image, edges included), scores and points."""

    runs: list
    boxes: torch.Tensor
    scores: torch.Tensor
    stability: torch.Tensor
    points: torch.Tensor
    crops: torch.Tensor

    def take(self, rows):
        """Those of `rows`, in that order."""
        runs = [self.runs[row] for row in rows.tolist()]
        return Candidates(runs, *(part[rows] for part in self.columns()))

    def columns(self):
        return self.boxes, self.scores, self.stability, self.points, self.crops

    @classmethod
    def joined(cls, parts):
        columns = zip(*(part.columns() for part in parts))
        return cls([runs for part in parts for runs in part.runs], *map(torch.cat, columns))


def crop_boxes(size, settings):
    """(left, top, right, bottom) and layer of the image and its crops, column by column."""
    height, width = size
    crops = [((0, 0, width, height), 0)]
    for layer in range(1, settings.crop_n_layers + 1):
        count = 2**layer
        overlap = int(settings.crop_overlap_ratio * min(size) * 2 / count)

        def spans(total):
            length = -(-(overlap * (count - 1) + total) // count)
            return [(i * (length - overlap), min(i * (length - overlap) + length, total)) for i in range(count)]

        crops += [((x0, y0, x1, y1), layer) for x0, x1 in spans(width) for y0, y1 in spans(height)]
    return crops


def point_grid(side):
    """The centres of side×side even cells of the unit square, row by row."""
    centres = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def stability_scores(logits, offset):
    """Pixels above `offset` as a share of those above -`offset`, for every mask."""

    def pixels_above(bound):
        return (logits > bound).sum(-1, dtype=torch.int16).sum(-1, dtype=torch.int32)

    return pixels_above(offset) / pixels_above(-offset)


def bounding_boxes(masks):
    """First and last column and row of every mask as x, y, x, y; zeros for an empty one."""

    def ends(occupied):
        occupied = occupied.int()
        return occupied.argmax(1), occupied.shape[1] - 1 - occupied.flip(1).argmax(1)

    (left, right), (top, bottom) = ends(masks.any(1)), ends(masks.any(2))
    return torch.stack([left, top, right, bottom], dim=1) * masks.flatten(1).any(1)[:, None]


def cut_by_crop(boxes, crop, size):
    """Which boxes come close to an edge of the crop that is not as close to the image's."""
    edges, image_edges = torch.tensor(crop), torch.tensor([0, 0, size[1], size[0]])
    near = (boxes - edges).abs() <= EDGE
    return (near & ~((boxes - image_edges).abs() <= EDGE)).any(1)


def run_lengths(masks):
    """The lengths of alternating runs of every mask, column by column, beginning with the pixels outside."""
    flat = masks.transpose(1, 2).flatten(1)
    changes = (flat[:, 1:] ^ flat[:, :-1]).nonzero()
    counts = changes[:, 0].bincount(minlength=len(flat)).tolist()
    runs = []
    for starts, first in zip((changes[:, 1] + 1).split(counts), flat[:, 0].tolist()):
        bounds = functional.pad(starts, (1, 0))
        bounds = functional.pad(bounds, (0, 1), value=flat.shape[1])
        runs.append([0] * first + bounds.diff().tolist())
    return runs


def suppress(found, scores, threshold):
    """NMS of the boxes: those that stay, by falling score."""
    return found.take(batched_nms(found.boxes.float(), scores, torch.zeros(len(found.boxes)), threshold))


class Generator:
    def __init__(self, model, settings):
        self.model, self.settings = model, settings

    def generate(self, image):
        """The masks of H×W×3 bytes, as records of runs, area, box and scores."""
        size = tuple(image.shape[:2])
        crops = crop_boxes(size, self.settings)
        found = Candidates.joined([self.masks_of_crop(image, *crop) for crop in crops])
        if len(crops) > 1:
            x0, y0, x1, y1 = found.crops.unbind(1)
            found = suppress(found, 1 / ((x1 - x0) * (y1 - y0)), self.settings.crop_nms_thresh)
        return [record(found, row) for row in range(len(found.runs))]

    def masks_of_crop(self, image, crop, layer):
        x0, y0, x1, y1 = crop
        embedding = self.model.embed(image[y0:y1, x0:x1])
        side = self.settings.points_per_side // self.settings.crop_n_points_downscale_factor**layer
        points = point_grid(side) * torch.tensor([x1 - x0, y1 - y0])
        batches = points.split(self.settings.points_per_batch)
        size = tuple(image.shape[:2])
        found = Candidates.joined([self.masks_of_batch(embedding, batch, crop, size) for batch in batches])
        return suppress(found, found.scores, self.settings.box_nms_thresh)

    def masks_of_batch(self, embedding, points, crop, size):
        """What passes the filters, in the frame of the image."""
        settings, (x0, y0, x1, y1) = self.settings, crop
        masks, scores, _ = self.model.masks_at(embedding, points)
        points = points.repeat_interleave(masks.shape[1], dim=0)
        masks, scores = masks.flatten(0, 1), scores.flatten()
        if settings.pred_iou_thresh > 0:
            keep = scores > settings.pred_iou_thresh
            masks, scores, points = masks[keep], scores[keep], points[keep]
        stability = stability_scores(masks, settings.stability_score_offset)
        if settings.stability_score_thresh > 0:
            keep = stability >= settings.stability_score_thresh
            masks, scores, points, stability = masks[keep], scores[keep], points[keep], stability[keep]
        masks = masks > 0
        origin = torch.tensor([x0, y0])
        boxes = bounding_boxes(masks) + origin.repeat(2)
        keep = ~cut_by_crop(boxes, crop, size)
        if not keep.all():
            masks, scores, points, stability, boxes = (x[keep] for x in (masks, scores, points, stability, boxes))
        masks = functional.pad(masks, (x0, size[1] - x1, y0, size[0] - y1))
        crops = torch.tensor(crop, dtype=torch.float32).expand(len(masks), 4)
        return Candidates(run_lengths(masks), boxes, scores, stability, points + origin, crops)


def record(found, row):
    """One mask as the published program describes it."""
    x0, y0, x1, y1 = found.boxes[row].tolist()
    return {
        "counts": found.runs[row],
        "area": sum(found.runs[row][1::2]),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "predicted_iou": found.scores[row].item(),
        "stability_score": found.stability[row].item(),
        "point_coords": [found.points[row].tolist()],
        "crop_box": found.crops[row].tolist(),
    }
