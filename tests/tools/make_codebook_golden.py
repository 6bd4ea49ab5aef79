"""What the peers' own decoders make of random codes: tests/golden/codebooks.

    make_codebook_golden.py VPTQ AQLM QTIP OUT

The three are checkouts of microsoft/VPTQ (950716d), Vahe1994/AQLM (e79a896) and Cornell-RelaxML/qtip (e90c668). Their functions
that dequantise without a GPU are taken out of the sources as they stand: vptq/ops/quant_gemm.py (dequant), aqlm's utils.py
(_dequantize_weight), qtip's lib/utils/kernel_decompress.py (decode_compressed), lib/codebook/bitshift.py (quantlut_sym) and
lib/utils/matmul_had.py (matmul_hadU, which quip-sharp has, too).
"""
import ast
import math
import pathlib
import sys
from typing import Optional

import torch
from safetensors.torch import save_file


def functions(path, names, scope):
    """The functions of a file, without its imports and decorators."""
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and (names is None or node.name in names):
            node.decorator_list = []
            exec(compile(ast.Module([node], []), str(path), "exec"), scope)
    return scope


def vptq(folder):
    scope = {"torch": torch, "math": math, "Optional": Optional}
    functions(folder / "vptq/utils/pack.py", ["pack_index", "unpack_index_tensor"], scope)
    dequant = functions(folder / "vptq/ops/quant_gemm.py", ["dequant"], scope)["dequant"]
    result = {}
    # out not a multiple of the vectors' lengths; outliers, groups, an order, a scale and a bias in the second
    for name, out, groups, size, outliers, residual, order, norm in [("plain", 20, 1, 40, 0, 0, False, False),
                                                                     ("full", 22, 2, 18, 4, 16, True, True)]:
        inputs, length, count, other = groups * size + outliers, 8, 64, 6
        vectors, extra = -(-out // length), -(-out // other)
        tensors = {"centroids.weight": torch.randn(groups, count * length).half()}
        places = torch.randint(0, count, (groups, vectors, size)).short()
        rest = torch.randint(0, residual, (groups, vectors, size)).short() if residual else None
        tensors["indices"] = scope["pack_index"](places, 6, rest, int(math.log2(residual)) if residual else 0, torch.uint16)
        if residual:
            tensors["res_centroids.weight"] = torch.randn(groups, residual * length).half() / 4
        if outliers:
            tensors["outlier_centroids.weight"] = torch.randn(1, 50 * other).half() * 3
            tensors["outlier_indices"] = torch.randint(0, 50, (1, extra, outliers)).short()
        if order:
            tensors["perm"] = torch.randperm(inputs).to(torch.uint16).view(torch.int16)
        if norm:
            tensors |= {"weight_scale": torch.rand(inputs).half() + 0.5, "weight_bias": torch.randn(inputs).half() / 8}
        single = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
        value = dequant(single["indices"], single["centroids.weight"].view(groups, count, length), single.get("outlier_indices"),
                        single.get("outlier_centroids.weight"), None, single.get("res_centroids.weight"), single.get("perm"),
                        single.get("weight_scale"), single.get("weight_bias"), True, outliers > 0, residual > 0, order, norm, count,
                        50, residual, vectors * length - out, extra * other - out, groups, size, outliers, length, other)
        result |= {f"{name}.{key}": tensor.contiguous() for key, tensor in tensors.items()} | {f"{name}.values": value.contiguous()}
    return result


def aqlm(folder):
    scope = {"torch": torch, "F": torch.nn.functional, "Optional": Optional}
    functions(folder / "inference_lib/src/aqlm/utils.py", ["get_int_dtype", "pack_int_data", "_dequantize_weight"], scope)
    codes = torch.randint(0, 64, (6, 5, 3))
    books, scales = torch.randn(3, 64, 2, 4).half(), (torch.rand(6, 1, 1, 1) + 0.5).half()
    values = scope["_dequantize_weight"](codes, books.float(), scales.float())
    return {"codes": scope["pack_int_data"](codes.clone(), 6), "codebooks": books, "scales": scales, "values": values}


def qtip(folder):
    scope = {"torch": torch}
    decode = functions(folder / "lib/utils/kernel_decompress.py", None, scope)["decode_compressed"]
    table = functions(folder / "lib/codebook/bitshift.py", ["quantlut_sym"], scope)["quantlut_sym"]
    tlut = torch.randn(512, 2).half()
    expanded = table(tlut.clone(), 16, 9)
    result = {"tlut": tlut}
    for bits in (2, 3, 4):
        trellis = torch.randint(-32768, 32768, (8, 16 * bits)).short()
        result |= {f"{bits}.trellis": trellis, f"{bits}.values": decode(16, 9, bits, 1, 32, 64, trellis.view(-1), expanded).contiguous()}
    return result


def hadamard(folder):
    scope = {"torch": torch, "utils": type("", (), {"clean": staticmethod(lambda: None)})}
    transform = functions(folder / "lib/utils/matmul_had.py", None, scope)["matmul_hadU"]
    result = {}
    for order in (1, 12, 20, 28, 36, 52, 60, 108, 116, 124, 140, 156, 172):
        rows = torch.randint(-8, 9, (1, order * 4)).float()
        result |= {f"{order}.in": rows.half(), f"{order}.out": transform(rows)}
    return result


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    peers, out = [pathlib.Path(argument) for argument in sys.argv[1:4]], pathlib.Path(sys.argv[4])
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for make, peer in ((vptq, peers[0]), (aqlm, peers[1]), (qtip, peers[2]), (hadamard, peers[2])):
        save_file(make(peer), out / f"{make.__name__}.safetensors")
