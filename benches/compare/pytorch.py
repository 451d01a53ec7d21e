"""The PyTorch worker of the comparison: `pytorch.py WORK DIR` times one row and prints one line of JSON."""

import json
import resource
import sys
import time
from pathlib import Path

import torch
import torchvision

import sam
import tensor_file
from cores import available_cores
from generator import Generator, Settings

SIDE = 1024
TYPES = {"F32": torch.float32, "I64": torch.int64}


def read_tensors(path):
    """A safetensors file as a state dict."""
    tensors = {}
    for name, (dtype, shape, data) in tensor_file.read(path).items():
        flat = torch.frombuffer(data, dtype=TYPES[dtype]) if len(data) else torch.empty(0, dtype=TYPES[dtype])
        tensors[name] = flat.reshape(shape)
    return tensors


def read_image(folder):
    """The photograph as H×W×3 bytes."""
    pixels = bytearray((folder / "image.rgb").read_bytes())
    return torch.frombuffer(pixels, dtype=torch.uint8).reshape(SIDE, SIDE, 3)


def read_weights(folder):
    # MobileSAM's file has the classifier of TinyViT's pre-training, too, which plays no part.
    classifier = ("image_encoder.norm_head.", "image_encoder.head.")
    weights = read_tensors(folder / "weights.safetensors")
    return {name: tensor for name, tensor in weights.items() if not name.startswith(classifier)}


def with_weights(model, weights):
    """`model` in inference mode."""
    model.load_state_dict(weights, strict=True)
    return model.eval()


def timed(work):
    """What the warm-up gives, and the milliseconds of every repetition: at least 3, for at least 5 seconds."""
    result = work()
    times, begin = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < 5:
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return result, times


def photograph(model, folder):
    """A network of Segment Anything with its weights, and the photograph."""
    return with_weights(model, read_weights(folder)), read_image(folder)


def encode(model, folder):
    model, image = photograph(model, folder)
    with torch.inference_mode():
        embedding, times = timed(lambda: model.embed(image))
    return {"ms": times, "output": embedding.features}


def decode_64(folder):
    model, image = photograph(sam.vit_b(), folder)
    points = torch.tensor([[i % 8 * 128 + 60, i // 8 * 128 + 40] for i in range(64)])

    def decode():
        masks, _, low_res = model.masks_at(embedding, points)
        return masks > 0, low_res

    with torch.inference_mode():
        embedding = model.embed(image)
        (_, low_res), times = timed(decode)
    return {"ms": times, "output": low_res}


def generate_32(folder):
    model, image = photograph(sam.vit_b(), folder)
    generator = Generator(model, Settings.read(folder / "generator.json"))
    with torch.inference_mode():
        start = time.perf_counter()
        masks = generator.generate(image)
        times = [1000 * (time.perf_counter() - start)]
    return {"ms": times, "masks": len(masks)}


def resnet(folder):
    weights = read_weights(folder)
    return with_weights(torchvision.models.resnet18(weights=None, num_classes=len(weights["fc.bias"])), weights)


def resnet18_b8(folder):
    model, batch = resnet(folder), read_tensors(folder / "batch.safetensors")
    with torch.inference_mode():
        logits, times = timed(lambda: model(batch["pixels"]))
    return {"ms": times, "output": logits}


def resnet18_train_b32(folder):
    model, batch = resnet(folder).train(), read_tensors(folder / "batch.safetensors")
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch["pixels"]), batch["labels"])
        loss.backward()
        optimiser.step()
        return loss.item()

    loss, times = timed(step)
    return {"ms": times, "loss": loss}


ROWS = {
    "sam_vit_b_encode": lambda folder: encode(sam.vit_b(), folder),
    "mobile_sam_encode": lambda folder: encode(sam.mobile_sam(), folder),
    "decode_64": decode_64,
    "generate_32": generate_32,
    "resnet18_b8": resnet18_b8,
    "resnet18_train_b32": resnet18_train_b32,
}


def peak_mb():
    """The largest memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: pytorch.py WORK DIR")
    work, folder = sys.argv[1], Path(sys.argv[2])
    if work not in ROWS:
        sys.exit(f"unknown work {work}, expected one of {', '.join(ROWS)}")
    torch.set_num_threads(available_cores())
    report = ROWS[work](folder) | {"peak_mb": peak_mb(), "outputs": None}
    output = report.pop("output", None)
    if output is not None:
        report["outputs"] = str(folder / "pytorch.safetensors")
        tensor_file.write(report["outputs"], "output", output.shape, output.contiguous().numpy().tobytes())
    print(json.dumps(report))


if __name__ == "__main__":
    main()
