"""Cuts some of the peers' artefacts in ../shared/fixtures to what tests/golden/fixtures holds: those that no other golden stands for.

    cut_fixtures.py FIXTURES OUT

Matrices keep their first 32 output features, values that BF16 holds are stored so, and the arrays of numpy become safetensors.
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
GGML_TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4",
              "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "NVFP4", "Q1_0"]


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
    for kinds, part in ((BY_FEW_ROWS, lambda t: t[:FEW]), (SPARSE, lambda t: t[::64]), (COLUMNS, lambda t: t[:, :ROWS])):
        for name, keys in kinds.items():
            tensors = load_file(source / f"{name}.safetensors")
            kept.setdefault(name, {}).update({key: part(tensors[key]).contiguous() for key in keys})
    for entry in WHOLE:
        name, _, key = entry.partition(":")
        tensors = load_file(source / f"{name}.safetensors")
        kept.setdefault(name, {}).update({key: tensors[key]} if key else tensors)
    for name, tensors in kept.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, out / f"{name}.safetensors")


def convert(source, out):
    """What ggml makes of two rows, the pairs of a row permutation, and what a small file's tensors were."""
    (out / "gguf").mkdir(parents=True, exist_ok=True)
    blocks = np.load(source / "gguf/ggml_quants.npz")
    kept = {f"{kind}.{how}": torch.from_numpy(blocks[f"{kind}.ggml.imat.{how}"][:2].copy()) for kind in GGML_TYPES for how in ("q", "dq")}
    save_file(kept, out / "gguf/ggml_quants.safetensors")
    rows = np.load(source / "gguf/llama_qk_permute.npz")
    save_file({key: torch.from_numpy(rows[key].copy()) for key in ("x", "nh2", "nh4")}, out / "gguf/llama_qk_permute.safetensors")
    inputs = np.load(source / "gguf/tiny_llama_inputs.npz")
    save_file({key: torch.from_numpy(inputs[key].copy()) for key in ("token_embd.weight", "blk.0.attn_k.weight", "output_norm.weight")},
              out / "gguf/tiny_llama_inputs.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    cut(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    cut_others(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    convert(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
