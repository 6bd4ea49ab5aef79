"""Rounding to nearest in a few lines of PyTorch: plain_rounding.py MODEL_DIR OUT_DIR [--division float32|float16] [--steps 7.5]... --group 64

Symmetric, 4 bits, scales of max |w| / steps in FP16; of several the one with a group's least squared error. What small differences
between tools are worth: the type of the division w / scale where many quotients lie near a half (llm-compressor divides in the
model's type, Lathe in FP32), and the grid (AutoAWQ's steps are 7, compressed-tensors' 7.5). Writes a floating-point folder. Last
line: JSON.
"""
import argparse
import pathlib
import shutil

import measure
import torch
from safetensors.torch import load_file, save_file

parser = argparse.ArgumentParser()
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--division", choices=("float32", "float16"), default="float32")
parser.add_argument("--steps", type=float, nargs="+", default=[7.5])
parser.add_argument("--group", type=int, default=64)
parser.add_argument("--ids", help="not used: the method needs no data")
args = parser.parse_args()


def on_grid(groups, steps):
    scales = (groups.abs().amax(-1, keepdim=True) / steps).half()
    dtype = getattr(torch, args.division)
    codes = (groups.to(dtype) / scales.to(dtype)).float().round().clamp(-8, 7)
    return codes * scales.float()


def rounded(weight):
    groups = weight.float().view(weight.shape[0], -1, args.group)
    best = on_grid(groups, args.steps[0])
    for steps in args.steps[1:]:
        other = on_grid(groups, steps)
        closer = (other - groups).square().sum(-1, keepdim=True) < (best - groups).square().sum(-1, keepdim=True)
        best = torch.where(closer, other, best)
    return best.view_as(weight).to(weight.dtype)


tensors = load_file(args.model / "model.safetensors")
with measure.span() as span:
    tensors = {name: rounded(t).contiguous() if name.endswith("proj.weight") else t for name, t in tensors.items()}
args.out.mkdir(parents=True)
for file in args.model.iterdir():
    if file.is_file() and file.suffix != ".safetensors":
        shutil.copy(file, args.out)
save_file(tensors, args.out / "model.safetensors", {"format": "pt"})
span.report()
