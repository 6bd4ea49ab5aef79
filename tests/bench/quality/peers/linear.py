"""What one linear costs a peer's own code: linear.py --tool llmc|gptqmodel|hqq [--size 4096] [--group 128] [--rounds 1]

Runs in that peer's environment. The same work as `bench_algorithms --only gptq|hqq`: the solve alone, of a random weight
with a Hessian that is there already. Last line: JSON with medians of wall and CPU seconds.
"""
import argparse
import json
import os
import statistics

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
import measure

parser = argparse.ArgumentParser()
parser.add_argument("--tool", choices=("llmc", "gptqmodel", "hqq"), required=True)
parser.add_argument("--size", type=int, default=4096)
parser.add_argument("--group", type=int, default=128)
parser.add_argument("--rounds", type=int, default=1)
args = parser.parse_args()

import torch

torch.manual_seed(17)
torch.set_grad_enabled(False)


def inputs():
    """[tokens, size] with correlated channels."""
    return torch.randn(2 * args.size, args.size) + torch.randn(2 * args.size, 64) @ torch.randn(64, args.size) / 8


def weight():
    return torch.randn(args.size, args.size) / args.size**0.5


def llmc():
    from compressed_tensors.quantization import QuantizationArgs
    from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
    how = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=args.group)
    x, w = inputs(), weight()
    hessian = x.T @ x / len(x)
    largest = w.view(args.size, -1, args.group).abs().amax(-1)
    scale, zero = largest / 7.5, torch.zeros_like(largest)
    return lambda: quantize_weight(w[None].clone(), hessian[None].clone(), scale[None], zero[None], None, how)


def gptqmodel():
    from gptqmodel import QuantizeConfig
    from gptqmodel.quantization.gptq import GPTQ
    x, linear = inputs(), torch.nn.Linear(args.size, args.size, bias=False)
    linear.weight.data = weight()
    linear.target_device = torch.device("cpu")
    task = GPTQ(linear, QuantizeConfig(bits=4, group_size=args.group, desc_act=False))
    task.quantizer.configure(perchannel=True)
    for rows in x.split(2048):
        task.add_batch(rows[None], None)
    task.finalize_hessian()
    return task.quantize  # frees its Hessian: one round only


def hqq():
    from hqq.core.quantize import Quantizer
    w = weight()
    return lambda: Quantizer.quantize(w, nbits=4, channel_wise=True, group_size=args.group, optimize=True, axis=1,
                                      device="cpu", compute_dtype=torch.float32)


work = {"llmc": llmc, "gptqmodel": gptqmodel, "hqq": hqq}[args.tool]()
spans = []
for _ in range(1 if args.tool == "gptqmodel" else args.rounds):
    with measure.span() as span:
        work()
    spans.append(span)
print(json.dumps({"tool": args.tool, "seconds": statistics.median(s.wall for s in spans),
                  "cpu_seconds": statistics.median(s.cpu for s in spans)}), flush=True)
