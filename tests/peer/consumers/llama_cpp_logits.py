"""GGUF files in llama.cpp, through llama-cpp-python, on the CPU.

    llama_cpp_logits.py LOGITS_PROGRAM ENCODE_PROGRAM FILE...

Of each file: llama.cpp loads it, its tokenizer gives the ids of Lathe's for the same texts, and the logits equal those of Lathe's
forward pass on the dequantised weights. Prints one JSON line each.

Tolerances, max |difference| / max |logit|. Lathe computes in FP32. llama.cpp does so for F32 weights (the cache is asked for in F32,
too); beside F16 and BF16 weights it rounds activations to that type (2^-11, 2^-8), beside blocks to 8 bits with a scale for 32 or
256 of them (1/254 of the largest each), whatever the weights' type. A row permutation, a norm or a rotary base that is wrong moves
logits by their own size.
"""

import ctypes
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import llama_cpp
import numpy
from our_logits import our_logits

TOLERANCES = {"F32": 2e-4, "F16": 5e-3, "BF16": 3e-2}
TOLERANCE_OF_BLOCKS = 6e-2
TEXTS = ["Once upon a time, there was a 7-year-old girl.", "  two spaces\n\n\tand a tab", "don't we'll I'VE", "na\u00efve caf\u00e9 \u4f60\u597d \U0001F680",
         "3 33 333 3333", "def f(x):\n    return x**2  # squared\n", "<|endoftext|>after"]


def our_ids(program, folder, text):
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch) / "text.txt"
        source.write_bytes(text.encode())
        return json.loads(subprocess.run([program, str(folder), str(source)], check=True, capture_output=True).stdout)


def their_logits(file, ids):
    model = llama_cpp.Llama(str(file), n_ctx=len(ids), n_batch=len(ids), n_threads=1, logits_all=True, verbose=False, type_k=0, type_v=0,
                            flash_attn=False, use_mmap=True)
    model.eval(ids)
    return model, numpy.array(model.scores[:len(ids)], dtype=numpy.float32)


def tolerance_of(file):
    for name, tolerance in TOLERANCES.items():
        if re.search(rf"-{name}(-\d{{5}}-of-\d{{5}})?$", pathlib.Path(file).stem):
            return tolerance
    return TOLERANCE_OF_BLOCKS


def check(file, logits, encode):
    vocabulary = llama_cpp.Llama(str(file), vocab_only=True, verbose=False).n_vocab()
    ids = [int(i) for i in numpy.random.default_rng(5).integers(3, vocabulary, 48)]
    model, theirs = their_logits(file, ids)
    ours = our_logits(logits, file, [ids])[0]
    scale = float(numpy.abs(theirs).max())
    difference = float(numpy.abs(ours - theirs).max()) / scale
    same_top = float((ours.argmax(1) == theirs.argmax(1)).mean())
    wrong = []
    for text in TEXTS:
        got = model.tokenize(text.encode(), add_bos=False, special=True)
        expected = our_ids(encode, pathlib.Path(file).parent, text)
        if got != expected:
            wrong.append((text, got, expected))
    print(json.dumps({"file": pathlib.Path(file).name, "relative_difference": difference, "same_top": same_top, "texts": len(TEXTS) - len(wrong)}),
          flush=True)
    assert numpy.isfinite(theirs).all() and difference <= tolerance_of(file), f"{file}: logits differ by {difference}"
    assert not wrong, f"{file}: other ids: {wrong}"


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    for name in sys.argv[3:]:
        check(name, sys.argv[1], sys.argv[2])
