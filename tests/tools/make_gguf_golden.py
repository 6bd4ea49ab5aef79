"""Writes tests/golden/gguf/<TYPE>.bin: values and bytes of ggml's block types, by gguf-py and ggml themselves.

Beside them quantize.bin: a matrix, importances, and the blocks that ggml makes of them (see ggml_quant_test.cc).

    python tests/tools/make_gguf_golden.py QUANTS.npz OUTPUT_FOLDER

QUANTS.npz holds, for each type, blocks that ggml's own quantiser made with and without an importance matrix
("Q4_K.ggml.imat.q", "Q4_K.ggml.ref.q") and the weights and importances they were made from. The values come from
gguf-py's dequantize of random bytes, which reach every code, scale and minimum, and of ggml's blocks.

A file is little-endian: i32 blocks, then their bytes, then FP32 values. Block types' numbers in halves are made finite.
"""
import pathlib
import sys

import gguf
import numpy as np

TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "TQ1_0",
         "TQ2_0", "MXFP4"]
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64],
          "MXFP4": []}


def random_blocks(name, size, count, rng):
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in HALVES[name]:
        blocks[:, at:at + 2] = rng.normal(size=(count, 1)).astype(np.float16).view(np.uint8)
    if name == "MXFP4":
        blocks[:, 0] = rng.integers(100, 140, count)
    if name == "TQ1_0":  # only these bytes are ever written: five digits, or four
        digits = rng.integers(0, 243, (count, 52))
        digits[:, 48:] = digits[:, 48:] // 3 * 3
        blocks[:, :52] = ((digits * 256 + 242) // 243).astype(np.uint8)
    return blocks


def main():
    source, folder = np.load(sys.argv[1]), pathlib.Path(sys.argv[2])
    rng = np.random.default_rng(7)
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        size = gguf.GGML_QUANT_SIZES[kind][1]
        made = np.concatenate([source[f"{name}.ggml.{how}.q"].reshape(-1, size)[:4] for how in ("ref", "imat")])
        blocks = np.concatenate([random_blocks(name, size, 8, rng), made])
        values = gguf.dequantize(blocks, kind).astype("<f4")
        with open(folder / f"{name}.bin", "wb") as out:
            out.write(np.int32(len(blocks)).tobytes() + blocks.tobytes() + values.tobytes())
    with open(folder / "quantize.bin", "wb") as out:
        out.write(source["W"].astype("<f4").tobytes() + source["imatrix"].astype("<f4").tobytes())
        for name in TYPES:
            kind = gguf.GGMLQuantizationType[name]
            for how in ("ref", "imat"):
                blocks = source[f"{name}.ggml.{how}.q"]
                if len(blocks) != 16:  # the ternary types' blocks were made of another matrix
                    blocks = gguf.quantize(source["W"].astype(np.float32), kind)
                out.write(blocks.astype(np.uint8).tobytes())


if __name__ == "__main__":
    main()
