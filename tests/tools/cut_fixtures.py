"""Cuts some of the peers' artefacts in ../shared/fixtures to what tests/golden/fixtures holds: those that no other golden stands for.

    cut_fixtures.py FIXTURES OUT
    cut_fixtures.py --arrays FIXTURES OUT    # the arrays of numpy alone, whole, for the test of the complete set

Matrices keep their first 32 output features (those of kernels 64, the width of a tile), values that BF16 holds are stored so, and the
arrays of numpy become safetensors.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file

ROWS = 32
FEW = 8
# Tensors with one row an output feature, and their rows for one of them where that isn't 1.
BY_ROW = {
    "ct/preset_w4a8": {"out.weight": 1, "out.weight_scale": 1, "dequant": 1},
    "ct/preset_w4afp8": {"out.weight": 1, "out.weight_scale": 1, "dequant": 1},
    "ct/preset_mxfp6a16": {"out.weight_packed": 1, "out.weight_scale": 1, "dequant": 1},
    "modelopt/mxfp4": {"weight": 1, "weight_scale": 8, "dequant": 1},
    "modelopt/mxfp8": {"weight": 1, "weight_scale": 1},
    "awq/gemv_fast_g64": {"qweight": 0.25, "in.int_weight_OI": 1, "in.zeros_OG": 1, "in.scales_OG": 1},
}
# Likewise of their first 8, and whole.
BY_FEW_ROWS = {"misc/aqlm_2x8": ["in.codes", "codes", "scales", "dequant"], "misc/aqlm_1x16_codes": ["in.codes", "codes"]}
WHOLE = ["misc/aqlm_2x8:codebooks", "misc/vptq_pack_12", "misc/vptq_pack_12_8", "misc/qtip_trellis_K2", "misc/qtip_trellis_K3",
         "misc/qtip_trellis_K4", "misc/quipsharp_e8p:grid_packed_abs_int32", "misc/quipsharp_e8p:Qidxs",
         "misc/quipsharp_e8p:in.idx_[m,n/8]"]
# Every 64th row of tables with one for each of 65536 codes; BitNet's columns, whose rows stand far apart.
SPARSE = {"misc/quipsharp_e8p": ["full_grid_f16"], "misc/qtip_codebooks": ["1mad", "2mad", "3inst"]}
COLUMNS = {"misc/bitnet_pack": ["in.ternary", "weight"]}
BY_COLUMN = {"awq/gemv_fast_g64": ["scales", "qzeros"]}
# Columns [in, out] and words of whole tiles of 64 outputs: how many of each row are kept.
TILE = 64
BY_TILE = {
    **{f"kernel/vllm_marlin_w{bits}": {
        "in.q_KN": TILE, "gptq_qweight": TILE, "awq_qweight": TILE * bits // 32, "marlin_qweight_a80": TILE * bits // 2,
        "in.scales_g-1": TILE, "in.scales_g32": TILE, "in.scales_g128": TILE, "marlin_scales_g-1": TILE, "marlin_scales_g32": TILE,
        "marlin_scales_g128": TILE, "in.zp_GN": TILE, "awq_qzeros": TILE * bits // 32, "marlin_zp": TILE * bits // 32,
        "awq_to_marlin_zp": TILE * bits // 32} for bits in (4, 8)},
    **{f"kernel/ist_marlin_g{group}": {"B": TILE * 2, "s": TILE} for group in (128, -1)},
    "kernel/vllm_fp4_fp8_scales": {"in.fp8_KN": ROWS, "fp8_as_gptq_int32": ROWS},
    "kernel/trtllm_mixed_gemm_PORT_not_golden": {"in.q_KN_int4": TILE, "in.q_KN_int8": TILE},
}
# Of the same files: rows of outputs; the first half of a stream of bytes, outputs first; and what is small.
BY_TILE_ROWS = {f"kernel/ist_marlin_g{group}": ["in.q_NK_signed", "in.scales_NG"] for group in (128, -1)}
HALVES = {"kernel/trtllm_mixed_gemm_PORT_not_golden": [f"int{bits}_a16_sm{sm}" for bits in (4, 8) for sm in (80, 90, 100)]}
SCALES = {"kernel/vllm_fp4_fp8_scales": [f"{kind}_{shape}" for kind in ("in.sf", "swizzled") for shape in ("128x4", "128x16", "200x10", "256x32")]}


def small(tensor):
    narrow = tensor.bfloat16() if tensor.dtype == torch.float32 else tensor
    return (narrow if narrow.dtype == tensor.dtype or narrow.float().equal(tensor) else tensor).contiguous()


def cut(source, out):
    for name, rows in BY_ROW.items():
        tensors = load_file(source / f"{name}.safetensors")
        kept = {key: small(tensors[key][: int(ROWS * each)]) for key, each in rows.items()}
        kept |= {key: small(tensors[key][:, :ROWS]) for key in BY_COLUMN.get(name, [])}
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        save_file(kept, out / f"{name}.safetensors")
    cases = json.loads((source / "ct/manifest.json").read_text())["cases"]
    names = [name.removeprefix("ct/") for name in BY_ROW if name.startswith("ct/")]
    (out / "ct/manifest.json").write_text(json.dumps({"cases": {name: {key: cases[name][key] for key in ("format", "scheme")}
                                                                for name in names}}, indent=1) + "\n")


def cut_others(source, out):
    """Codes and codebooks; no tensor changes its type."""
    kept = {}
    for kinds, part in ((BY_FEW_ROWS, lambda t: t[:FEW]), (SPARSE, lambda t: t[::64]), (COLUMNS, lambda t: t[:, :ROWS]),
                        (BY_TILE_ROWS, lambda t: t[:TILE]), (HALVES, lambda t: t[: len(t) // 2]), (SCALES, lambda t: t)):
        for name, keys in kinds.items():
            tensors = load_file(source / f"{name}.safetensors")
            kept.setdefault(name, {}).update({key: part(tensors[key]).contiguous() for key in keys})
    for name, widths in BY_TILE.items():
        tensors = load_file(source / f"{name}.safetensors")
        kept.setdefault(name, {}).update({key: tensors[key][:, :width].contiguous() for key, width in widths.items()})
    for entry in WHOLE:
        name, _, key = entry.partition(":")
        tensors = load_file(source / f"{name}.safetensors")
        kept.setdefault(name, {}).update({key: tensors[key]} if key else tensors)
    for name, tensors in kept.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, out / f"{name}.safetensors")


def arrays(source, out, part):
    """Each file of numpy's as safetensors; part(name, array): what is kept of each array, or None."""
    (out / "gguf").mkdir(parents=True, exist_ok=True)
    for file in sorted((source / "gguf").glob("*.npz")):
        stored = np.load(file)
        kept = {name: part(name, stored[name]) for name in stored.files}
        save_file({name: torch.from_numpy(array.copy()) for name, array in kept.items() if array is not None},
                  out / f"gguf/{file.stem}.safetensors")


def few_rows(name, array):
    """Two rows of what ggml made, the pairs of a row permutation whole, and rows of a small file's tensors. What gguf-py made is the same
    bytes; the matrix itself and importances are in tests/golden/gguf/quantize.bin."""
    if name in ("W", "tern", "imatrix") or ".gguf_py." in name or name.startswith("row_src_"):
        return None
    return array[:2] if ".ggml." in name else array[:FEW] if array.ndim == 2 and ".weight" in name else array


def main():
    *whole, source, out = sys.argv[1:]
    source, out = pathlib.Path(source), pathlib.Path(out)
    if whole:
        if not source.is_dir():
            print(f"skipped: {source} is not there")
            return 77
        arrays(source, out, lambda _, array: array)
        return 0
    cut(source, out)
    cut_others(source, out)
    arrays(source, out, few_rows)
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1:-2] not in ([], ["--arrays"]):
        sys.exit(__doc__)
    sys.exit(main())
