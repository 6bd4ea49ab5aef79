#!/usr/bin/env python3
"""Makes a small checkpoint of an architecture that Lathe doesn't know, a state-space model with an attention layer and
fused experts: make_unknown_model.py OUT [--layers N] [--width W] [--dtype bfloat16] [--stacked]. With --stacked a layer has
linears that servers stack by their names, too. Two shards; the same arguments give the same bytes."""
import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

parser = argparse.ArgumentParser()
parser.add_argument("out", type=Path)
parser.add_argument("--layers", type=int, default=3)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--dtype", default="bfloat16")
parser.add_argument("--stacked", action="store_true")
args = parser.parse_args()

torch.manual_seed(1)
width, inner = args.width, 2 * args.width


def weight(*shape):
    return (torch.randn(shape) / shape[-1] ** 0.5).to(getattr(torch, args.dtype))


tensors = {"backbone.embeddings.weight": weight(96, width), "backbone.norm_f.weight": weight(width), "lm_head.weight": weight(96, width)}
for i in range(args.layers):
    prefix = f"backbone.layers.{i}."
    tensors |= {prefix + "norm.weight": weight(width), prefix + "mixer.A_log": torch.randn(8), prefix + "mixer.D": torch.randn(8),
                prefix + "mixer.conv1d.weight": weight(inner, 1, 4), prefix + "mixer.in_proj.weight": weight(inner + 40, width),
                prefix + "mixer.in_proj.bias": weight(inner + 40), prefix + "mixer.out_proj.weight": weight(width, inner),
                prefix + "attention.q_proj.weight": weight(width, width), prefix + "moe.gate.weight": weight(8, width)}
    if args.stacked:  # each larger than the one before it, so that no two have one range
        stacked = ["attention.k_proj", "attention.v_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.experts.0.w1", "mlp.experts.0.w3",
                   "mlp.experts.1.w1", "mlp.experts.1.w3", "mlp.down_proj"]
        tensors |= {f"{prefix}{name}.weight": weight(width, width) * (k + 2) for k, name in enumerate(stacked)}
tensors["backbone.layers.0.moe.experts.gate_up_proj"] = weight(2, width, inner)

args.out.mkdir(parents=True)
names = sorted(tensors)
shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
for file, part in shards.items():
    save_file({name: tensors[name] for name in part}, args.out / file, metadata={"format": "pt"})
index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": {n: f for f, part in shards.items() for n in part}}
(args.out / "model.safetensors.index.json").write_text(json.dumps(index))
(args.out / "config.json").write_text(json.dumps({"architectures": ["ZebraForCausalLM"], "model_type": "zebra2", "torch_dtype": args.dtype}))
(args.out / "tokenizer.json").write_text("{}")
