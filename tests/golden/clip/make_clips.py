"""Expected clips from an independent implementation: plain loops over the definitions in calib/stats/clip.h.

    python tests/golden/clip/make_clips.py > tests/golden/clip/clips.json

The keys "published ..." are the recipe as NVIDIA published it, written from that text and not from ours: the slides of
Migacz, "8-bit inference with TensorRT" (GTC 2017, pages 36-38), and for what they leave open (candidates that 128 does
not divide, ties, the upper edge as the clip, bin 0) the entropy calibrator of NVIDIA's pytorch-quantization. They are the bins
that modelopt 0.47's _compute_amax_entropy gives for these histograms, run once on them.

Levels of FP8 are torch's own values; the squared error is integrated piece by piece between decision boundaries.
Histograms are integer formulas that the test repeats.
"""
import json

import numpy as np
import torch

BINS = 2048


def histograms():
    k = np.arange(BINS, dtype=np.int64)
    wide = 5_000_000_000 // (5000 + k * k)  # heavy tail in every bin
    narrow = np.where(k < 700, (700 - k) ** 3 // 1000, 0)
    narrow[1500] = 7  # a few far outliers, empty bins between
    narrow[2047] = 2
    comb = np.where(k % 5 == 0, 1_000_000 // (1 + k), 0)  # empty bins everywhere
    comb[2046] = 1
    flat = np.full(BINS, 1000, dtype=np.int64)
    small = np.where(k % 97 == 3, 1, 0)  # 22 values in all
    return {"wide": wide, "narrow": narrow, "comb": comb, "flat": flat, "small": small}


def grids():
    e4m3 = torch.arange(0, 127, dtype=torch.uint8).view(torch.float8_e4m3fn).double().numpy()
    e5m2 = torch.arange(0, 124, dtype=torch.uint8).view(torch.float8_e5m2).double().numpy()
    return {"int8": np.arange(128.0), "int4": np.arange(8.0), "fp8_e4m3": e4m3, "fp8_e5m2": e5m2}


def mean_squared_error(counts, levels, candidate):
    """Width 1. Within every piece the nearest level is fixed and (x - level)^2 integrates to a cubic."""
    scaled = levels * (candidate / levels[-1])
    middles = (scaled[1:] + scaled[:-1]) / 2
    edges = np.unique(np.concatenate([np.arange(len(counts) + 1.0), middles[middles < len(counts)]]))
    left, right = edges[:-1], edges[1:]
    inside = (left + right) / 2
    level = scaled[np.searchsorted(middles, inside)]
    errors = ((right - level) ** 3 - (left - level) ** 3) / 3
    per_bin = np.bincount(np.minimum(inside.astype(int), len(counts) - 1), weights=errors, minlength=len(counts))
    return float((counts * per_bin).sum() / counts.sum())


def levels_of_bins(name, levels, candidate):
    if name.startswith("int"):
        return [k * len(levels) // candidate for k in range(candidate)]
    middles = (levels[1:] + levels[:-1]) / 2
    # (k + 0.5) / candidate * largest against the middles, without division
    return [int(np.searchsorted(middles * candidate, (k + 0.5) * levels[-1], side="right")) for k in range(candidate)]


def without_zeros(counts):
    """Bin 0 as bin 1: the calibrator's rule against the zeros of a ReLU."""
    counts = counts.copy()
    counts[0] = counts[1]
    return counts


def divergence(counts, name, levels, candidate):
    counts = without_zeros(counts)
    p = counts[:candidate].astype(float)
    p[-1] += counts[candidate:].sum()
    level = np.array(levels_of_bins(name, levels, candidate))
    occupied = p > 0
    sums = np.bincount(level, weights=counts[:candidate].astype(float), minlength=len(levels))
    sharers = np.bincount(level, weights=occupied.astype(float), minlength=len(levels))
    q = np.where(occupied, sums[level] / np.maximum(sharers[level], 1), 0)
    if q.sum() == 0 or (occupied & (q == 0)).any():
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    return float((p[occupied] * np.log(p[occupied] / q[occupied])).sum())


def worked_example():
    """The slides' own: 8 bins to 2 and back, empty bins kept."""
    q = expanded(np.array([1.0, 0, 2, 3, 5, 3, 1, 7]), 2)
    assert q.tolist() == [2, 0, 2, 2, 4, 4, 4, 4], q


def expanded(sliced, levels):
    """Candidate distribution Q: the bins merged to `levels` and each level spread over its bins that are not empty."""
    bins = len(sliced)
    level_of_bin = np.digitize(np.arange(bins), np.linspace(0, bins, levels + 1)) - 1
    q = np.zeros(bins)
    for level in range(levels):
        members = np.flatnonzero((level_of_bin == level) & (sliced != 0))
        if len(members):
            q[members] = sliced[members].sum() / len(members)
    return q


def published(counts, levels=128):
    counts = counts.astype(float)
    divergences = []
    for i in range(128, len(counts) + 1):
        p = counts[:i].copy()
        p[i - 1] += counts[i:].sum()
        q = expanded(counts[:i], levels)
        p, q = p / p.sum(), q / q.sum()
        occupied = p > 0
        with np.errstate(divide="ignore"):
            divergences.append(float((p[occupied] * np.log(p[occupied] / q[occupied])).sum()))
    best = len(divergences) - 1 - int(np.argmin(divergences[::-1]))  # the last of equals
    return {"bins": best + 128, "score": divergences[best]}


def choose(counts, score):
    used = int(np.nonzero(counts)[0][-1]) + 1
    scores = [(score(i), -i) for i in range(min(128, used), used + 1)]
    value, negative = min(scores)
    return {"bins": -negative, "score": value}


def main():
    expected = {}
    for shape, counts in histograms().items():
        for name, levels in grids().items():
            used = int(np.nonzero(counts)[0][-1]) + 1
            expected[f"{shape} {name}"] = {
                "mse": choose(counts, lambda i: mean_squared_error(counts[:used], levels, i)),
                "kl": choose(counts, lambda i: divergence(counts, name, levels, i)),
            }
    worked_example()
    for shape, counts in histograms().items():
        used = counts[: int(np.nonzero(counts)[0][-1]) + 1]
        expected[f"published {shape}"] = published(without_zeros(used))
    print(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main()
