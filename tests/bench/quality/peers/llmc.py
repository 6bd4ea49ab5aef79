"""llm-compressor on the CPU, with given token ids: llmc.py MODEL_DIR OUT_DIR --method gptq --group 64 --ids calib.npy

Runs in the environment of llmc.txt. Writes the compressed-tensors artefact that llm-compressor writes. Last line: JSON.
"""
import argparse

import measure

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("out")
parser.add_argument("--method", required=True)
parser.add_argument("--group", type=int, default=64)
parser.add_argument("--bits", type=int, default=4)
parser.add_argument("--ids", required=True)
args = parser.parse_args()

import numpy as np
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from transformers import AutoModelForCausalLM, AutoTokenizer

if not torch.cuda.is_available():
    IntermediatesCache.pin_memory = lambda self, *_, **__: None  # its AWQ pins memory, which fails without a driver


def weights(symmetric, **more):
    how = QuantizationArgs(num_bits=args.bits, type="int", symmetric=symmetric, strategy="group", group_size=args.group, **more)
    return {"config_groups": {"w": QuantizationScheme(targets=["Linear"], weights=how)}, "ignore": ["lm_head"]}


def preset(scheme):
    return {"targets": "Linear", "scheme": scheme, "ignore": ["lm_head"]}


W8A8 = preset("W8A8")
METHODS = {
    "rtn": lambda: [QuantizationModifier(**weights(True))],
    "rtn-asym": lambda: [QuantizationModifier(**weights(False))],
    "gptq": lambda: [GPTQModifier(**weights(True))],
    "gptq-asym": lambda: [GPTQModifier(**weights(False))],
    "gptq-actorder": lambda: [GPTQModifier(**weights(True, actorder="static"))],
    "gptq-actorder-asym": lambda: [GPTQModifier(**weights(False, actorder="static"))],
    "awq": lambda: [AWQModifier(), QuantizationModifier(**weights(True))],
    "awq-asym": lambda: [AWQModifier(), QuantizationModifier(**weights(False))],
    "rtn-w8a8": lambda: [QuantizationModifier(**W8A8)],
    "smoothquant-w8a8": lambda: [SmoothQuantModifier(smoothing_strength=0.8), QuantizationModifier(**W8A8)],
    "smoothquant-gptq-w8a8": lambda: [SmoothQuantModifier(smoothing_strength=0.8), GPTQModifier(**W8A8)],
}
for name, scheme in {"nvfp4a16": "NVFP4A16", "nvfp4": "NVFP4", "mxfp4a16": "MXFP4A16", "fp8-dynamic": "FP8_DYNAMIC",
                     "fp8-static": "FP8", "fp8-block": "FP8_BLOCK"}.items():
    METHODS[name] = lambda scheme=scheme: [QuantizationModifier(**preset(scheme))]
    METHODS["gptq-" + name] = lambda scheme=scheme: [GPTQModifier(**preset(scheme))]
DATA_FREE = ("rtn", "rtn-asym", "nvfp4a16", "mxfp4a16", "fp8-dynamic", "fp8-block")

model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
model.config.dtype = torch.float16
calibration = {}
if args.method not in DATA_FREE:
    ids = np.load(args.ids)
    rows = Dataset.from_dict({"input_ids": ids.tolist(), "attention_mask": np.ones_like(ids).tolist()})
    calibration = {"dataset": rows, "num_calibration_samples": len(ids), "max_seq_length": ids.shape[1],
                   "shuffle_calibration_samples": False}
with measure.span() as span:
    oneshot(model=model, recipe=METHODS[args.method](), **calibration)
model.save_pretrained(args.out, save_compressed=True)
AutoTokenizer.from_pretrained(args.model).save_pretrained(args.out)
span.report()
