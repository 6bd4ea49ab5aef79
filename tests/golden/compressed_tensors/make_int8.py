"""Makes int8_activations.safetensors and w8a8.safetensors again: what compressed-tensors makes of activations and of INT8
weights. Needs compressed-tensors (0.19.0 made the files), torch and safetensors."""
import pathlib

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.utils import calculate_qparams, compute_dynamic_scales_and_zp
from safetensors.torch import save_file

here = pathlib.Path(__file__).parent
torch.manual_seed(0)


def args(**changes):
    return QuantizationArgs(**{"num_bits": 8, "type": "int", "symmetric": True, **changes})


def activations():
    x = torch.randn(9, 48)
    x[1] *= 1e4
    x[2] *= 1e-30
    x[3] = 0
    x[4] = x[4].abs() + 3  # one-sided
    x[5, 7] = 200  # an outlier
    x[6] = torch.arange(48) - 20.5  # ties, at scale 1 where the range is 255
    x[6, 0], x[6, 47] = -127.5, 127.5
    x[7] = -x[4]
    x[8, 1:] = 0
    tensors = {"x": x}
    for symmetric in (True, False):
        name = "sym" if symmetric else "asym"
        token = args(strategy="token", dynamic=True, symmetric=symmetric)
        scale, zero = compute_dynamic_scales_and_zp(x[None], token, None)
        tensors[f"token.{name}"] = fake_quantize(x[None], scale, zero, token)[0].contiguous()
        tensor = args(strategy="tensor", symmetric=symmetric)
        scale, zero = calculate_qparams(torch.tensor(-3.0), torch.tensor(5.0), tensor)
        tensors[f"tensor.{name}"] = fake_quantize(x, scale, zero, tensor).contiguous()
        tensors[f"tensor.{name}.scale"], tensors[f"tensor.{name}.zero"] = scale, zero
    save_file(tensors, here / "int8_activations.safetensors")


def weights():
    """The input's grid stands beside the weight as the library's modules hold it."""
    weight = (torch.randn(16, 40) * 0.05).to(torch.bfloat16)
    weight[3] = 0
    scheme = QuantizationScheme(targets=["Linear"], weights=args(strategy="channel"),
                                input_activations=args(strategy="tensor", symmetric=False))
    scale, zero = calculate_qparams(weight.amin(1, True), weight.amax(1, True), scheme.weights)
    input_scale, input_zero = calculate_qparams(torch.tensor(-3.0).bfloat16(), torch.tensor(5.0).bfloat16(),
                                                scheme.input_activations)
    state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero, "input_scale": input_scale,
             "input_zero_point": input_zero}
    compressor = BaseCompressor.get_value_from_registry("int-quantized")
    tensors = {f"in.{name}": tensor.clone() for name, tensor in state.items()}
    tensors |= {f"out.{name}": tensor.contiguous() for name, tensor in compressor.compress(state, scheme).items()}
    save_file(tensors, here / "w8a8.safetensors")


activations()
weights()
