"""Neutral scorer: what a model folder is worth in transformers, in FP32, with none of Lathe's code.

    score.py REFERENCE_DIR ARTEFACT_DIR... --text FILE [--rows 16] [--ctx 1024] [--json FILE]

Perplexity, KL(reference || artefact) of the logits at every position in nats (mean, median, 99 %) and the share of
positions with the same most likely token, on the first `rows` rows of `ctx` tokens of the text (without special tokens).
"block error" is the held-out error of the layers: each block gets what the reference's block gets, and the squared
difference of what they put out is a part of the square of what the reference's block adds to its input; the mean over
the blocks. Folds within a block don't move it, so it compares methods that rescale weights with those that don't.
"own ppl", the wall time and the peak memory are what the artefact's report.json says of its own run; "own ppl" is shown
where that run measured the same number of tokens at the same ctx, and should equal the second column.
All models are held in memory together, so that no logits need be kept.
"""
import argparse
import functools
import json
import math
import pathlib

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM


def read_rows(model: pathlib.Path, text: pathlib.Path, rows: int, ctx: int) -> torch.Tensor:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    ids = tokenizer.encode(text.read_text(encoding="utf-8"), add_special_tokens=False).ids
    if len(ids) < rows * ctx:
        raise SystemExit(f"score: {text} gives {len(ids)} tokens; {rows} rows of {ctx} need {rows * ctx}")
    return torch.tensor(ids[: rows * ctx], dtype=torch.int64).reshape(rows, ctx)


def load(folder: pathlib.Path):
    """A Hugging Face folder, or one with a GGUF file, which transformers dequantises."""
    gguf = [] if (folder / "config.json").is_file() else [f.name for f in folder.glob("*.gguf") if f.name != "imatrix.gguf"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **({"gguf_file": gguf[0]} if gguf else {}))
    config = {} if gguf else json.loads((folder / "config.json").read_text())
    if any(name in config.get("quantization_config", {}).get("format", "") for name in ("nvfp4", "mxfp4", "mxfp8")):
        decode_in_fp32(model)
    return model.eval()


def decode_in_fp32(model):
    """compressed-tensors decodes FP4 to BF16, whatever type the model was asked for: two scales' product of 8 bits."""
    from compressed_tensors.compressors.nvfp4 import base
    base.unpack_fp4_from_uint8 = functools.partial(base.unpack_fp4_from_uint8, dtype=torch.float32)
    model.hf_quantizer.compressor.decompress_model(model)
    for parameter in model.parameters():
        parameter.data = parameter.data.float()


def log_probabilities(model, row: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(model(input_ids=row[None], use_cache=False).logits[0].float(), dim=-1)


class BlockCalls:
    """What each decoder block of the reference was called with in the last forward pass, and what it answered."""

    def __init__(self, model):
        self.calls = []
        for block in model.model.layers:
            block.register_forward_hook(self.keep, with_kwargs=True)

    def keep(self, block, args, kwargs, output):
        self.calls.append((args, kwargs, hidden(output)))

    def errors(self, model):
        """[blocks, 2]: squared error, and square of what the reference adds."""
        result = []
        for block, (args, kwargs, expected) in zip(model.model.layers, self.calls):
            entered = args[0] if args else kwargs["hidden_states"]
            found = hidden(block(*args, **kwargs))
            result.append([(found - expected).double().square().sum(), (expected - entered).double().square().sum()])
        return torch.tensor(result)


def hidden(output):
    return output[0] if isinstance(output, tuple) else output


def negative_log_likelihood(log_p: torch.Tensor, row: torch.Tensor) -> float:
    return -log_p[:-1].gather(-1, row[1:, None]).double().sum().item()


def own_figures(folder: pathlib.Path, rows: int, ctx: int) -> dict:
    path = folder / "report.json"
    if not path.is_file():
        return {}
    report = json.loads(path.read_text(encoding="utf-8"))
    evaluation = report["evaluation"] or {}
    same = (evaluation.get("ctx"), evaluation.get("tokens")) == (ctx, rows * (ctx - 1))
    return {"own_perplexity": evaluation["perplexity_after"] if same else None,
            "seconds": report["totals"]["seconds"], "peak_rss_bytes": report["totals"]["peak_rss_bytes"]}


@torch.no_grad()
def score(folders: list, ids: torch.Tensor) -> list:
    models = [load(folder) for folder in folders]
    losses = [0.0] * len(models)
    divergences = [[] for _ in models]
    same = [0] * len(models)
    calls, block_errors = BlockCalls(models[0]), [0.0] * len(models)
    for row in ids:
        reference = None
        calls.calls.clear()
        for i, model in enumerate(models):
            log_p = log_probabilities(model, row)
            losses[i] += negative_log_likelihood(log_p, row)
            if reference is None:
                reference = log_p
            else:
                block_errors[i] += calls.errors(model)
            divergences[i].append((reference.exp() * (reference - log_p)).sum(-1))
            same[i] += (reference.argmax(-1) == log_p.argmax(-1)).sum().item()
    predicted = ids.shape[0] * (ids.shape[1] - 1)
    results = []
    for i, folder in enumerate(folders):
        kl = torch.cat(divergences[i])
        error = None if i == 0 else (block_errors[i][:, 0] / block_errors[i][:, 1]).mean().item()
        results.append({"model": str(folder), "perplexity": math.exp(losses[i] / predicted), "kl_mean": kl.mean().item(),
                        "kl_median": kl.median().item(), "kl_p99": kl.quantile(0.99).item(),
                        "kl_rows": [row.mean().item() for row in divergences[i]],
                        "same_top": same[i] / ids.numel(), "block_error": error, **own_figures(folder, *ids.shape)})
    return results


def cell(result: dict, key: str, form: str, scale: float = 1) -> str:
    value = result.get(key)
    return "-" if value is None else format(value * scale, form)


def table(results: list) -> str:
    lines = ["| model | perplexity | mean KL | median KL | p99 KL | same top | block error | own ppl | wall s | peak MiB |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for r in results:
        cells = [pathlib.Path(r["model"]).name, cell(r, "perplexity", ".4f"), cell(r, "kl_mean", ".5f"),
                 cell(r, "kl_median", ".5f"), cell(r, "kl_p99", ".4f"), cell(r, "same_top", ".4f"),
                 cell(r, "block_error", ".5f"), cell(r, "own_perplexity", ".4f"), cell(r, "seconds", ".1f"), cell(r, "peak_rss_bytes", ".0f", 2**-20)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Score model folders with transformers in FP32")
    parser.add_argument("reference", type=pathlib.Path)
    parser.add_argument("artefacts", type=pathlib.Path, nargs="*")
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--ctx", type=int, default=1024)
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    args = parser.parse_args()
    ids = read_rows(args.reference, args.text, args.rows, args.ctx)
    results = score([args.reference, *args.artefacts], ids)
    print(table(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
