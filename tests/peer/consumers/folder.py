"""A model's folder, for the scripts here."""

import pathlib

from safetensors import safe_open


def stored_tensors(folder):
    """name -> tensor of all shards."""
    tensors = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(file, "pt") as shard:
            tensors |= {name: shard.get_tensor(name) for name in shard.keys()}
    return tensors
