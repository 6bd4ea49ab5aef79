"""GPTQModel on the CPU, with given token ids: gptqmodel_library.py MODEL_DIR OUT_DIR --method gptq --group 64 --ids calib.npy

Runs in the environment of gptqmodel.txt. Its artefact goes to OUT_DIR/packed; OUT_DIR itself is the same model dequantised
(formats: GPTQ v1 with qzeros + 1, AWQ's GEMM order), so that one scorer reads every peer. Last line: JSON.
"""
import argparse
import os
import pathlib
import shutil

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # it fails to start with one on two cores
import measure

parser = argparse.ArgumentParser()
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--method", choices=("gptq", "gptq-actorder", "awq"), required=True)
parser.add_argument("--group", type=int, default=64)
parser.add_argument("--bits", type=int, default=4)
parser.add_argument("--ids", required=True)
args = parser.parse_args()

import numpy as np
import torch
from gptqmodel import GPTQModel, QuantizeConfig
from gptqmodel.quantization import config as configs
from safetensors.torch import load_file, save_file

AWQ_ORDER = [0, 4, 1, 5, 2, 6, 3, 7]  # the nibble of a word that holds column i of eight


def make_config():
    if args.method == "awq":
        return configs.AWQConfig(bits=args.bits, group_size=args.group)
    return QuantizeConfig(bits=args.bits, group_size=args.group, desc_act=args.method == "gptq-actorder")


def nibbles(words, dim, order=range(8)):
    """4-bit fields of int32 words, spread along dim."""
    fields = torch.stack([(words >> (4 * place)) & 15 for place in order], dim + 1)
    return fields.flatten(dim, dim + 1)


def dequantised(tensors, prefix):
    scales = tensors[prefix + "scales"].float()  # [groups, out]
    if args.method == "awq":
        codes, zeros = (nibbles(tensors[prefix + name], 1, AWQ_ORDER) for name in ("qweight", "qzeros"))
        groups = torch.arange(codes.shape[0]) // args.group
    else:
        codes, zeros = nibbles(tensors[prefix + "qweight"], 0), nibbles(tensors[prefix + "qzeros"], 1) + 1
        groups = tensors[prefix + "g_idx"].long()
    return ((codes - zeros[groups]) * scales[groups]).T.contiguous()


def write_dense(packed, out):
    tensors = {}
    for shard in sorted(packed.glob("*.safetensors")):
        tensors.update(load_file(shard))
    original = {}
    for shard in sorted(args.model.glob("*.safetensors")):
        original.update(load_file(shard))
    dense = {}
    for name, value in original.items():
        prefix = name.removesuffix("weight")
        if prefix + "qweight" in tensors:
            dense[name] = dequantised(tensors, prefix)
        else:
            dense[name] = tensors.get(name, value).float()
    for path in args.model.iterdir():
        if path.suffix != ".safetensors" and path.is_file():
            shutil.copy(path, out)
    save_file(dense, out / "model.safetensors", metadata={"format": "pt"})


config = make_config()
if hasattr(config, "device"):
    config.device = "cpu"
model = GPTQModel.load(str(args.model), config)
rows = [{"input_ids": row.tolist(), "attention_mask": [1] * len(row)} for row in np.load(args.ids)]
with measure.span() as span:
    model.quantize(rows, batch_size=4)
model.save(str(args.out / "packed"))
write_dense(args.out / "packed", args.out)
span.report()
