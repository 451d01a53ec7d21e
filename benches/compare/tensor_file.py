"""The few lines of the safetensors format that the comparison needs, without a library.

A file is the header's length (8 bytes, little-endian), the header as JSON, and the tensors' bytes.
"""

import json
import struct

ITEM_SIZES = {"F32": 4, "I64": 8}


def read(path):
    """The tensors of a file as name -> (type, shape, bytes as a writable view)."""
    with open(path, "rb") as file:
        content = bytearray(file.read())
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= len(content) - 8:
        raise ValueError(f"{path}: expected a safetensors file, got {len(content)} bytes that do not begin like one")
    header = json.loads(content[8 : 8 + length])
    data = memoryview(content)[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        size = ITEM_SIZES.get(entry["dtype"])
        if size is None:
            raise ValueError(f"{path}: {name} is of type {entry['dtype']}, expected one of {', '.join(ITEM_SIZES)}")
        count = 1
        for side in entry["shape"]:
            count *= side
        if end - start != count * size or not 0 <= start <= end <= len(data):
            raise ValueError(f"{path}: {name} has bytes {start} to {end}, expected {count * size} of {len(data)}")
        tensors[name] = (entry["dtype"], entry["shape"], data[start:end])
    return tensors


def write(path, name, shape, data):
    """One float32 tensor, `data` being its bytes."""
    header = {name: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, len(data)]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.write(data)
