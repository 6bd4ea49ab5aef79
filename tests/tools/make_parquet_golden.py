#!/usr/bin/env python3
"""Writes the files of tests/golden/parquet with pyarrow: make_parquet_golden.py FOLDER"""
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq

out = sys.argv[1]


def write(name, table, **kw):
    pq.write_table(table, os.path.join(out, name), **kw)


write("text.parquet", pa.table({"id": [1, 2, 3], "text": ["abc", "", "d\u00e9"]}))
write("row_groups.parquet", pa.table({"text": pa.array([f"doc {i}" for i in range(7)]).dictionary_encode()}), row_group_size=3, compression="zstd")
write("large_string.parquet", pa.table({"body": pa.array(["x", "yz"], pa.large_string())}))
write("ids.parquet", pa.table({"input_ids": pa.array([[1, 2, 3], [], [4]], pa.list_(pa.int32()))}))
msg = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
write("messages.parquet", pa.table({"messages": pa.array([[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], [{"role": "user", "content": None}]], msg)}))
write("null_row.parquet", pa.table({"text": pa.array(["a", None], pa.string())}))
write("only_nulls.parquet", pa.table({"text": pa.array([None, None], pa.string())}))
write("string_view.parquet", pa.table({"text": pa.array(["a", None, "longer than the twelve bytes of a view"], pa.string_view())}))
write("null_id.parquet", pa.table({"input_ids": pa.array([[1, None]], pa.list_(pa.int64()))}))
write("null_role.parquet", pa.table({"messages": pa.array([[{"role": None, "content": "x"}]], msg)}))
write("numbers.parquet", pa.table({"text": pa.array([1.5])}))
write("timestamp.parquet", pa.table({"text": pa.array([[1]], pa.list_(pa.timestamp("s")))}))
write("other_columns.parquet", pa.table({"question": ["q"], "answer": ["a"]}))
write("no_rows.parquet", pa.table({"text": pa.array([], pa.string())}))
write("bad_utf8.parquet", pa.table({"text": pa.array([b"ok", b"no\xff"], pa.binary())}))
bad = pa.StructArray.from_arrays([pa.array(["user"]), pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"], pa.binary()).buffers())], ["role", "content"])
write("bad_utf8_nested.parquet", pa.table({"messages": pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), bad)}))

# Companion columns: a mask and weights beside ids, tools beside messages.
ids, bits = pa.list_(pa.int32()), pa.list_(pa.int8())
masked = {"input_ids": pa.array([[7, 8, 0, 0], [5, 6, 9, 4], [3]], ids), "attention_mask": pa.array([[1, 1, 0, 0], [1, 1, 1, 1], None], bits)}
write("masked.parquet", pa.table(masked))
write("bool_mask.parquet", pa.table({"input_ids": pa.array([[7, 8]], ids), "attention_mask": pa.array([[True, False]], pa.list_(pa.bool_()))}))
for name, mask in [("left_padded", [0, 1]), ("short_mask", [1]), ("odd_mask", [1, 2])]:
    write(f"{name}.parquet", pa.table({"input_ids": pa.array([[5, 6], [7, 8]], ids), "attention_mask": pa.array([[1, 1], mask], bits)}))
weighed = {"input_ids": pa.array([[0, 5, 6], [7], [8, 9]], ids), "attention_mask": pa.array([[0, 1, 1], None, None], bits)}
write("weighted.parquet", pa.table(weighed | {"token_weights": pa.array([[2.0, 0.0, 4.0], [0.5], None], pa.list_(pa.float32()))}))
write("weighted_text.parquet", pa.table({"text": ["a"], "input_ids": pa.array([[5]], ids), "token_weights": pa.array([[2.0]], pa.list_(pa.float64()))}))
tool = pa.struct([("type", pa.string()), ("name", pa.string())])
talks = pa.array([[{"role": "user", "content": "Hi"}], [{"role": "user", "content": "Yo"}], [{"role": "user", "content": "Ah"}]], msg)
tools = [[{"type": "function", "name": "a"}, {"type": "function", "name": "b"}], None, []]
write("tools.parquet", pa.table({"messages": talks, "tools": pa.array(tools, pa.list_(tool))}))
write("tools_text.parquet", pa.table({"messages": talks, "tools": ['[{"type": "function", "name": "a"}, {"name": "b"}]', None, "[]"]}))
write("bad_tools.parquet", pa.table({"messages": talks, "tools": [1, 2, 3]}))
