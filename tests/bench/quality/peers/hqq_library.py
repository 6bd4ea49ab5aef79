"""The hqq library on the CPU: hqq_library.py MODEL_DIR OUT_DIR --bits 4 --group 64 [--axis 1]

Runs in the environment of hqq.txt. Writes the dequantised model as a floating-point folder, because transformers 5 loads
no artefact of the library's; what it would take on disk is not measured. Last line: JSON.
"""
import argparse

import measure

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("out")
parser.add_argument("--bits", type=int, default=4)
parser.add_argument("--group", type=int, default=64)
parser.add_argument("--axis", type=int, default=1)
parser.add_argument("--ids", help="not used: the method needs no data")
args = parser.parse_args()

import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQBackend, HQQLinear
from transformers import AutoModelForCausalLM, AutoTokenizer

HQQLinear.set_backend(HQQBackend.PYTORCH)
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
linears = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and name != "lm_head"}
how = BaseQuantizeConfig(nbits=args.bits, group_size=args.group, axis=args.axis)
with measure.span() as span:
    quantised = {name: HQQLinear(m, how, compute_dtype=torch.float32, device="cpu", del_orig=False)
                 for name, m in linears.items()}
for name, linear in linears.items():
    linear.weight.data = quantised[name].dequantize().reshape(linear.weight.shape).clone()
model.save_pretrained(args.out)
AutoTokenizer.from_pretrained(args.model).save_pretrained(args.out)
span.report()
