"""What the hqq library makes of small groups, and how it packs: make_hqq_golden.py FOLDER (needs hqq==0.2.8.post1).

Solver (solver.json): optimize_weights_proximal_v2 in FP32 on one group at a time, so that its stop, which looks at a whole
tensor, is a group's. Layout (layout.safetensors + layout.json): HQQLinear.state_dict(encoded) for bits and axes, with what
HQQLinear.dequantize() gives. Integers (integers.safetensors + integers.json): the same of layers whose zero points are integers,
asymmetric or all 2^(bits-1), in FP16 and BF16."""
import json
import pathlib
import sys

import torch
from hqq.core.optimize import optimize_weights_proximal_v2
from hqq.core.quantize import BaseQuantizeConfig, HQQBackend, HQQLinear
from safetensors.torch import save_file

out = pathlib.Path(sys.argv[1])
torch.manual_seed(20260825)


def group(kind, length):
    values = torch.randn(length)
    if kind == "outliers":
        values[::17] *= 8  # errors that clipping makes are beyond the threshold: shrinkage acts
    if kind == "large":
        values *= 40
    if kind == "offset":
        values = values.abs() * 0.05 + 1
    if kind == "weights":
        values *= 0.02
    return values


def solve(values, bits, p, iters):
    top = 2**bits - 1
    low, high = values.min(), values.max()
    scale = (top / (high - low)).view(1, 1)
    zero = -low * scale
    options = {"lp_norm": p, "beta": 10.0, "kappa": 1.01, "iters": iters, "tol": 0.0, "early_stop": True, "scale_gridsearch": False}
    codes, scale, zero = optimize_weights_proximal_v2(values.view(1, -1), scale, zero, [0, top], axis=1, device="cpu", opt_params=options)
    mean_error = ((codes - zero) / scale - values).abs().mean()
    return {"weights": values.tolist(), "bits": bits, "lp_norm": p, "iterations": iters, "codes": codes[0].int().tolist(),
            "scale": 1 / scale.item(), "zero": zero.item(), "error": mean_error.item()}


cases = [dict(solve(group(kind, length), bits, p, 20), kind=kind)
         for kind in ("weights", "outliers", "large", "offset") for bits, length, p in ((1, 16, 0.7), (2, 32, 0.7), (3, 37, 0.5), (4, 64, 0.7), (5, 64, 1.0), (8, 128, 0.7))]
(out / "solver.json").write_text(json.dumps(cases))

HQQLinear.set_backend(HQQBackend.PYTORCH)
tensors, facts = {}, []
for bits in (8, 6, 5, 4, 3, 2, 1):
    for axis in (1, 0):
        linear = torch.nn.Linear(32, 48, bias=False)
        config = BaseQuantizeConfig(nbits=bits, group_size=16, axis=axis)
        layer = HQQLinear(linear, config, compute_dtype=torch.float16, device="cpu", del_orig=False)
        name = f"b{bits}_axis{axis}"
        layer.encoded_state_dict = True
        for key, value in layer.state_dict().items():
            tensors[f"{name}.{key}"] = value.contiguous()
        tensors[f"{name}.dequantized"] = layer.dequantize().contiguous()
        facts.append({"name": name, "bits": bits, "axis": axis})
save_file(tensors, out / "layout.safetensors")
(out / "layout.json").write_text(json.dumps(facts))

tensors, facts = {}, []
for bits, symmetric, dtype in ((8, False, torch.bfloat16), (4, False, torch.float16), (4, True, torch.float16), (3, False, torch.float16), (2, True, torch.bfloat16)):
    linear = torch.nn.Linear(32, 48, bias=False)
    layer = HQQLinear(linear, BaseQuantizeConfig(nbits=bits, group_size=16, axis=1), compute_dtype=dtype, device="cpu", del_orig=False)
    zero = layer.meta["zero"]
    layer.meta["zero"] = torch.full_like(zero, 2 ** (bits - 1)) if symmetric else zero.round().clamp(0, 2**bits - 1)
    name = f"b{bits}_{'symmetric' if symmetric else 'asymmetric'}"
    layer.encoded_state_dict = True
    for key, value in layer.state_dict().items():
        tensors[f"{name}.{key}"] = value.contiguous()
    tensors[f"{name}.dequantized"] = layer.dequantize().contiguous()
    facts.append({"name": name, "bits": bits, "symmetric": symmetric})
save_file(tensors, out / "integers.safetensors")
(out / "integers.json").write_text(json.dumps(facts))
