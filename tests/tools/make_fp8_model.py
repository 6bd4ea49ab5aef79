#!/usr/bin/env python3
"""FP8 checkpoints and what they stand for, apart from Lathe.

    make_fp8_model.py quantise MODEL OUT [--block R C] [--static] [--scales any|powers|e8m0] [--stored float32|bfloat16]
    make_fp8_model.py dequantise FP8 OUT [--dtype float32|bfloat16]

quantise: each layer's linears as `quant_method: fp8` has them, in blocks of R x C with NAME.weight_scale_inv (DeepSeek-V3, Qwen3-FP8),
else with one NAME.weight_scale for the tensor (AutoFP8), and with --static an NAME.input_scale. Scales are absmax / 448, rounded up to
a power of two by `powers` and `e8m0` (which stores F8_E8M0). Everything else is in BF16.
dequantise: the floating-point folder of a `quantise`d one, and of compressed-tensors' and modelopt's FP8: code times scale in FP32, stored
so, or in BF16 where every product is a BF16 number (else it fails); so is everything else."""
import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

LARGEST = 448.0
SCALES = ("weight_scale", "weight_scale_inv", "input_scale")


def spread(scales, rows, columns, block):
    """One scale for each weight."""
    if scales.numel() == 1:
        return scales.reshape(1, 1).expand(rows, columns)
    r, c = block or (1, columns)  # a scale a row
    return scales.repeat_interleave(r, 0)[:rows].repeat_interleave(c, 1)[:, :columns]


def absmax(weight, block):
    if block is None:
        return weight.abs().max()
    rows = torch.stack([part.abs().amax(0) for part in weight.split(block[0])])
    return torch.stack([part.amax(1) for part in rows.split(block[1], 1)], 1)


def quantise(args, tensors, config):
    block, result = args.block, {}
    for name, tensor in tensors.items():
        if not name.endswith("_proj.weight"):
            result[name] = tensor.bfloat16()
            continue
        weight, module = tensor.float(), name.removesuffix("weight")
        scales = absmax(weight, block).clamp_min(1e-12) / LARGEST
        if args.scales != "any":
            scales = torch.exp2(torch.log2(scales).ceil())
        scales = scales.to(getattr(torch, args.stored))
        codes = (weight / spread(scales.float(), *weight.shape, block)).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
        stored = scales.to(torch.float8_e8m0fnu) if args.scales == "e8m0" else scales
        result |= {name: codes, module + ("weight_scale_inv" if block else "weight_scale"): stored}
        if args.static:
            result[module + "input_scale"] = torch.tensor(8.0 / LARGEST)
    said = {"quant_method": "fp8", "activation_scheme": "static" if args.static else "dynamic"}
    if block:
        said |= {"fmt": "e4m3", "weight_block_size": block, "modules_to_not_convert": ["lm_head"]}
    return result, config | {"dtype": "bfloat16", "quantization_config": said}


def dequantise(args, tensors, config):
    said = config.pop("quantization_config", {})
    block = said.get("weight_block_size")
    for group in said.get("config_groups", {}).values():
        block = group["weights"].get("block_structure", block)
    result = {}
    for name, tensor in tensors.items():
        if any(name.endswith("." + suffix) for suffix in SCALES):
            continue
        if tensor.dtype == torch.float8_e4m3fn:
            module = name.removesuffix("weight")
            scales = next(tensors[module + suffix] for suffix in SCALES[:2] if module + suffix in tensors).float()
            tensor = tensor.float() * spread(scales, *tensor.shape, block)
        result[name] = tensor.to(getattr(torch, args.dtype))
        assert torch.equal(result[name].float(), tensor.float()), f"{name}: values that {args.dtype} can't hold"
    return result, config | {"dtype": args.dtype}


parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["quantise", "dequantise"])
parser.add_argument("model", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--block", type=int, nargs=2)
parser.add_argument("--static", action="store_true")
parser.add_argument("--scales", default="any", choices=["any", "powers", "e8m0"])
parser.add_argument("--stored", default="float32")
parser.add_argument("--dtype", default="float32")
args = parser.parse_args()

tensors = {}
for file in sorted(args.model.glob("*.safetensors")):
    tensors |= load_file(file)
config = json.loads((args.model / "config.json").read_text())
tensors, config = (quantise if args.what == "quantise" else dequantise)(args, tensors, config)
args.out.mkdir(parents=True)
for file in args.model.iterdir():
    if file.is_file() and file.suffix in (".json", ".model") and file.name.startswith(("tokenizer", "special", "generation")):
        shutil.copy(file, args.out / file.name)
save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, args.out / "model.safetensors", {"format": "pt"})
(args.out / "config.json").write_text(json.dumps(config, indent=2))
