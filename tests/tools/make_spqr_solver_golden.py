"""What SpQR's own code makes of a small matrix: make_spqr_solver_golden.py SPQR_FOLDER OUT.json

SPQR_FOLDER: a checkout of github.com/Vahe1994/SpQR (543d10e), whose SPQRUtil.quantize is run on the CPU (torch 2.11). Weights are
multiples of 2^-10 and the Hessian's elements integers, so that both are read back without loss. Every group of every row has
several weights of either sign: ranges reach to 0 on their own, as ours always do; "one sign" is the case that differs. A few
weights are far out. Cases without a threshold keep no outliers.
"""
import json
import pathlib
import sys

import torch

ROWS, WIDTH, GROUP = 32, 48, 16
CASES = [
    {"name": "plain"},
    {"name": "ordered", "bits": 2, "act_order": True},
    {"name": "refined", "threshold": 0.2, "act_order": True},
    {"name": "error", "threshold": 0.3, "simplified": True},
    {"name": "second level", "threshold": 0.2, "act_order": True, "second_bits": 3},
    {"name": "one sign", "positive": True},
]


def problem(generator):
    weight = torch.randn(ROWS, WIDTH, generator=generator)
    for row, column, value in ((3, 5, 6.0), (7, 20, -7.0), (20, 40, 5.0)):
        weight[row, column] = value
    mix = torch.eye(WIDTH) + 0.15 * torch.randn(WIDTH, WIDTH, generator=generator)
    x = (6 * torch.randn(200, WIDTH, generator=generator) @ mix).round()
    return (weight * 64).round() / 1024, x.t() @ x


def solved(case, weight, hessian):
    weight = weight.abs() + 0.25 if case.get("positive") else weight
    layer = torch.nn.Linear(WIDTH, ROWS, bias=False)
    layer.weight.data = weight.clone()
    util = SPQRUtil(layer)
    util.H = hessian.clone()
    second = case.get("second_bits")
    result = util.quantize(
        bits=case.get("bits", 3), groupsize=GROUP, percdamp=0.01, outlier_relative_threshold=case.get("threshold") or float("inf"),
        permutation_order="act_order" if case.get("act_order") else "identity", simplified_outliers=case.get("simplified", False),
        qq_scale_bits=second, qq_zero_bits=second, qq_groupsize=16, save_quantization=True, verbose=False)
    found = result.save_quant_dict
    kept = result.unstructured_outlier_mask.nonzero()  # columns in the order of rounding
    permuted = result.weight[:, result.perm]
    return case | {"order": result.perm.tolist(), "codes": found["quant_weights"].int().tolist(), "outliers": kept.tolist(),
                   "tau": result.unstructured_outlier_threshold if case.get("threshold") else None,
                   "values": [round(value, 6) for value in permuted.flatten().tolist()]}


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    from spqr_engine import SPQRUtil

    weight, hessian = problem(torch.Generator().manual_seed(20230605))
    signs = weight.view(ROWS, -1, GROUP).sign()
    assert (signs == 1).sum(-1).min() >= 2 and (signs == -1).sum(-1).min() >= 2
    golden = {"weight_1024": (weight * 1024).int().flatten().tolist(), "hessian": hessian.int().flatten().tolist(), "rows": ROWS, "width": WIDTH,
              "cases": [solved(case, weight, hessian) for case in CASES]}
    pathlib.Path(sys.argv[2]).write_text(json.dumps(golden, separators=(",", ":")))
