"""A model with a head of its own: a copy of one whose head is the embedding.

    untie_head.py MODEL OUTPUT

The head's weights are the embedding's, moved by a hundredth of their size, so that nobody takes one for the other.
"""

import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

model, output = map(pathlib.Path, sys.argv[1:])
shutil.copytree(model, output)
tensors = load_file(output / "model.safetensors")
embedding = tensors["model.embed_tokens.weight"]
noise = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(0))
tensors["lm_head.weight"] = (embedding.float() * (1 + 0.01 * noise)).to(embedding.dtype)
save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
config = json.loads((output / "config.json").read_text())
config["tie_word_embeddings"] = False
(output / "config.json").write_text(json.dumps(config, indent=2) + "\n")
