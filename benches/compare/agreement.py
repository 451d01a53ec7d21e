"""Whether two sides of a row did the same work."""

import array
import math
import operator
import sys

import tensor_file

# Relative to the largest value; both sides compute in single precision.
OUTPUTS = 1e-3
LOSS = 1e-3
# Masks close to a threshold may fall on either side of it.
MASKS = 0.02


def check(ours, pytorch):
    """Compares what two reports tell of the work: the outputs, the number of masks and the loss.

    Raises ValueError naming what differs.
    """
    for name in ("outputs", "masks"):
        if (ours.get(name) is None) != (pytorch.get(name) is None):
            raise ValueError(f"only one of them reports {name}")
    if ours.get("outputs") is not None:
        compare_outputs(ours["outputs"], pytorch["outputs"])
    if ours.get("masks") == 0 or pytorch.get("masks") == 0:
        raise ValueError(f"masks: {ours['masks']} and {pytorch['masks']}, expected some to pass the thresholds")
    for name, allowed in (("masks", MASKS), ("loss", LOSS)):
        if ours.get(name) is not None and pytorch.get(name) is not None:
            compare_numbers(name, (ours[name], pytorch[name]), allowed)


def compare_numbers(name, pair, allowed):
    if not abs(pair[0] - pair[1]) <= allowed * max(map(abs, pair)):
        raise ValueError(f"{name}: {pair[0]} and {pair[1]}, expected a difference of at most {allowed:.1%}")


def compare_outputs(ours, pytorch):
    (shape, values), (expected_shape, expected) = read_output(ours), read_output(pytorch)
    if shape != expected_shape:
        raise ValueError(f"outputs of shape {shape} and {expected_shape}")
    largest = max(map(abs, expected))
    difference = max(map(abs, map(operator.sub, values, expected)))
    if not difference < OUTPUTS * largest:
        raise ValueError(f"outputs differ by {difference:.3g}, their largest value is {largest:.3g}")


def read_output(path):
    """The shape and the values of the tensor `output`."""
    tensors = tensor_file.read(path)
    if "output" not in tensors:
        raise ValueError(f"{path}: expected a tensor named output, got {', '.join(tensors)}")
    dtype, shape, data = tensors["output"]
    if dtype != "F32":
        raise ValueError(f"{path}: output is of type {dtype}, expected F32")
    values = array.array("f", data.tobytes())
    if sys.byteorder == "big":
        values.byteswap()
    # No comparison with NaN holds, and max() would pass one by.
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"{path}: expected values that are finite numbers")
    return shape, values
