"""Writes tests/golden/floats/formats.json: what ml_dtypes (0.6.0) makes of every code, and of numbers around every tie.

    make_float_golden.py OUTPUT

`values`: of each code in order, null for NaN, "inf" and "-inf". `encode`: [number, code] pairs, the number exact as a hex
float: each number of the format, the middle to the next, and the FP32 neighbours of that middle, with both signs. Numbers
beyond the largest are left out: ml_dtypes does not saturate.
"""

import json
import sys

import ml_dtypes
import numpy as np

FORMATS = {
    "fp8_e4m3": (ml_dtypes.float8_e4m3fn, 8),
    "fp8_e5m2": (ml_dtypes.float8_e5m2, 8),
    "fp6_e3m2": (ml_dtypes.float6_e3m2fn, 6),
    "fp6_e2m3": (ml_dtypes.float6_e2m3fn, 6),
    "fp4_e2m1": (ml_dtypes.float4_e2m1fn, 4),
}


def mxint8():
    """MXINT8's elements, sign and magnitude: k / 64, ties to the even k. ml_dtypes has no such type; numpy rounds."""
    magnitudes = np.arange(128, dtype=np.float32) / 64
    values = np.concatenate([magnitudes, -magnitudes])
    numbers = probes(values)
    codes = np.rint(np.abs(numbers) * np.float32(64)).astype(int) + 128 * np.signbit(numbers)
    return {"values": [plain(v) for v in values], "encode": [[float(n).hex(), int(c)] for n, c in zip(numbers, codes)]}


def values_of(dtype, codes):
    return np.arange(codes, dtype=np.uint8).view(dtype).astype(np.float32)


def plain(value):
    if np.isnan(value):
        return None
    return str(value) if np.isinf(value) else float(value)


def probes(values):
    levels = np.unique(np.abs(values[np.isfinite(values)])).astype(np.float64)
    middles = ((levels[:-1] + levels[1:]) / 2).astype(np.float32)
    around = [np.nextafter(middles, np.float32(0)), middles, np.nextafter(middles, np.float32(np.inf))]
    magnitudes = np.unique(np.concatenate([levels.astype(np.float32), *around]))
    return np.concatenate([magnitudes, -magnitudes])


def main(output):
    result = {}
    for name, (dtype, bits) in FORMATS.items():
        values = values_of(dtype, 1 << bits)
        numbers = probes(values)
        codes = numbers.astype(dtype).view(np.uint8)
        result[name] = {"values": [plain(v) for v in values],
                        "encode": [[float(n).hex(), int(c)] for n, c in zip(numbers, codes)]}
    result["mxint8"] = mxint8()
    scales = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    result["e8m0"] = {"values": [plain(v) for v in scales]}
    with open(output, "w") as file:
        json.dump(result, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
