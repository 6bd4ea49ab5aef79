"""What spqr_quant's own packer makes of codes, scales, zeros and outliers: tests/golden/spqr.

    make_spqr_golden.py SPQR_QUANT_FOLDER OUT

SPQR_QUANT_FOLDER holds the unpacked wheel of spqr_quant 0.2.0 (pip download spqr_quant==0.2.0 --no-deps; unzip).
"""
import pathlib
import sys

import torch
from safetensors.torch import save_file
from spqr_host import host_part

def case(rows, cols, density, generator):
    """Random numbers in the shapes of the algorithm's result; columns in the permuted order."""
    def integers(*shape):
        return torch.randint(0, 8, shape, generator=generator, dtype=torch.int8)

    def halves(*shape):
        return (torch.rand(*shape, generator=generator) * 0.02 + 0.001).half()

    groups, tiles = cols // 16, rows // 16
    kept = torch.rand(rows, cols, generator=generator) < density
    values = torch.where(kept, torch.randn(rows, cols, generator=generator), torch.zeros(1)).half()
    return {
        "codes": integers(rows, cols), "scale_codes": integers(rows, groups), "zero_codes": integers(rows, groups),
        "scale_scales": halves(tiles, groups), "scale_zeros": -halves(tiles, groups) * 300,
        "zero_scales": halves(tiles, groups) * 30, "zero_zeros": -halves(tiles, groups) * 100,
        "outliers": values, "order": torch.randperm(cols, generator=generator),
    }


def packed(case, module):
    rows, cols = case["codes"].shape
    def by_group(tensor):  # the algorithm appends group after group
        return tensor.t().contiguous().flatten()

    sparse = case["outliers"].to_sparse_csr()
    legacy = module.SPQRLegacy(
        m=rows, n=cols, bits=3, W=case["codes"].flatten(), beta1=16, beta2=16, W_s=by_group(case["scale_codes"]),
        W_z=by_group(case["zero_codes"]), W_s_s=by_group(case["scale_scales"]), W_s_z=by_group(case["scale_zeros"]),
        W_z_s=by_group(case["zero_scales"]), W_z_z=by_group(case["zero_zeros"]),
        row_offsets=sparse.crow_indices().int(), col_ids=sparse.col_indices().short(), values=sparse.values(),
        in_perm=case["order"])
    arguments = module.ModelArgs(3, 16, 16, module.SparseStorageConfiguration.CSR)
    linear = module.QuantizedLinear.from_legacy(legacy, arguments, "cpu")
    names = ["dense_weights", "row_offsets", "col_vals", "in_perm"]
    result = {f"out.{name}": getattr(linear, name).data.clone() for name in names}
    result["dequant"] = linear.dequantize()
    return result


if __name__ == "__main__":
    folder, out = sys.argv[1:]
    sys.path.insert(0, folder)
    inference = host_part()
    generator = torch.Generator().manual_seed(17)
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    for name, shape in {"r32_c48": (32, 48, 0.02), "r16_c64_no_outliers": (16, 64, 0.0)}.items():
        inputs = case(*shape, generator)
        tensors = {f"in.{key}": value for key, value in inputs.items()} | packed(inputs, inference)
        if tensors["out.col_vals"].numel() == 0:  # the library makes them floats
            tensors["out.col_vals"] = tensors["out.col_vals"].int()
        save_file({key: value.contiguous() for key, value in tensors.items()}, f"{out}/{name}.safetensors")
