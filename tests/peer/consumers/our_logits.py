"""Lathe's own forward pass, for the scripts here: tests/tools/logits.cc runs the artefact and writes FP32."""

import json
import pathlib
import subprocess
import tempfile

import numpy


def our_logits(program, model, rows):
    """numpy FP32 [rows, tokens, vocabulary] of a folder or a GGUF file; rows: token ids, as many in each."""
    with tempfile.TemporaryDirectory() as scratch:
        ids, out = pathlib.Path(scratch) / "ids.json", pathlib.Path(scratch) / "logits.f32"
        ids.write_text(json.dumps(rows))
        done = subprocess.run([program, str(model), str(ids), str(out)], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"{program}: exit code {done.returncode}")
        return numpy.frombuffer(bytearray(out.read_bytes()), dtype=numpy.float32).reshape(len(rows), len(rows[0]), -1)
