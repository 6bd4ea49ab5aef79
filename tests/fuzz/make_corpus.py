#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/corpus that are made, not found: small whole files of every kind. Findings that became seeds stay.

    build/venv/bin/python tests/fuzz/make_corpus.py
"""
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"


def put(target, name, content):
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def safetensors(tensors, data, metadata=None):
    header = {"__metadata__": metadata} if metadata else {}
    text = json.dumps({**header, **tensors}).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class Gguf:
    """GGUF, version 3, as its specification (ggml/docs/gguf.md) says."""
    U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
    FORMS = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<B"}

    def __init__(self):
        self.keys, self.tensors = [], []

    def value(self, kind, value):
        if kind == self.STRING:
            raw = value.encode()
            return struct.pack("<Q", len(raw)) + raw
        return struct.pack(self.FORMS[kind], value)

    def key(self, name, kind, value):
        self.keys.append(self.value(self.STRING, name) + struct.pack("<I", kind) + self.value(kind, value))

    def array(self, name, kind, values):
        body = struct.pack("<IQ", kind, len(values)) + b"".join(self.value(kind, v) for v in values)
        self.keys.append(self.value(self.STRING, name) + struct.pack("<I", self.ARRAY) + body)

    def tensor(self, name, shape, kind, data):
        self.tensors.append((name, shape, kind, data))

    def file(self):
        header = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys)) + b"".join(self.keys)
        data = b""
        for name, shape, kind, content in self.tensors:
            header += self.value(self.STRING, name) + struct.pack("<I", len(shape))
            header += b"".join(struct.pack("<Q", n) for n in reversed(shape)) + struct.pack("<IQ", kind, len(data))
            data += content + bytes(-len(content) % 32)
        return header + bytes(-len(header) % 32) + data


def small_llama(model, **more):
    gguf = Gguf()
    gguf.key("general.architecture", Gguf.STRING, "llama")
    for name, value in {"embedding_length": 8, "attention.head_count": 2, "attention.head_count_kv": 1, "block_count": 1,
                        "feed_forward_length": 16, "context_length": 64, "rope.dimension_count": 4}.items():
        gguf.key("llama." + name, Gguf.U32, value)
    gguf.key("llama.attention.layer_norm_rms_epsilon", Gguf.F32, 1e-5)
    gguf.key("llama.rope.freq_base", Gguf.F32, 10000.0)
    for name, value in more.items():
        gguf.key("llama." + name.replace("__", "."), Gguf.F32 if isinstance(value, float) else
                 Gguf.STRING if isinstance(value, str) else Gguf.U32, value)
    tokens = ["<unk>", "<s>", "</s>", "a", "b", "ab", "\u2581", "<0x0A>"] if model == "llama" else ["a", "b", "ab", "\u0120", "<|end|>"]
    gguf.key("tokenizer.ggml.model", Gguf.STRING, model)
    if model == "gpt2":
        gguf.key("tokenizer.ggml.pre", Gguf.STRING, "llama-bpe")
        gguf.array("tokenizer.ggml.merges", Gguf.STRING, ["a b"])
    else:
        gguf.array("tokenizer.ggml.scores", Gguf.F32, [0.0, 0.0, 0.0, -1.0, -2.0, -0.5, -3.0, 0.0])
    gguf.array("tokenizer.ggml.tokens", Gguf.STRING, tokens)
    gguf.array("tokenizer.ggml.token_type", Gguf.I32, [2, 3, 3, 1, 1, 1, 1, 6] if model == "llama" else [1, 1, 1, 1, 3])
    gguf.key("tokenizer.ggml.bos_token_id", Gguf.U32, 1)
    gguf.key("tokenizer.ggml.eos_token_id", Gguf.U32, 2)
    gguf.key("tokenizer.ggml.add_bos_token", Gguf.BOOL, 1)
    gguf.key("tokenizer.chat_template", Gguf.STRING, "{{ messages[0].content }}")
    gguf.tensor("token_embd.weight", [len(tokens), 8], 0, bytes(len(tokens) * 32))
    gguf.tensor("output_norm.weight", [8], 0, bytes(32))
    return gguf


def tokenizer(**parts):
    vocab = {"<unk>": 0, "<s>": 1, "a": 2, "b": 3, "ab": 4, "\u0120": 5, "\u00c3": 6, "\u2581": 7, "<0x0A>": 8, "c": 9}
    model = {"type": "BPE", "vocab": vocab, "merges": ["a b"], "unk_token": "<unk>", **parts.pop("model", {})}
    return json.dumps({"version": "1.0", "model": model, **parts})


def main():
    put("safetensors_header", "two", safetensors({"a": entry("F16", [2, 3], 0, 12), "b": entry("I32", [], 12, 16)}, bytes(16), {"format": "pt"}))
    put("safetensors_header", "empty_tensor", safetensors({"a.weight": entry("BF16", [0, 7], 0, 0), "c": entry("F8_E4M3", [2], 0, 2)}, bytes(2)))
    put("safetensors_header", "none", safetensors({}, b""))
    put("safetensors_header", "escapes", safetensors({"\u00e9\t": entry("U8", [1], 0, 1)}, b"x"))

    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    put("index", "whole", json.dumps({"metadata": {"total_size": 4}, "weight_map": {"a": shards[0], "b": shards[1]}}))
    put("index", "swapped", json.dumps({"weight_map": {"a": shards[1], "b": shards[0]}}))
    put("index", "outside", json.dumps({"weight_map": {"a": "../" + shards[0], "b": "/" + shards[1]}}))

    put("gguf", "llama", small_llama("llama", rope__scaling__type="linear", rope__scaling__factor=2.0).file())
    put("gguf", "gpt2", small_llama("gpt2").file())
    importances = Gguf()
    importances.key("general.type", Gguf.STRING, "imatrix")
    importances.array("imatrix.datasets", Gguf.STRING, ["a.txt"])
    importances.key("imatrix.chunk_count", Gguf.U32, 2)
    importances.tensor("blk.0.attn_q.weight.in_sum2", [1, 4], 0, struct.pack("<4f", 1, 2, 3, 4))
    importances.tensor("blk.0.attn_q.weight.counts", [1, 1], 0, struct.pack("<f", 8))
    put("gguf", "imatrix", importances.file())
    blocks = small_llama("gpt2")
    blocks.tensor("blk.0.attn_q.weight", [1, 32], 2, bytes(18))
    for name, value in {"split.no": 0, "split.count": 1, "split.tensors.count": 3}.items():
        blocks.key(name, Gguf.I32, value)
    put("gguf", "part", blocks.file())

    added = [{"id": 1, "content": "<s>", "special": True, "lstrip": False, "rstrip": True, "single_word": False, "normalized": False}]
    put("tokenizer", "byte_level", tokenizer(
        added_tokens=added, normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}, {"type": "Prepend", "prepend": "\u2581"}]},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                        "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}))
    put("tokenizer", "byte_fallback", tokenizer(
        added_tokens=added, model={"byte_fallback": True, "fuse_unk": True, "ignore_merges": False, "dropout": None},
        normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}, pre_tokenizer=None))
    put("tokenizer", "digits", tokenizer(
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"},
                                                             {"type": "Punctuation", "behavior": "MergedWithNext"}]},
        normalizer={"type": "Strip", "strip_left": True, "strip_right": False}, model={"merges": [["a", "b"]]}))

    put("jsonl", "text", '{"text": "one"}\n{"text": null}\n\n{"text": "t\\u00e9xt"}\n')
    put("jsonl", "messages", '\ufeff{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}, {"role": "assistant", "content": null}], "tools": "[{}]"}\n')
    put("jsonl", "ids", '{"input_ids": [1, 2, 3], "attention_mask": [1, true, 0]}\n[4, 5]\n')

    def npy(header, data):
        text = header.encode()
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data
    put("ids", "one_row", npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }\n", struct.pack("<2q", 1, 2)))
    put("ids", "two_rows", npy("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2), }\n", struct.pack("<4i", 1, 2, 3, 4)))
    put("ids", "padded", safetensors({"input_ids": entry("I64", [2, 2], 0, 32), "lengths": entry("I64", [2], 32, 48), "token_weights": entry("F32", [2, 2], 48, 64)},
                                     struct.pack("<4q2q4f", 1, 2, 3, 4, 2, 1, 1, 1, 0.5, 1)))
    put("ids", "masked", safetensors({"input_ids": entry("I32", [1, 2], 0, 8), "attention_mask": entry("U8", [1, 2], 8, 10)}, struct.pack("<2i2B", 1, 2, 1, 0)))

    put("chat_template", "chatml", "{%- if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% endif -%}\n"
        "{% for message in messages %}{{ '<|im_start|>' ~ message.role + '\\n' + message['content'] + '<|im_end|>' }}{% if loop.last %}{{ eos_token }}{% endif %}{% endfor %}")
    put("chat_template", "macro", "{% macro show(x, n=2) %}{% for i in range(n) %}{{ x[i:] | upper | replace('A', 'b') }}{% endfor %}{% endmacro %}{% set ns = namespace(a=0) %}"
        "{% for m in messages if m.role != 'tool' %}{% set ns.a = ns.a + 1 %}{{ show(m.content) }}{{ m | tojson(indent=2) }}{% endfor %}{{ ns.a if ns.a is defined else none }}")
    put("chat_template", "with_messages", "{% for m in messages %}{{ m.content[0].text if m.content is not string else m.content }}{{ raise_exception('no') if m.role == 'x' }}{% endfor %}\0"
        '[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]')

    # formats/targets/kv_cache_file.h; the model's mark is lib/base/hash.h's of 16 ones in FP32.
    about = {"format": "lathe-kv-cache", "version": "1", "layers": "1", "kv_heads": "1", "head_dim": "16",
             "model": "xxh3-128:9af1b608743b8a018e3a9766b3fb07c8"}
    kivi = {"type": "kivi", "bits": 2, "value_bits": 2, "group_size": 16, "window": 16}
    put("kv_cache", "kivi", safetensors({}, b"", {**about, "scheme": json.dumps(kivi)}))
    lower, upper = struct.pack("<16f", *[-1.0] * 16), struct.pack("<16f", *[1.0] * 16)
    levels = struct.pack("<4f", -1, -0.5, 0.5, 1)
    kvquant = {"type": "kvquant", "bits": 2, "value_bits": 2, "outliers": 0.01, "sink": 1, "q_norm": False}
    put("kv_cache", "kvquant", safetensors(
        {"b.a.key_lower": entry("F32", [16], 0, 64), "b.a.key_upper": entry("F32", [16], 64, 128),
         "b.a.key_levels": entry("F32", [4], 128, 144), "b.a.value_levels": entry("F32", [4], 144, 160)},
        lower + upper + levels + levels, {**about, "scheme": json.dumps(kvquant)}))
    skvq = {"type": "skvq", "bits": 2, "value_bits": 2, "group_size": 8, "window": 16, "sink": 0, "fp8_scales": False}
    order, begins, clip = struct.pack("<16i", *range(16)), struct.pack("<3i", 0, 8, 16), struct.pack("<2f", 1, 0.8)
    put("kv_cache", "skvq", safetensors(
        {f"b.a.{side}_{name}": entry(kind, [count], at + begin, at + begin + 4 * count)
         for side, at in (("key", 0), ("value", 84))
         for name, kind, count, begin in (("order", "I32", 16, 0), ("begins", "I32", 3, 64), ("clip", "F32", 2, 76))},
        2 * (order + begins + clip), {**about, "scheme": json.dumps(skvq)}))

    # formats/targets/fp8_reader.h; the model is tests/fuzz/fp8.cc's.
    module, codes = "model.layers.0.self_attn.q_proj", bytes(range(64))
    weight = entry("F8_E4M3", [8, 8], 0, 64)
    for name, config, scale, data in (
            ("blocks", {"weight_block_size": [4, 8], "fmt": "e4m3"}, {"weight_scale_inv": entry("F32", [2, 1], 64, 72)}, struct.pack("<2f", 0.5, 2)),
            ("powers", {"weight_block_size": [8, 4], "scale_fmt": "ue8m0"}, {"weight_scale_inv": entry("F8_E8M0", [1, 2], 64, 66)}, bytes([120, 130])),
            ("tensor", {"ignored_layers": ["lm_head"]}, {"weight_scale": entry("BF16", [1], 64, 66)}, b"\x80\x3f"),
            ("static", {"activation_scheme": "static"}, {"weight_scale": entry("F32", [], 64, 68), "input_scale": entry("F32", [1], 68, 72)}, struct.pack("<2f", 0.5, 2))):
        method = {"quant_method": "fp8", "activation_scheme": "dynamic", **config}
        put("fp8", name, json.dumps(method).encode() + b"\0" +
            safetensors({f"{module}.weight": weight, **{f"{module}.{key}": value for key, value in scale.items()}}, codes + data))

    put("recipe", "awq", "model: m\noutput: {path: out, formats: [compressed-tensors, gguf:Q4_0], shard_size: 5GB}\n"
        "calibration: {data: [{path: a.parquet, weight: 3}], samples: 8, seq_len: 64, seed: 0, experts: {min_tokens: 2, fallback: weight_only}}\n"
        "transforms: [{awq: {grid: 20, clip: true}}]\nrules:\n  - {targets: [linear, /mlp/], scheme: {type: int, bits: 4, group_size: 128, symmetric: true}, solver: {gptq: {damping: 0.01}}}\n"
        "ignore: [lm_head]\nevaluate: {text: t.txt, rows: 4}\nverify: {max_kl: 0.5, fallbacks: [damping]}\n")
    put("recipe", "floats", 'rules: [{scheme: {type: fp8_e4m3}, activations: {type: fp8_e4m3, per: token}}]\nkv_cache: {type: float}\ncalibration: null\nevaluate: null\n')

    put("journal", "empty", b"LATHEJNL" + struct.pack("<II", 1, 0))
    # apps/quantize/journal/outcome_record.cc: index, no linears, folds, counts of tokens and inputs; changed tensors; no KV cache.
    put("journal", "outcome", struct.pack("<6Q?", 1, 0, 0, 0, 0, 0, False))
    plain = struct.pack("<Q1sBbBq2f", 1, b"a", 1, 6, 1, 2, 0.5, 1)  # name, form, c10::ScalarType, dimensions, size
    packed = struct.pack("<Q1sBbBqqBBi", 1, b"b", 2, 1, 2, 1, 4, 0xFE, 2, 0b11100100)  # likewise; least, bits, a word
    put("journal", "changed", struct.pack("<6Q", 1, 0, 0, 0, 0, 2) + plain + packed + b"\0")

    recipe = {"model": "m", "output": {"path": "out"}, "calibration": None, "rules": [{"targets": ["linear"], "scheme": {"type": "int", "bits": 4, "group_size": 64, "symmetric": True}, "solver": {"rtn": {}}}]}
    manifest = {"schema": 1, "recipe": recipe, "files": {"config.json": {"bytes": 2, "hash": "xxh3-128:0"}}, "reports": {"report.json": {"bytes": 2, "hash": "x"}}, "tensors": {"a": "xxh3-128:0"}}
    report = {"linears": [{"name": "model.layers.0.mlp.up_proj", "events": ["damping raised to 0.1"]}],
              "verification": {"passed": False, "failed": [{"check": "divergence", "name": "mean KL", "expected": "at most 4", "found": "5"}]}}
    put("report", "run", json.dumps(manifest) + "\0" + json.dumps(report))
    put("report", "nothing", "{}\0{}")
    tensors = {"a": "xxh3-128:0"}
    rows = [{"name": f"model.layers.0.mlp.{role}", "role": role, "output_error": error, "weight_error": error / 2, "importance_weighted_error": None}
            for role, error in (("up_proj", 0.01), ("down_proj", 0.02))]
    first = {"linears": rows, "calibration": {"ids_hash": "a"}, "recipe": {"output": {"imatrix": None}}}
    other = {"linears": [{**row, "output_error": 2 * row["output_error"]} for row in rows], "calibration": {"ids_hash": "b"}}
    said = {"tensors": tensors, "files": {"config.json": {"bytes": 2, "hash": "b"}}}
    put("compare", "two_runs", "\0".join(json.dumps(part) for part in (first, said, other, {"tensors": {"a": "xxh3-128:1"}})))
    put("compare", "the_same", "\0".join(json.dumps(part) for part in (first, said, first, said)))
    put("compare", "weights_alone", "\0".join(json.dumps(part) for part in (
        {"linears": [{"name": "a", "role": "b", "importance_weighted_error": 1e300}, {"name": "a"}, 5]}, {"files": 5}, {"linears": {}}, {"tensors": {}})))
    linears = [{"weight_mse": 1e-6, "output_error": 0.1, "output_relative_error": 0.01, "fisher": 0.001, "kl": 0.002}] * 2
    loss = {"weight_mse": 1e-6, "weight_relative_mse": 0.01, "output_error": 0.2, "output_relative_error": 0.01, "kl": 0.004, "fisher": 0.003}
    table = {**loss, "output_error": None, "output_relative_error": None, "fisher": None, "candidate": 0}
    measured = {"schema": 1, "lathe": "0", "model": {"name": "m", "fingerprint": "xxh3-128:0"}, "computed": {"device": "cpu", "dtype": "F32"},
                "data": {"calibration_ids": "a", "held_out_ids": "b", "held_out_tokens": 512, "checked_tokens": None, "recipe": {"samples": 8, "held_out": 4}},
                "candidates": [{"scheme": {"bits": 4}}, {"gguf": "Q4_K"}],
                "groups": [{"name": "model.layers.0 attention_in", "linears": ["q", "k"], "weights": 100.0,
                            "losses": [{**loss, "candidate": k, "kl": 0.004 / (k + 1), "linears": linears} for k in range(2)]},
                           {"name": "token_embd.weight", "table": "model.embed_tokens.weight", "weights": 10, "losses": [table]}]}
    put("sensitivity", "measured", json.dumps(measured))
    older = {**measured, "data": {}, "groups": [{"name": "a", "linears": ["o"], "weights": 1, "losses": [{**loss, "candidate": 1}]}]}
    put("sensitivity", "older", json.dumps(older))
    put("sensitivity", "estimated", json.dumps({**older, "groups": [{"name": "a", "linears": ["o"], "weights": 1, "losses": [{**loss, "kl": None, "candidate": 0}]}] * 2}))
    put("report", "hash_is_number", json.dumps({"files": {"a": 5}, "reports": {"report.json": {"bytes": 2, "hash": 5}}}) + "\0{}")


if __name__ == "__main__":
    main()
