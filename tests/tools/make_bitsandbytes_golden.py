"""What bitsandbytes 0.50.2 stores for linears of 4 bits, and what it makes of that on a CPU: tests/golden/codebooks/bitsandbytes.safetensors.

    make_bitsandbytes_golden.py OUT

Random codes, every one of the 16 among them, under the block maxima of random weights. `values` is the library's own FP32
weight. The first is large enough for two nested blocks; blocks of the others span rows.
"""
import sys

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from safetensors.torch import save_file

torch.manual_seed(0)
result = {}
for name, kind, nested, shape in (("nested", "nf4", True, (24, 704)), ("plain", "nf4", False, (8, 40)), ("fp4", "fp4", True, (8, 40))):
    codes, state = quantize_4bit(torch.randn(shape), blocksize=64, quant_type=kind, compress_statistics=nested)
    codes = torch.randint(0, 256, codes.shape, dtype=torch.uint8)
    stored = {"weight": codes} | {f"weight.{key}": value for key, value in state.as_dict(packed=True).items()}
    result |= {f"{name}.{key}": value.contiguous() for key, value in stored.items()}
    result[f"{name}.values"] = dequantize_4bit(codes, state)
save_file(result, sys.argv[1])
