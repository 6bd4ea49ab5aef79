"""`quantize eval` gives the perplexity of a transformers reference within 0.1 %, and the KL divergence of two models.

    python tests/peer/eval/perplexity.py QUANTIZE [MODEL_DIR TEXT]...

Each model is scored on the same rows of `ctx` tokens (the tokenizers library's ids, no special tokens added). Without
arguments after the binary: the embedded model, and stories260k where it lies beside the checkout.
"""
import json, math, pathlib, subprocess, sys
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

CTX, ROWS = 256, 6


def reference_rows(model, text):
    ids = Tokenizer.from_file(str(pathlib.Path(model) / "tokenizer.json")).encode(
        pathlib.Path(text).read_text(encoding="utf-8"), add_special_tokens=False).ids
    return torch.tensor(ids[: CTX * ROWS]).reshape(ROWS, CTX)


def log_probabilities(model, rows):
    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    with torch.no_grad():
        return torch.log_softmax(net(input_ids=rows).logits.double(), -1)


def perplexity(lp, rows):
    return math.exp(-lp[:, :-1].gather(-1, rows[:, 1:, None]).mean().item())


def ours(binary, model, text, *more):
    command = [binary, "eval", "--model", model, "--text", text, "--ctx", str(CTX), "--rows", str(ROWS), "--device", "cpu", "--json", *more]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    binary, *rest = sys.argv[1:]
    cases = list(zip(rest[::2], rest[1::2])) or [("data/models/lathe-tiny", "data/text/evaluation.txt")]
    stories = pathlib.Path("../shared/models/stories260k")
    if not rest and stories.exists():
        cases.append((str(stories), "../shared/text/tinystories.txt"))
    elif not rest:
        print("stories260k: skipped, not beside this checkout")
    smollm2 = pathlib.Path("build/models/smollm2-135m")
    if not rest and (smollm2 / "model.safetensors").exists():  # made by tests/tools/make_smollm2.py, as the README says
        cases.append((str(smollm2), "data/text/evaluation.txt"))
    failed = False
    for model, text in cases:
        rows = reference_rows(model, text)
        lp = log_probabilities(model, rows)
        want, got = perplexity(lp, rows), ours(binary, model, text)["perplexity"]
        relative = abs(got / want - 1)
        failed |= not relative <= 1e-3
        print(f"{model}: transformers {want:.6f}, lathe {got:.6f}, relative difference {relative:.2e}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
