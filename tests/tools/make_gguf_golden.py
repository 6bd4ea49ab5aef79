#!/usr/bin/env python3
"""What llama.cpp's converter writes for the embedded model, as digests: tests/golden/gguf/converted.json.

    make_gguf_golden.py F16.gguf Q8_0.gguf > tests/golden/gguf/converted.json

The files come from convert_hf_to_gguf.py (llama.cpp as vendored by llama-cpp-python 0.3.36) on data/models/lathe-tiny with
--outtype f16 and q8_0. The converter knows tokenizers by a hash of some ids, and not this one's: get_vocab_base_pre() was made
to answer "gpt-2". With one file and --digests, prints that file's digests, for comparison.
"""
import hashlib
import json
import sys

import gguf

# general.name is made out of the folder's name by the converter ("Lathe Tiny").
LEFT_OUT = {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.name"}


def digest(value):
    """Numbers and short texts as they are, lists as their length and a hash."""
    if not isinstance(value, list):
        return value
    return [len(value), hashlib.sha256(json.dumps(value).encode()).hexdigest()]


def digests(path):
    reader = gguf.GGUFReader(path)
    keys = {name: [[kind.name for kind in field.types], digest(field.contents())]
            for name, field in reader.fields.items() if name not in LEFT_OUT}
    tensors = {tensor.name: [tensor.tensor_type.name, [int(size) for size in tensor.shape], hashlib.sha256(tensor.data.tobytes()).hexdigest()]
               for tensor in reader.tensors}
    return {"keys": dict(sorted(keys.items())), "tensors": dict(sorted(tensors.items()))}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if sys.argv[2] == "--digests":
        print(json.dumps(digests(sys.argv[1])))
    else:
        print(json.dumps({"F16": digests(sys.argv[1]), "Q8_0": digests(sys.argv[2])}, indent=1))
