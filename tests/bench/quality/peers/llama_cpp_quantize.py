"""llama.cpp's quantiser with an importance matrix: llama_cpp_quantize.py MODEL_DIR OUT_DIR --type Q4_0 --ids calib.npy | --full DIR

Runs in the environment of llama_cpp.txt. Lathe's converter makes the F16 file and measures E[x^2] on the ids, which llama.cpp's own
llama-imatrix, not in that package, would do; DIR has both from an earlier run. llama_model_quantize does the rest. Last line: JSON, of
the quantising alone.
"""
import argparse
import os
import pathlib
import subprocess
import sys

import measure

ROOT = pathlib.Path(__file__).resolve().parents[4]
sys.path.insert(0, str(ROOT / "tests/peer/consumers"))
import llama_cpp_imatrix as peer

TYPES = {"Q4_0": 2, "Q4_1": 3, "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17}  # llama.h: llama_ftype

parser = argparse.ArgumentParser()
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--type", choices=TYPES, required=True)
parser.add_argument("--group", help="not used: blocks hold 32 weights")
given = parser.add_mutually_exclusive_group(required=True)
given.add_argument("--ids")
given.add_argument("--full", type=pathlib.Path)
args = parser.parse_args()

full = args.full or args.out / "f16"
args.out.mkdir(parents=True, exist_ok=True)
if not args.full:
    subprocess.run([os.environ.get("QUANTIZE", ROOT / "build/bin/quantize"), "--recipe", "recipes/gguf.yaml", "--model", args.model,
                    "--output", full, "--calib", args.ids, "--quiet", "--overwrite", "--set", 'output.formats=["gguf:F16"]',
                    "--set", "evaluate=null"], cwd=ROOT, check=True)
source = next(file for file in full.glob("*.gguf") if file.name != "imatrix.gguf")
with measure.span() as span:
    code = peer.quantize(source, args.out / "model.gguf", TYPES[args.type], peer.importances(full / "imatrix.gguf"))
assert code == 0, f"llama_model_quantize gives {code}"
span.report()
