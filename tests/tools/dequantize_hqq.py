#!/usr/bin/env python3
"""Writes the floating-point model that an hqq artefact stands for, so that transformers can score it (it loads no hqq model
that was quantised before): dequantize_hqq.py ARTEFACT OUT. Needs torch and safetensors alone; --library goes through the
hqq library's own HQQLinear instead, which has to give the same values."""
import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

FIELDS = {"8bit_u8": (1, 8), "4bit_u8": (2, 4), "2bit_u8": (4, 2), "1bit_u8": (8, 1), "3bit_32": (10, 3)}


def text(tensor):
    return bytes(tensor.tolist()).decode()


def dequantize(part):
    fields, bits = FIELDS[text(part["packing"])]
    words = part["W_q"].int()
    codes = torch.cat([(words >> (bits * (fields - 1 - k))) & (2**bits - 1) for k in range(fields)])
    out, width = part["shape"].tolist()
    group = part["group_size"].item()
    rows = group if part["axis"].item() == 0 else out * width // group
    return ((codes[:rows].float() - part["zero"].float()) * part["scale"].float()).reshape(out, width)


def by_library(part):
    from hqq.core.quantize import HQQBackend, HQQLinear
    HQQLinear.set_backend(HQQBackend.PYTORCH)
    layer = HQQLinear(None, None, compute_dtype=torch.float32, device="cpu")
    layer.load_state_dict(dict(part))
    layer.meta = {k: v.float() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for k, v in layer.meta.items()}
    layer.meta["compute_dtype"] = torch.float32
    return layer.dequantize()


parser = argparse.ArgumentParser()
parser.add_argument("artefact", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--library", action="store_true")
args = parser.parse_args()

tensors = {}
for file in sorted(args.artefact.glob("*.safetensors")):
    with safe_open(file, "pt") as f:
        tensors |= {name: f.get_tensor(name) for name in f.keys()}
for module in [name.removesuffix(".W_q") for name in tensors if name.endswith(".W_q")]:
    part = {name.removeprefix(module + "."): tensors.pop(name) for name in list(tensors)
            if name.startswith(module + ".") and name != module + ".bias"}
    weight = (by_library if args.library else dequantize)(part)
    tensors[module + ".weight"] = weight
args.out.mkdir(parents=True)
save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, args.out / "model.safetensors", {"format": "pt"})
config = json.loads((args.artefact / "config.json").read_text())
config.pop("quantization_config")
config.update(dtype="float32", torch_dtype="float32")
(args.out / "config.json").write_text(json.dumps(config, indent=2))
for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
    if (args.artefact / name).is_file():
        shutil.copy(args.artefact / name, args.out / name)
