"""What one linear costs a peer's own code: linear.py --tool llmc|gptqmodel|hqq [--solver gptq|awq] [--shape ROWSxSIZE]...
    [--tokens N] [--device cpu|cuda]

Runs in that peer's environment. The same work as `bench_algorithms --only gptq|hqq`: the solve alone, of a random weight
[rows, size] with a Hessian that is there already; llmc's AWQ as `--only awq --fold-only --only gram`: the grid search alone, 20
candidates, over tokens (2 * size unless --tokens says otherwise) whose mean magnitudes and outputs are there already. A line of
JSON a shape, with medians of wall and CPU seconds over --rounds; on a GPU one more round goes before, which is not counted.
"""
import argparse
import json
import os
import statistics

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
import measure


def shape(text):
    rows, size = text.split("x")
    return int(rows), int(size)


parser = argparse.ArgumentParser()
parser.add_argument("--tool", choices=("llmc", "gptqmodel", "hqq"), required=True)
parser.add_argument("--solver", choices=("gptq", "awq"), default="gptq", help="of llmc")
parser.add_argument("--shape", type=shape, action="append", help="default: 4096x4096")
parser.add_argument("--tokens", type=int, help="default: 2 * size")
parser.add_argument("--group", type=int, default=128)
parser.add_argument("--rounds", type=int, default=1)
parser.add_argument("--device", default="cpu")
args = parser.parse_args()

import torch

torch.set_grad_enabled(False)
torch.set_default_device(args.device)


def inputs(size):
    """[tokens, size] with correlated channels."""
    tokens = args.tokens or 2 * size
    return torch.randn(tokens, size) + torch.randn(tokens, 64) @ torch.randn(64, size) / 8


def weight(rows, size):
    return torch.randn(rows, size) / size**0.5


def llmc(rows, size):
    from compressed_tensors.quantization import QuantizationArgs
    from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
    how = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=args.group)
    x, w = inputs(size), weight(rows, size)
    hessian = x.T @ x / len(x)
    largest = w.view(rows, -1, args.group).abs().amax(-1)
    scale, zero = largest / 7.5, torch.zeros_like(largest)
    return lambda: quantize_weight(w[None].clone(), hessian[None].clone(), scale[None], zero[None], None, how)


def llmc_awq(rows, size):
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme, initialize_module_for_quantization
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.awq.mappings import ResolvedMapping
    from llmcompressor.pipelines.cache import IntermediatesCache
    how = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=args.group)
    x, norm, linear = inputs(size), torch.nn.LayerNorm(size), torch.nn.Linear(size, rows, bias=False)
    linear.weight.data = weight(rows, size)
    outputs = list(linear(x).split(2048))
    initialize_module_for_quantization(linear, QuantizationScheme(targets=["Linear"], weights=how))
    linear.quantization_enabled = False  # weights are replaced by their rounded values: its linear just multiplies
    search = AWQModifier()
    assert search.n_grid == 20 and search.duo_scaling is True
    cache = search._parent_args_cache[linear] = IntermediatesCache(None, None)
    for part in x.split(2048):
        cache.append({"input": part})
    search._smooth_activation_stats["norm"] = [x.abs().sum(0), torch.tensor(len(x))]
    mapping = ResolvedMapping("norm", norm, [linear], ["linear"], linear, "linear")
    return lambda original=linear.weight.clone(): search._compute_best_scale(mapping, outputs, {linear: original})


def gptqmodel(rows, size):
    from gptqmodel import QuantizeConfig
    from gptqmodel.quantization.gptq import GPTQ
    x, linear = inputs(size), torch.nn.Linear(size, rows, bias=False)
    linear.weight.data = weight(rows, size)
    linear.target_device = torch.device(args.device)
    task = GPTQ(linear, QuantizeConfig(bits=4, group_size=args.group, desc_act=False))
    task.quantizer.configure(perchannel=True)
    for part in x.split(2048):
        task.add_batch(part[None], None)
    task.finalize_hessian()
    return task.quantize  # frees its Hessian: one round only


def hqq(rows, size):
    from hqq.core.quantize import Quantizer
    w = weight(rows, size)
    dtype = torch.float32 if args.device == "cpu" else torch.float16  # its default on a GPU
    return lambda: Quantizer.quantize(w, nbits=4, channel_wise=True, group_size=args.group, optimize=True, axis=1,
                                      device=args.device, compute_dtype=dtype)


def wait():
    if args.device != "cpu":
        torch.cuda.synchronize()


def timed(work):
    wait()
    with measure.span() as span:
        work()
        wait()
    return span


for rows, size in args.shape or [(4096, 4096)]:
    torch.manual_seed(17)
    work = {"llmc": llmc_awq if args.solver == "awq" else llmc, "gptqmodel": gptqmodel, "hqq": hqq}[args.tool](rows, size)
    once = args.tool == "gptqmodel"
    spans = [timed(work) for _ in range(1 if once else args.rounds + (args.device != "cpu"))]
    spans = spans[-args.rounds:]
    print(json.dumps({"tool": args.tool, "tokens": args.tokens or 2 * size, "rows": rows, "size": size,
                      "seconds": statistics.median(s.wall for s in spans),
                      "cpu_seconds": statistics.median(s.cpu for s in spans)}), flush=True)
