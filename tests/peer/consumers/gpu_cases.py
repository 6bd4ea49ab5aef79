"""The cases of gpu_kernels.py: which kernel reads which tensors of which artefact, called as its own loader and layer call it.

An artefact of integer weights is a folder of several formats of the same codes; the reference is its gptq-v2 one, unpacked here: a
dense stream of codes along the input features, zero points as they are. That of FP8 and INT8 is the artefact itself.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable

import torch
from folder import stored_tensors

# vLLM's ScalarType.id (0.32, vllm/scalar_type.py): mantissa from bit 8, sign from 16, bias from 17, nan_repr IEEE_754 (1) from 50.
QUANT_TYPES = {(4, False): 4 << 8 | 1 << 50, (4, True): 4 << 8 | 8 << 17 | 1 << 50, (8, True): 8 << 8 | 128 << 17 | 1 << 50}
GROUP = 128  # that of every artefact here that has groups
SPLIT_K = 8  # what vLLM and AutoAWQ pass to AWQ's GEMM
HIGH_BITS = {2: 0xAAAAAAAA, 3: 0xFFFFFFFF, 4: 0x88888888, 8: 0x80808080}  # of each code in a word (3: all, they cross words)


@dataclasses.dataclass
class Linear:
    """What one linear's weights are: F64 [out, in]; magnitude is what the error of a product grows with, by default |weight|."""

    weight: torch.Tensor
    magnitude: torch.Tensor
    bits: int = 8
    symmetric: bool = True


@dataclasses.dataclass
class Case:
    """call(tensors, x, linear) -> product [rows, out], or words for `same`. tensors: those of a linear by their suffix.

    rows: how many rows of activations, each a launch that may take another kernel. damaged: which tensors are spoiled one after
    another, to see that it is noticed. activations: rounds x [rows, in] and gives (what the kernel takes, what it stands for).
    same: the kernel gives words that must be those of this folder and suffix, instead of products. rounding and step: of the bound in
    gpu_kernels.py, in parts of the sum of |x| |w| (see there) and of the product, for the type it is given in."""

    name: str
    artefact: str
    folder: str
    call: Callable
    rows: tuple = (1, 16, 64)
    damaged: tuple = ("qweight", "scales")
    library: str = ""
    activations: Callable | None = None
    same: tuple | None = None
    rounding: float = 4 * 2**-11
    step: float = 2**-11
    zeros_apart: bool = False  # the kernel computes q * scale - zero * scale, each product rounded


# Reference weights.


def unpacked(words, bits):
    """Long [codes, columns] of a dense stream of codes in Int [words, columns]."""
    stream = (words.long().unsqueeze(1) >> torch.arange(32).view(1, -1, 1)) & 1
    stream = stream.reshape(-1, bits, words.shape[1])
    return (stream << torch.arange(bits).view(1, -1, 1)).sum(1)


def by_linear(folder):
    """name -> suffix -> tensor, of what has several tensors or a qweight."""
    found = {}
    for name, tensor in stored_tensors(folder).items():
        module, suffix = name.rsplit(".", 1)
        found.setdefault(module, {})[suffix] = tensor
    return {module: tensors for module, tensors in found.items() if "qweight" in tensors or "weight_scale" in tensors}


def integer_linear(tensors, bits, symmetric, zeros_apart):
    codes = unpacked(tensors["qweight"], bits)
    zeros = unpacked(tensors["qzeros"].t(), bits).t()[: tensors["scales"].shape[0], : codes.shape[1]]
    groups = tensors["g_idx"].long() if "g_idx" in tensors else torch.arange(len(codes)) * len(zeros) // len(codes)
    scales, zeros = tensors["scales"].double()[groups], zeros[groups]
    weight = (scales * (codes - zeros)).t().contiguous()
    return Linear(weight, weight.abs() + ((scales * zeros).abs().t() if zeros_apart else 0), bits, symmetric)


def integer_linears(artefact, zeros_apart):
    settings = json.loads((artefact / "gptq-v2" / "config.json").read_text())["quantization_config"]
    return {name: integer_linear(tensors, settings["bits"], settings["sym"], zeros_apart) for name, tensors in by_linear(artefact / "gptq-v2").items()}


def plain_linears(artefact):
    """FP8 and INT8: weight [out, in] in the type it is stored in, weight_scale of the whole, of each row or of each block."""
    found = {}
    for name, tensors in by_linear(artefact).items():
        weight, scales = tensors["weight"].double(), tensors["weight_scale"].double()
        if scales.dim() == 2 and len(scales) < len(weight):
            scales = scales.repeat_interleave(GROUP, 0).repeat_interleave(GROUP, 1)
        else:
            scales = scales.reshape(-1, 1)
        found[name] = Linear(weight * scales, (weight * scales).abs())
    return found


@functools.cache
def linears_of(artefact, zeros_apart=False):
    artefact = pathlib.Path(artefact)
    return integer_linears(artefact, zeros_apart) if (artefact / "gptq-v2").exists() else plain_linears(artefact)


# Calls, as the consumers' layers make them.


def marlin(tensors, x, linear):
    """vllm, marlin_utils.apply_gptq_marlin_linear: the input is padded to the stored width, the output cut to the linear's."""
    weight = tensors["qweight"]
    padded_in, padded_out = weight.shape[0] * 16, weight.shape[1] * 2 // linear.bits
    x = ordered(tensors, x)
    x = torch.nn.functional.pad(x, (0, padded_in - x.shape[1]))
    processors = torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 1
    workspace = torch.zeros(processors, dtype=torch.int, device=x.device)
    product = torch.ops._C.marlin_gemm(
        x, None, weight, None, tensors["scales"], None, None, tensors.get("qzeros"), workspace, QUANT_TYPES[linear.bits, linear.symmetric],
        len(x), padded_out, padded_in, False, True, False)
    return product[:, : len(linear.weight)]


def machete(tensors, x, linear):
    """vllm, MacheteLinearKernel.apply_weights: zero points come times -scale; of the words the kernel knows only where they begin."""
    group = -1 if len(tensors["weight_scale"]) == 1 else GROUP
    words = tensors["weight_packed"].view(-1, len(linear.weight))
    return torch.ops._C.machete_mm(
        ordered(tensors, x), words, QUANT_TYPES[linear.bits, linear.symmetric], None, tensors["weight_scale"], tensors.get("weight_zero_point"), group,
        None, None, None)


def prepacked(tensors, x, linear):
    """vllm, MacheteLinearKernel.transform_w_q, of a gptq checkpoint."""
    columns = tensors["qweight"].t().contiguous().t()
    return torch.ops._C.machete_prepack_B(columns, torch.half, QUANT_TYPES[linear.bits, linear.symmetric], torch.half).view(len(linear.weight), -1)


def ordered(tensors, x):
    """With an order of columns the layout's codes stand sorted by group, and the kernel is given the input in that order."""
    order = tensors.get("g_idx_sort_indices")
    return x if order is None else x[:, order.long()].contiguous()


def gptq_gemm(tensors, x, linear, shuffled, plus_one):
    """vllm, csrc/quantization/gptq: use_exllama for shuffled words, use_v2_format for zero points as they are."""
    return torch.ops._C.gptq_gemm(ordered(tensors, x), tensors["qweight"], tensors["qzeros"], tensors["scales"], shuffled, not plus_one, linear.bits)


def exllama_layout(tensors, x, linear):
    return gptq_gemm(tensors, x, linear, True, linear.symmetric)


def exllama_loaded(tensors, x, linear):
    """vllm, ExllamaLinearKernel: a gptq checkpoint's words, shuffled at load."""
    words = tensors["qweight"].clone()
    torch.ops._C.gptq_shuffle(words, linear.bits)
    return gptq_gemm(dict(tensors, qweight=words), x, linear, True, True)


def exllamav2(tensors, x, linear):
    """gptqmodel, ExllamaV2Linear.ext_make_q_matrix: shuffles the words where they stand, sorts them where g_idx says so."""
    words, rows = tensors["qweight"].clone(), tensors["qweight"].shape[0] * 8
    product = torch.zeros(len(x), words.shape[1], dtype=torch.half, device=x.device)
    scratch = torch.empty(words.shape[1] * rows + 128, dtype=torch.half, device=x.device)
    order = [None, None]
    regrouped = not torch.equal(tensors["g_idx"].cpu().long(), torch.arange(rows) * tensors["scales"].shape[0] // rows)
    if regrouped:
        order = [torch.empty(rows, dtype=torch.short, device=x.device) for _ in range(2)]
    groups = tensors["g_idx"].cpu() if regrouped else None
    matrix = torch.ops.gptqmodel_exllamav2.make_q_matrix(words, *order, None, None, None, tensors["qzeros"], tensors["scales"], groups, scratch)
    torch.ops.gptqmodel_exllamav2.gemm_half_q_half(x, matrix, product, False)
    torch.cuda.synchronize()  # it points into the tensors above
    return product


def awq_gemm_vllm(tensors, x, linear):
    return torch.ops._C.awq_gemm(x, tensors["qweight"], tensors["scales"], tensors["qzeros"], SPLIT_K)


def awq_gemm(tensors, x, linear):
    """gptqmodel, AwqGEMMLinear with FP32_ACCUM."""
    return torch.ops.gptqmodel_awq.gemm_forward(x, tensors["qweight"], tensors["scales"], tensors["qzeros"], SPLIT_K, True)


def awq_gemv(tensors, x, linear):
    """gptqmodel, AwqGEMVLinear.forward."""
    arguments = x, tensors["qweight"], tensors["scales"], tensors["qzeros"], GROUP
    return torch.ops.gptqmodel_awq.gemmv2_forward(*arguments, SPLIT_K) if len(x) > 8 else torch.ops.gptqmodel_awq.gemv_forward(*arguments)


def awq_gemv_fast(tensors, x, linear):
    """gptqmodel, AwqGEMVFastLinear.forward: one token of up to seven sequences, or many tokens."""
    arguments = tensors["qweight"], tensors["scales"], tensors["qzeros"]
    if len(x) >= 8:
        return torch.ops.gptqmodel_awq.gemm_fast_forward_prefill(x, *arguments)
    out, width = linear.weight.shape
    return torch.ops.gptqmodel_awq.gemv_fast_forward_decode(x.unsqueeze(1), *arguments, len(x), out, width, GROUP).view(len(x), out)


def repacked_gptq(tensors, x, linear):
    """vllm, MarlinLinearKernel.transform_w_q."""
    out, width = linear.weight.shape
    return torch.ops._C.gptq_marlin_repack(tensors["qweight"], width, out, linear.bits, False)


def repacked_awq(tensors, x, linear):
    out, width = linear.weight.shape
    return torch.ops._C.awq_marlin_repack(tensors["qweight"], width, out, linear.bits, False)


def shuffled_gptq(tensors, x, linear):
    words = tensors["qweight"].clone()
    torch.ops._C.gptq_shuffle(words, linear.bits)
    return words


def fp8_tensor(tensors, x, linear):
    codes, scale = x
    return torch._scaled_mm(codes, tensors["weight"].t(), scale, tensors["weight_scale"].float().reshape(()), out_dtype=torch.bfloat16)


def fp8_channel(tensors, x, linear):
    codes, scale = x
    scales = tensors["weight_scale"].float().reshape(1, -1)
    return torch._scaled_mm(codes, tensors["weight"].t(), scale, scales, out_dtype=torch.bfloat16)


def fp8_block(tensors, x, linear):
    """cuBLASLt on Hopper: scales of the input column by column, those of the weight by block column, padded to fours."""
    codes, scale = x
    functional, kinds = torch.nn.functional, torch.nn.functional.ScalingType
    blocks = tensors["weight_scale"].float()
    blocks = functional.pad(blocks, (0, -blocks.shape[1] % 4)).t()
    return functional.scaled_mm(codes, tensors["weight"].t(), scale.t().contiguous().t(), kinds.BlockWise1x128, blocks, kinds.BlockWise128x128,
                                output_dtype=torch.bfloat16)


def int8_channel(tensors, x, linear):
    codes, scale = x
    products = torch._int_mm(codes, tensors["weight"].t())
    return products.double() * scale.double() * tensors["weight_scale"].double().reshape(1, -1)


def static_fp8(x, tensors):
    """Per tensor, with the artefact's input_scale."""
    scale = tensors["input_scale"].float().reshape(())
    codes = (x.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
    return (codes, scale), codes.double() * scale.double()


def token_fp8(x, tensors):
    scale = x.float().abs().amax(1, keepdim=True) / 448
    codes = (x.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
    return (codes, scale), codes.double() * scale.double()


def block_fp8(x, tensors):
    """Per token and 128 channels."""
    runs = x.float().view(len(x), -1, GROUP)
    scale = runs.abs().amax(2) / 448
    codes = (runs / scale.unsqueeze(2)).clamp(-448, 448).to(torch.float8_e4m3fn)
    return (codes.view(x.shape), scale), (codes.double() * scale.double().unsqueeze(2)).view(x.shape)


def token_int8(x, tensors):
    scale = x.float().abs().amax(1, keepdim=True) / 127
    codes = (x.float() / scale).round().clamp(-128, 127).to(torch.int8)
    return (codes, scale), codes.double() * scale.double()


def gptq_words(zeros_minus_one):
    return lambda tensors, x, linear: gptq_gemm(tensors, x, linear, False, zeros_minus_one)


VLLM, MACHETE, EXLLAMAV2, AWQ = "vllm", "machete", "exllamav2", "awq"
WITH_ZEROS = ("qweight", "scales", "qzeros")
WITH_ORDER = ("qweight", "scales", "g_idx_sort_indices")
FEW, MANY = (1, 7), (32, 64)
PLAIN = ("weight", "weight_scale")
PACKED = ("weight_packed", "weight_scale")

CASES = [
    Case("Marlin, int4", "sym4", "layouts/marlin", marlin, library=VLLM),
    Case("Marlin, int4, a scale a row", "sym4-channel", "layouts/marlin", marlin, library=VLLM),
    Case("Marlin, int4, a scale a row, padded", "sym4-padded", "layouts/marlin", marlin, library=VLLM),
    Case("Marlin, int4, regrouped columns", "sym4-regrouped", "layouts/marlin", marlin, damaged=WITH_ORDER, library=VLLM),
    Case("Marlin, int8", "sym8", "layouts/marlin", marlin, library=VLLM),
    Case("Marlin, int8, a scale a row", "sym8-channel", "layouts/marlin", marlin, library=VLLM),
    Case("Marlin, int4 with zero points", "asym4", "layouts/marlin", marlin, damaged=WITH_ZEROS, library=VLLM),
    Case("Marlin, int4 with zero points, a scale a row", "asym4-channel", "layouts/marlin", marlin, damaged=WITH_ZEROS, library=VLLM),
    Case("vLLM's repacking of gptq to Marlin, int4", "sym4", "gptq", repacked_gptq, same=("layouts/marlin", "qweight"), library=VLLM),
    Case("vLLM's repacking of gptq to Marlin, int8", "sym8", "gptq", repacked_gptq, same=("layouts/marlin", "qweight"), library=VLLM),
    Case("vLLM's repacking of awq to Marlin", "asym4", "awq", repacked_awq, same=("layouts/marlin", "qweight"), library=VLLM),
    Case("Machete, int4", "sym4", "layouts/machete", machete, damaged=PACKED, library=MACHETE),
    Case("Machete, int4, a scale a row", "sym4-channel", "layouts/machete", machete, damaged=PACKED, library=MACHETE),
    Case("Machete, int4, regrouped columns", "sym4-regrouped", "layouts/machete", machete, damaged=(*PACKED, "g_idx_sort_indices"), library=MACHETE),
    Case("Machete, int8", "sym8", "layouts/machete", machete, damaged=PACKED, library=MACHETE),
    Case("Machete, int4 with zero points", "asym4", "layouts/machete", machete, damaged=(*PACKED, "weight_zero_point"), library=MACHETE,
         zeros_apart=True),
    *(Case(f"vLLM's repacking of {folder} to Machete, {artefact}", artefact, folder, prepacked, same=("layouts/machete", "weight_packed"), library=MACHETE)
      for artefact, folder in (("sym4", "gptq"), ("sym8", "gptq"), ("asym4", "gptq-v2"))),
    Case("ExLlama (vLLM), int4", "sym4", "layouts/exllama", exllama_layout, damaged=WITH_ZEROS, library=VLLM),
    Case("ExLlama (vLLM), int4, regrouped columns", "sym4-regrouped", "layouts/exllama", exllama_layout, damaged=WITH_ORDER, library=VLLM),
    Case("ExLlama (vLLM), int8", "sym8", "layouts/exllama", exllama_layout, damaged=WITH_ZEROS, library=VLLM),
    Case("ExLlama (vLLM), int4 with zero points", "asym4", "layouts/exllama", exllama_layout, damaged=WITH_ZEROS, library=VLLM),
    Case("ExLlama (vLLM), int3 with zero points", "asym3", "layouts/exllama", exllama_layout, damaged=WITH_ZEROS, library=VLLM),
    Case("ExLlama (vLLM), int2 with zero points", "asym2", "layouts/exllama", exllama_layout, damaged=WITH_ZEROS, library=VLLM),
    *(Case(f"vLLM's shuffle of gptq, {artefact}", artefact, folder, shuffled_gptq, same=("layouts/exllama", "qweight"), library=VLLM)
      for artefact, folder in (("sym4", "gptq"), ("sym8", "gptq"), ("asym3", "gptq-v2"), ("asym2", "gptq-v2"))),
    Case("ExLlama (vLLM), int4, shuffled at load", "sym4", "gptq", exllama_loaded, damaged=WITH_ZEROS, library=VLLM),
    Case("GPTQ (vLLM), int4", "sym4", "gptq", gptq_words(True), damaged=WITH_ZEROS, library=VLLM),
    Case("GPTQ (vLLM), int8", "sym8", "gptq", gptq_words(True), damaged=WITH_ZEROS, library=VLLM),
    Case("GPTQ (vLLM), int4 with zero points, v1", "asym4", "gptq", gptq_words(True), damaged=WITH_ZEROS, library=VLLM),
    Case("GPTQ (vLLM), int4 with zero points, v2", "asym4", "gptq-v2", gptq_words(False), damaged=WITH_ZEROS, library=VLLM),
    Case("GPTQ (vLLM), int3 with zero points, v2", "asym3", "gptq-v2", gptq_words(False), damaged=WITH_ZEROS, library=VLLM),
    Case("GPTQ (vLLM), int2 with zero points, v2", "asym2", "gptq-v2", gptq_words(False), damaged=WITH_ZEROS, library=VLLM),
    Case("ExLlamaV2, int4", "sym4", "gptq-v2", exllamav2, damaged=WITH_ZEROS, library=EXLLAMAV2),
    Case("ExLlamaV2, int4 with zero points", "asym4", "gptq-v2", exllamav2, damaged=WITH_ZEROS, library=EXLLAMAV2),
    Case("ExLlamaV2, int4, regrouped columns", "sym4-regrouped", "gptq-v2", exllamav2, damaged=(*WITH_ZEROS, "g_idx"), library=EXLLAMAV2),
    Case("AWQ's GEMM (vLLM)", "asym4", "awq", awq_gemm_vllm, damaged=WITH_ZEROS, library=VLLM),
    Case("AWQ's GEMM (AutoAWQ)", "asym4", "awq", awq_gemm, damaged=WITH_ZEROS, library=AWQ),
    Case("AWQ's GEMV, format awq-gemv", "asym4", "awq-gemv", awq_gemv, FEW, WITH_ZEROS, library=AWQ),
    Case("AWQ's GEMV, layout awq-gemv-layout", "asym4", "layouts/awq-gemv-layout", awq_gemv, FEW, WITH_ZEROS, library=AWQ),
    Case("AWQ's GEMM on the GEMV's words, format awq-gemv", "asym4", "awq-gemv", awq_gemv, MANY, WITH_ZEROS, library=AWQ),
    Case("AWQ's GEMV-fast", "asym4", "layouts/awq-gemv-fast-layout", awq_gemv_fast, FEW, WITH_ZEROS, library=AWQ, zeros_apart=True),
    Case("AWQ's GEMM-fast", "asym4", "layouts/awq-gemv-fast-layout", awq_gemv_fast, MANY, WITH_ZEROS, library=AWQ, zeros_apart=True),
    Case("FP8 a tensor, modelopt (_scaled_mm)", "fp8-static/modelopt", ".", fp8_tensor, MANY, PLAIN, activations=static_fp8, step=2**-8),
    Case("FP8 a tensor, compressed-tensors (_scaled_mm)", "fp8-static/compressed-tensors", ".", fp8_tensor, MANY, PLAIN, activations=static_fp8, step=2**-8),
    Case("FP8 a channel and a token, compressed-tensors (_scaled_mm)", "fp8-dynamic", ".", fp8_channel, MANY, PLAIN, activations=token_fp8, step=2**-8),
    Case("FP8 in blocks, compressed-tensors (scaled_mm)", "fp8-block", ".", fp8_block, (64, 128), PLAIN, activations=block_fp8, step=2**-8),
    Case("INT8 a channel and a token, compressed-tensors (_int_mm)", "int8", ".", int8_channel, MANY, PLAIN, activations=token_int8,
         rounding=2**-40, step=0),
]

# What no device here multiplies with, and why.
SKIPPED = {
    "TensorRT-LLM's mixed-input GEMM": "its kernels come with CUTLASS instances of minutes each, which are not compiled here",
    "NVFP4 and MX scale tiles": "needs a Blackwell GPU (tcgen05)",
}
