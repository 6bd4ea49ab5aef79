// Every way a GGUF file can lie, and what its readers say: container, parts, configuration, tokenizer,
// importances.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "formats/gguf/gguf_file.h"
#include "formats/gguf/gguf_tokenizer.h"
#include "formats/gguf/gguf_writer.h"
#include "formats/gguf/imatrix.h"
#include "formats/gguf/model_keys.h"
#include "lib/base/error.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

using Texts = std::vector<std::string>;
using Types = std::vector<int32_t>;
using Floats = std::vector<float>;

constexpr const char* kName = "hostile-00001-of-00002.gguf";

struct Hostile {
  const char* name;
  std::string file;
  std::string wanted;            // part of the message
  std::string second_part = {};  // "hostile-00002-of-00002.gguf" beside it
};

void PrintTo(const Hostile& row, std::ostream* out) { *out << row.name; }

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
std::string text(const std::string& value) { return raw(uint64_t{value.size()}) + value; }

// Files of raw parts.

std::string head(uint64_t tensors, uint64_t keys) {
  return "GGUF" + raw(uint32_t{3}) + raw(tensors) + raw(keys);
}
std::string scalar(const std::string& key, uint32_t kind, const std::string& value) {
  return text(key) + raw(kind) + value;
}
std::string array(const std::string& key, uint32_t kind, uint64_t count, const std::string& values) {
  return text(key) + raw(uint32_t{9}) + raw(kind) + raw(count) + values;
}
std::string with_key(const std::string& key) { return head(0, 1) + key + std::string(64, '\0'); }

struct RawTensor {
  std::string name = "t";
  std::vector<uint64_t> sizes = {4, 2};  // the contiguous one first
  uint32_t type = 0;
  uint64_t offset = 0;
};
std::string entry(const RawTensor& tensor) {
  std::string bytes = text(tensor.name) + raw(static_cast<uint32_t>(tensor.sizes.size()));
  for (const uint64_t size : tensor.sizes) bytes += raw(size);
  return bytes + raw(tensor.type) + raw(tensor.offset);
}
std::string with_tensors(const std::vector<RawTensor>& tensors, size_t data = 32) {
  std::string bytes = head(tensors.size(), 0);
  for (const RawTensor& tensor : tensors) bytes += entry(tensor);
  bytes.resize(align_up(bytes.size(), kGgufAlignment));
  return bytes + std::string(data, '\1');
}
std::string with_tensor(const RawTensor& tensor, size_t data = 32) { return with_tensors({tensor}, data); }

// Whole files, with keys put in place of others or taken out.

GgufMetadata changed(GgufMetadata keys, const std::string& key, const std::optional<GgufValue>& value) {
  std::erase_if(keys, [&](const auto& entry) { return entry.first == key; });
  if (value) keys.emplace_back(key, *value);
  return keys;
}

/// Every F32 is 1.
std::string file_of(const GgufMetadata& keys, const std::vector<GgufPlan>& plans) {
  std::string bytes = format_gguf_header(keys, plans);
  for (const GgufPlan& plan : plans) {
    for (uint64_t i = 0; i < plan.bytes() / 4; ++i) bytes += raw(1.0F);
    bytes.resize(align_up(bytes.size(), kGgufAlignment));
  }
  return bytes;
}

GgufMetadata tokenizer_keys(bool byte_level) {
  GgufMetadata keys = {{"tokenizer.ggml.tokens", GgufArray(Texts{"a", "b", "ab", "<s>"})},
                       {"tokenizer.ggml.token_type", GgufArray(Types{1, 1, 1, 3})},
                       {"tokenizer.ggml.bos_token_id", uint32_t{3}}};
  if (byte_level) {
    keys.emplace_back("tokenizer.ggml.model", std::string("gpt2"));
    keys.emplace_back("tokenizer.ggml.pre", std::string("qwen2"));
    keys.emplace_back("tokenizer.ggml.merges", GgufArray(Texts{"a b"}));
  } else {
    keys.emplace_back("tokenizer.ggml.model", std::string("llama"));
    keys.emplace_back("tokenizer.ggml.scores", GgufArray(Floats{0, 0, -1, 0}));
  }
  return keys;
}

GgufMetadata model_keys_of(const std::string& family) {
  GgufMetadata keys = {{"general.architecture", family},
                       {family + ".attention.layer_norm_rms_epsilon", 1e-5F},
                       {family + ".rope.freq_base", 10000.0F}};
  for (const auto& [name, value] : {std::pair{"embedding_length", 8U},
                                    {"attention.head_count", 2U},
                                    {"block_count", 1U},
                                    {"feed_forward_length", 16U},
                                    {"context_length", 64U}})
    keys.emplace_back(family + "." + name, uint32_t{value});
  return keys;
}

const std::vector<GgufPlan> kEmbedding = {{"token_embd.weight", GgmlType::F32, {4, 8}}};

std::string model(const std::string& key, const std::optional<GgufValue>& value,
                  const std::vector<GgufPlan>& more = {}) {
  std::vector<GgufPlan> plans = kEmbedding;
  plans.insert(plans.end(), more.begin(), more.end());
  return file_of(changed(model_keys_of("llama"), key, value), plans);
}
std::string model_of(const std::string& family, const std::string& key,
                     const std::optional<GgufValue>& value) {
  return file_of(changed(model_keys_of(family), key, value), kEmbedding);
}
std::string bytes_bpe(const std::string& key, const std::optional<GgufValue>& value) {
  return file_of(changed(tokenizer_keys(true), "tokenizer.ggml." + key, value), {});
}
std::string pieces(const std::string& key, const std::optional<GgufValue>& value) {
  return file_of(changed(tokenizer_keys(false), "tokenizer.ggml." + key, value), {});
}

GgufMetadata split(uint16_t number, uint16_t count, int32_t tensors) {
  return {{"split.no", number}, {"split.count", count}, {"split.tensors.count", tensors}};
}
GgufPlan small(const std::string& name) { return {name, GgmlType::F32, {8}}; }
std::string first_part(const GgufMetadata& keys = split(0, 2, 2)) { return file_of(keys, {small("a")}); }
std::string second_part(const GgufMetadata& keys = split(1, 2, 2), const char* name = "b") {
  return file_of(keys, {small(name)});
}

std::string importances(const std::vector<GgufPlan>& plans,
                        const std::optional<GgufValue>& type = std::string("imatrix")) {
  return file_of(changed({}, "general.type", type), plans);
}
/// The same with one float put in the place of the last tensor's first.
std::string with_last(std::string file, float value) {
  std::memcpy(file.data() + file.size() - kGgufAlignment, &value, sizeof value);
  return file;
}

constexpr uint64_t kHuge = ~uint64_t{0};

std::vector<Hostile> framing_rows() {
  return {
      {"empty", "", "magic: 4 can't be true: 0 bytes are left"},
      {"three_bytes", "GGU", "magic: 4 can't be true: 3 bytes are left"},
      {"only_magic", "GGUF", "version: 4 can't be true: 0 bytes are left"},
      {"lower_case", "gguf" + head(0, 0).substr(4), "expected a GGUF file (magic 'GGUF'), found 'gguf'"},
      {"ggml_of_old", "lmgg" + head(0, 0).substr(4), "found 'lmgg'"},
      {"safetensors", raw(uint64_t{2}) + "{}", "expected a GGUF file"},
      {"git_lfs_pointer", "version https://git-lfs.github.com/spec/v1", "found 'vers'"},
      {"html_page", "<!DOCTYPE html>", "found '<!DO'"},
      {"control_characters", std::string("\x1b[2J", 4) + head(0, 0), R"(found '\u001b[2J')"},
      {"version_0", "GGUF" + raw(uint32_t{0}) + raw(uint64_t{0}) + raw(uint64_t{0}),
       "version: expected 3, found 0"},
      {"version_1", "GGUF" + raw(uint32_t{1}) + raw(uint64_t{0}) + raw(uint64_t{0}),
       "version: expected 3, found 1"},
      {"version_2", "GGUF" + raw(uint32_t{2}) + raw(uint64_t{0}) + raw(uint64_t{0}),
       "version: expected 3, found 2"},
      {"version_4", "GGUF" + raw(uint32_t{4}) + raw(uint64_t{0}) + raw(uint64_t{0}),
       "version: expected 3, found 4"},
      {"big_endian", "GGUF" + raw(uint32_t{0x03000000}), "(a big-endian file)"},
      {"no_counts", "GGUF" + raw(uint32_t{3}), "tensor count: 8 can't be true: 0 bytes are left"},
      {"no_key_count", "GGUF" + raw(uint32_t{3}) + raw(uint64_t{0}), "key count: 8 can't be true"},
      {"tensors_all_ones", head(kHuge, 0), "tensor count: 18446744073709551615 can't be true"},
      {"tensors_sign_bit", head(uint64_t{1} << 63, 0), "tensor count: 9223372036854775808 can't be true"},
      {"tensors_one_too_many", head(1, 0), "tensor count: 1 can't be true: 0 bytes are left"},
      {"keys_all_ones", head(0, kHuge), "key count: 18446744073709551615 can't be true"},
      {"keys_one_too_many", head(0, 1), "key count: 1 can't be true: 0 bytes are left"},
      {"keys_for_2_GiB", head(0, uint64_t{1} << 31) + std::string(1000, '\0'),
       "key count: 2147483648 can't be true"},
  };
}

std::vector<Hostile> key_rows() {
  const std::string many(64, '\0');
  return {
      {"name_length_all_ones", head(0, 1) + raw(kHuge) + many, "a key: 18446744073709551615 can't be true"},
      {"name_beyond_end", head(0, 1) + raw(uint64_t{1000}) + many,
       "a key: 1000 can't be true: 64 bytes are left"},
      {"name_empty", with_key(scalar("", 4, raw(1U))), "a key without a name"},
      {"name_with_newline", with_key(scalar("a\nb", 4, raw(1U))), "its name holds a control character"},
      {"name_with_escape", with_key(scalar("a\x1b[2J", 4, raw(1U))), "its name holds a control character"},
      {"type_13", with_key(scalar("k", 13, raw(1U))),
       "key 'k': expected a value type from 0 to 12, found 13"},
      {"type_all_ones", with_key(scalar("k", ~0U, raw(1U))), "found 4294967295"},
      {"type_missing", head(0, 1) + text("key") + "abc",
       "type of key 'key': 4 can't be true: 3 bytes are left"},
      {"bool_2", with_key(scalar("k", 7, "\2")), "key 'k': expected a bool, 0 or 1, found 2"},
      {"bool_255", with_key(scalar("k", 7, "\xFF")), "expected a bool, 0 or 1, found 255"},
      {"value_cut_off", head(0, 1) + scalar("k", 10, "abc"),
       "value of key 'k': 8 can't be true: 3 bytes are left"},
      {"string_all_ones", with_key(scalar("k", 8, raw(kHuge))),
       "value of key 'k': 18446744073709551615 can't be true"},
      {"string_beyond_end", with_key(scalar("k", 8, raw(uint64_t{65}))),
       "value of key 'k': 65 can't be true"},
      {"array_of_arrays", with_key(array("k", 9, 1, "")), "key 'k': an array of arrays"},
      {"array_type_13", with_key(array("k", 13, 1, "")), "expected a value type from 0 to 12, found 13"},
      {"array_all_ones", with_key(array("k", 0, kHuge, "")),
       "length of key 'k': 18446744073709551615 can't be true"},
      {"array_bytes_overflow", with_key(array("k", 12, uint64_t{1} << 61, "")),
       "length of key 'k': 2305843009213693952"},
      {"array_of_strings_too_long", with_key(array("k", 8, 9, "")),
       "length of key 'k': 9 can't be true: 64 bytes"},
      {"array_of_doubles_too_long", with_key(array("k", 12, 9, "")),
       "length of key 'k': 9 can't be true: 64 bytes"},
      {"array_string_all_ones", with_key(array("k", 8, 1, raw(kHuge))),
       "value of key 'k': 18446744073709551615"},
      {"array_bool_3", with_key(array("k", 7, 2, std::string("\1\3", 2))),
       "expected a bool, 0 or 1, found 3"},
      {"twice", head(0, 2) + scalar("k", 4, raw(1U)) + scalar("k", 4, raw(1U)), "key 'k': stands twice"},
      {"twice_of_other_types", head(0, 2) + scalar("k", 4, raw(1U)) + scalar("k", 6, raw(1.0F)),
       "key 'k': stands twice"},
      {"alignment_0", with_key(scalar("general.alignment", 4, raw(0U))),
       "general.alignment: expected a u32, a power of two"},
      {"alignment_4", with_key(scalar("general.alignment", 4, raw(4U))), "from 8 to 1048576, found u32 4"},
      {"alignment_24", with_key(scalar("general.alignment", 4, raw(24U))), "found u32 24"},
      {"alignment_2_GiB", with_key(scalar("general.alignment", 4, raw(1U << 31))), "found u32 2147483648"},
      {"alignment_u64", with_key(scalar("general.alignment", 10, raw(uint64_t{32}))), "found u64 32"},
      {"alignment_string", with_key(scalar("general.alignment", 8, text("32"))), "found string 32"},
  };
}

std::vector<Hostile> tensor_rows() {
  const std::string whole = with_tensor({});
  return {
      {"name_length_all_ones", head(1, 0) + raw(kHuge) + std::string(64, '\0'),
       "a tensor: 18446744073709551615 can't be true"},
      {"name_empty", with_tensor({.name = ""}), "a tensor without a name"},
      {"name_with_newline", with_tensor({.name = "a\nb"}), "its name holds a control character"},
      {"name_with_delete", with_tensor({.name = "a\x7F"}), "its name holds a control character"},
      {"no_dimension", with_tensor({.sizes = {}}), "tensor 't': expected 1 to 4 dimensions, found 0"},
      {"five_dimensions", with_tensor({.sizes = {1, 1, 1, 1, 1}}), "expected 1 to 4 dimensions, found 5"},
      {"size_0", with_tensor({.sizes = {4, 0}}), "tensor 't': expected sizes of at least 1, found 0"},
      {"size_over_int64", with_tensor({.sizes = {uint64_t{1} << 63}}), "found 9223372036854775808"},
      {"size_all_ones", with_tensor({.sizes = {kHuge}}),
       "expected sizes of at least 1, found 18446744073709551615"},
      {"product_over_int64", with_tensor({.sizes = {uint64_t{1} << 32, uint64_t{1} << 31}}),
       "does not fit in 63 bits"},
      {"product_wraps_to_0", with_tensor({.sizes = {uint64_t{1} << 32, uint64_t{1} << 32}}),
       "does not fit in 63 bits"},
      {"product_wraps_to_8", with_tensor({.sizes = {uint64_t{1} << 61, 8, 8}}), "does not fit in 63 bits"},
      {"bytes_over_uint64", with_tensor({.sizes = {uint64_t{1} << 62}}), "its size does not fit in 64 bits"},
      {"bytes_beyond_end", with_tensor({.sizes = {4, 3}}),
       "48 bytes from 96 on are beyond the file's end at 128"},
      {"bytes_far_beyond_end", with_tensor({.sizes = {uint64_t{1} << 40}}), "are beyond the file's end"},
      {"rows_no_whole_blocks", with_tensor({.sizes = {33}, .type = 2}),
       "rows of 33 values can't be cut into Q4_0 blocks of 32"},
      {"rows_no_whole_superblocks", with_tensor({.sizes = {128}, .type = 12}),
       "can't be cut into Q4_K blocks of 256"},
      {"type_4_of_old", with_tensor({.type = 4}), "its type 4 is not one that Lathe reads (F32, F16"},
      {"type_i8", with_tensor({.type = 24}), "its type 24 is not one that Lathe reads"},
      {"type_all_ones", with_tensor({.type = ~0U}), "its type 4294967295 is not one"},
      {"offset_not_0", with_tensor({.offset = 32}, 64),
       "expected the offset 0, where the bytes before it end, found 32"},
      {"offset_all_ones", with_tensor({.offset = kHuge}), "expected the offset 0"},
      {"offsets_overlap", with_tensors({{}, {.name = "u", .offset = 0}}, 64),
       "tensor 'u': expected the offset 32"},
      {"offsets_with_hole", with_tensors({{}, {.name = "u", .offset = 64}}, 128),
       "tensor 'u': expected the offset 32"},
      {"offset_unaligned", with_tensors({{.sizes = {4}}, {.name = "u", .offset = 16}}, 64),
       "tensor 'u': expected the offset 32"},
      {"twice", with_tensors({{}, {.offset = 32}}, 64), "tensor 't': stands twice"},
      {"no_data", whole.substr(0, 96), "32 bytes from 96 on are beyond the file's end at 96"},
      {"last_byte_missing", whole.substr(0, whole.size() - 1),
       "are beyond the file's end at 127; is it complete?"},
      {"entry_cut_off", whole.substr(0, 50), "can't be true"},
      {"padding_cut_off", with_tensor({.name = "0123456789"}).substr(0, 80), "are beyond the file's end"},
  };
}

std::vector<Hostile> part_rows() {
  const auto key = [](const char* name, const std::optional<GgufValue>& value) {
    return first_part(changed(split(0, 2, 2), name, value));
  };
  return {
      {"count_string", key("split.count", std::string("2")),
       "key 'split.count': expected a whole number from 0 to 65535, found string '2'"},
      {"count_too_large", key("split.count", uint32_t{65536}), "found u32 '65536'"},
      {"count_negative", key("split.count", int32_t{-1}), "found i32 '-1'"},
      {"number_missing", key("split.no", std::nullopt),
       "key 'split.no' is missing in a part of a split model"},
      {"number_float", key("split.no", 0.0F), "key 'split.no': expected a whole number from 0 to 1"},
      {"number_beyond_count", key("split.no", uint16_t{2}),
       "expected a whole number from 0 to 1, found u16 '2'"},
      {"tensors_missing", key("split.tensors.count", std::nullopt), "key 'split.tensors.count' is missing"},
      {"tensors_negative", key("split.tensors.count", int32_t{-1}),
       "key 'split.tensors.count': expected a whole number from 0"},
      {"named_as_another", first_part(split(0, 3, 2)), "its name should end with -00001-of-00003.gguf"},
      {"is_the_second", first_part(split(1, 2, 2)), "its name should end with -00002-of-00002.gguf"},
      {"second_missing", first_part(), "hostile-00002-of-00002.gguf: is missing: part 2 of 2"},
      {"second_whole", first_part(), "expected part 2 of 2 (of 2 tensors), found a whole file",
       second_part({})},
      {"second_is_first", first_part(), "found part 1 of 2", second_part(split(0, 2, 2))},
      {"second_of_another_split", first_part(), "found part 2 of 3", second_part(split(1, 3, 2))},
      {"second_counts_otherwise", first_part(), "(of 3 tensors)", second_part(split(1, 2, 3))},
      {"second_repeats_a_tensor", first_part(), "tensor 'a' stands in a part before it, too",
       second_part(split(1, 2, 2), "a")},
      {"second_is_no_gguf", first_part(), "expected a GGUF file", "not a GGUF file"},
      {"a_tensor_missing", first_part(split(0, 2, 3)),
       "split.tensors.count: expected 3, found 2 in its 2 parts", second_part(split(1, 2, 3))},
  };
}

std::vector<Hostile> model_rows() {
  const auto infinite = std::numeric_limits<float>::infinity();
  const GgufPlan stretch{"rope_freqs.weight", GgmlType::F32, {2}};
  return {
      {"no_architecture", model("general.architecture", std::nullopt),
       "key 'general.architecture': expected a name"},
      {"architecture_number", model("general.architecture", uint32_t{1}),
       "key 'general.architecture': expected a string, found u32 '1'"},
      {"architecture_unknown", model_of("falcon", "x", uint8_t{0}), "general.architecture: expected llama, "},
      {"architecture_with_escape", model("general.architecture", std::string("\x1b[2J")),
       R"(found '\u001b[2J')"},
      {"experts_missing", model_of("olmoe", "x", uint8_t{0}), "expected the number of a block's experts"},
      {"experts_unexpected", model_of("gemma2", "gemma2.expert_count", 4U),
       "expected none: the architecture has no experts"},
      {"experts_used_missing", model("llama.expert_count", 4U),
       "'llama.expert_used_count': expected a whole number above 0, found none"},
      {"no_embedding", file_of(model_keys_of("llama"), {}),
       "tensor 'token_embd.weight': expected a matrix, found none"},
      {"embedding_vector", file_of(model_keys_of("llama"), {{"token_embd.weight", GgmlType::F32, {8}}}),
       "expected a matrix, found one of another shape"},
      {"width_missing", model("llama.embedding_length", std::nullopt),
       "'llama.embedding_length': expected a whole number above 0, found none"},
      {"width_0", model("llama.embedding_length", 0U), "found u32 '0'"},
      {"width_negative", model("llama.embedding_length", int32_t{-8}), "found i32 '-8'"},
      {"width_all_ones", model("llama.embedding_length", kHuge), "found u64 '18446744073709551615'"},
      {"width_over_2_to_40", model("llama.embedding_length", (uint64_t{1} << 40) + 1),
       "expected a whole number above 0"},
      {"width_float", model("llama.embedding_length", 8.0F), "found f32 '8'"},
      {"width_string", model("llama.embedding_length", std::string("8")), "found string '8'"},
      {"width_not_of_heads", model("llama.embedding_length", 9U), "expected a multiple of 2 heads"},
      {"heads_0", model("llama.attention.head_count", 0U),
       "'llama.attention.head_count': expected a whole number above 0"},
      {"kv_heads_list", model("llama.attention.head_count_kv", GgufArray(Types{1})),
       "found array 'array of 1 i32'"},
      {"layers_missing", model("llama.block_count", std::nullopt), "'llama.block_count'"},
      {"layers_of_a_million", model("llama.block_count", 1000000U),
       "block_count: expected at most 65536, found 1000000"},
      {"epsilon_missing", model("llama.attention.layer_norm_rms_epsilon", std::nullopt),
       "rms_epsilon': expected a finite f32, found none"},
      {"epsilon_nan", model("llama.attention.layer_norm_rms_epsilon", std::nanf("")),
       "expected a finite f32, found f32 'nan'"},
      {"epsilon_double", model("llama.attention.layer_norm_rms_epsilon", 1e-5),
       "expected a finite f32, found f64"},
      {"theta_infinite", model("llama.rope.freq_base", infinite),
       "'llama.rope.freq_base': expected a finite f32, found f32 'inf'"},
      {"scaling_unknown", model("llama.rope.scaling.type", std::string("ntk")),
       "rope.scaling.type: expected none, linear or yarn, found 'ntk'"},
      {"scaling_number", model("llama.rope.scaling.type", 1U),
       "'llama.rope.scaling.type': expected a string, found u32 '1'"},
      {"scaling_without_factor", model("llama.rope.scaling.type", std::string("linear")),
       "'llama.rope.scaling.factor': expected a finite f32, found none"},
      {"stretch_negative", with_last(model("x", 0U, {stretch}), -1),
       "tensor 'rope_freqs.weight': expected numbers above 0, found -1 at 0"},
      {"stretch_nan", with_last(model("x", 0U, {stretch}), std::nanf("")),
       "expected numbers above 0, found nan"},
      {"stretch_f16", model("x", 0U, {{"rope_freqs.weight", GgmlType::F16, {2}}}),
       "tensor 'rope_freqs.weight': expected F32, found F16"},
      {"one_list_of_two", model("x", 0U, {{"rope_factors_long.weight", GgmlType::F32, {2}}}),
       "found one of them"},
  };
}

std::vector<Hostile> tokenizer_rows() {
  const auto texts = [](Texts values) { return GgufValue(GgufArray(std::move(values))); };
  return {
      {"no_model", bytes_bpe("model", std::nullopt),
       "tokenizer.ggml.model': expected gpt2 or llama, found none"},
      {"model_unknown", bytes_bpe("model", std::string("bert")), "expected gpt2 or llama, found 'bert'"},
      {"model_number", bytes_bpe("model", 1U), "expected gpt2 or llama, found none"},
      {"no_tokens", bytes_bpe("tokens", std::nullopt), "tokenizer.ggml.tokens': expected a list"},
      {"tokens_numbers", bytes_bpe("tokens", GgufArray(Types{1})), "tokenizer.ggml.tokens': expected a list"},
      {"tokens_empty", bytes_bpe("tokens", texts({})), "tokenizer.ggml.tokens': expected a list"},
      {"token_not_utf8", bytes_bpe("tokens", texts({"a", "\xFF", "ab", "<s>"})), "token 1 is not UTF-8"},
      {"token_twice", bytes_bpe("tokens", texts({"a", "a", "ab", "<s>"})), "'a' stands twice"},
      {"types_too_few", bytes_bpe("token_type", GgufArray(Types{1})),
       "token_type': expected 4 types, found 1"},
      {"types_floats", bytes_bpe("token_type", GgufArray(Floats{1, 1, 1, 1})),
       "token_type': expected a list"},
      {"bos_beyond_tokens", bytes_bpe("bos_token_id", 4U), "bos_token_id': expected an id below 4, found 4"},
      {"bos_all_ones", bytes_bpe("bos_token_id", ~0U), "expected an id below 4, found 4294967295"},
      {"no_pre", bytes_bpe("pre", std::nullopt), "expected a pre-tokenizer that Lathe knows, found none"},
      {"pre_unknown", bytes_bpe("pre", std::string("x")),
       "expected a pre-tokenizer that Lathe knows, found 'x'"},
      {"no_merges", bytes_bpe("merges", std::nullopt), "tokenizer.ggml.merges': expected a list"},
      {"merge_of_one", bytes_bpe("merges", texts({"ab"})), "expected pairs, found 'ab'"},
      {"merge_empty", bytes_bpe("merges", texts({""})), "expected pairs, found ''"},
      {"merge_not_utf8", bytes_bpe("merges", texts({"a \xFF"})), "tokenizer.ggml.merges': expected pairs"},
      {"no_scores", pieces("scores", std::nullopt), "tokenizer.ggml.scores': expected a list"},
      {"scores_too_few", pieces("scores", GgufArray(Floats{0})), "expected 4 scores, found 1"},
      {"score_nan", pieces("scores", GgufArray(Floats{0, 0, std::nanf(""), 0})), "score 2 is not a number"},
      {"unknown_beyond_tokens", pieces("unknown_token_id", 9U), "expected an id below 4, found 9"},
  };
}

std::vector<Hostile> importance_rows() {
  const GgufPlan sums{"w.in_sum2", GgmlType::F32, {1, 4}}, counts{"w.counts", GgmlType::F32, {1, 1}};
  return {
      {"no_type", importances({sums, counts}, std::nullopt), "general.type: expected imatrix, found none"},
      {"type_model", importances({sums, counts}, std::string("model")), "expected imatrix, found 'model'"},
      {"nothing", importances({counts}), "holds no sums of squares"},
      {"no_counts", importances({sums}), "tensor 'w': its counts are missing"},
      {"counts_f16", importances({sums, {"w.counts", GgmlType::F16, {1, 2}}}),
       "expected F32 of one or two dimensions, found F16"},
      {"three_dimensions", importances({{"w.in_sum2", GgmlType::F32, {1, 1, 4}}, counts}), "found F32 of 3"},
      {"other_number_of_counts", importances({sums, {"w.counts", GgmlType::F32, {2, 1}}}),
       "1 sums but 2 counts"},
      {"count_negative", with_last(importances({sums, counts}), -1),
       "found a value that is negative or not finite"},
      {"sum_infinite", with_last(importances({counts, sums}), std::numeric_limits<float>::infinity()),
       "tensor 'w.in_sum2': expected sums of squares"},
  };
}

/// The message of the UserError that `read` ends in, of the row's file; a failure of the test if it doesn't.
template <class Read>
std::string refusal(const Hostile& row, Read read) {
  std::string pattern = (fs::temp_directory_path() / "lathe-gguf-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error(pattern);
  const fs::path folder = pattern;
  std::ofstream(folder / kName, std::ios::binary) << row.file;
  if (!row.second_part.empty())
    std::ofstream(folder / "hostile-00002-of-00002.gguf", std::ios::binary) << row.second_part;
  std::string message;
  try {
    read(folder / kName);
    ADD_FAILURE() << "was accepted";
  } catch (const UserError& error) {
    message = error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "expected a UserError, got " << error.what();
  }
  fs::remove_all(folder);
  return message;
}

void check(const Hostile& row, const std::string& message) {
  EXPECT_NE(message.find(row.wanted), message.npos) << "wanted: " << row.wanted << "\nmessage: " << message;
  EXPECT_NE(message.find("hostile-0000"), message.npos) << message;
  EXPECT_LT(message.size(), 700u) << message;
  for (const char c : message) EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) << message;
}

class HostileGguf : public testing::TestWithParam<Hostile> {};
TEST_P(HostileGguf, IsRefusedInOneLineThatNamesTheFile) {
  check(GetParam(), refusal(GetParam(), [](const fs::path& path) { GgufFile::open(path); }));
}
class HostileGgufModel : public testing::TestWithParam<Hostile> {};
TEST_P(HostileGgufModel, IsRefused) {
  check(GetParam(), refusal(GetParam(), [](const fs::path& path) { config_of_gguf(GgufFile::open(path)); }));
}
class HostileGgufTokenizer : public testing::TestWithParam<Hostile> {};
TEST_P(HostileGgufTokenizer, IsRefused) {
  check(GetParam(),
        refusal(GetParam(), [](const fs::path& path) { tokenizer_of_gguf(GgufFile::open(path)); }));
}
class HostileImportances : public testing::TestWithParam<Hostile> {};
TEST_P(HostileImportances, AreRefused) {
  check(GetParam(), refusal(GetParam(), [](const fs::path& path) { read_imatrix(path); }));
}

const auto kRowName = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Framing, HostileGguf, testing::ValuesIn(framing_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Keys, HostileGguf, testing::ValuesIn(key_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Tensors, HostileGguf, testing::ValuesIn(tensor_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Parts, HostileGguf, testing::ValuesIn(part_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Rows, HostileGgufModel, testing::ValuesIn(model_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Rows, HostileGgufTokenizer, testing::ValuesIn(tokenizer_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Rows, HostileImportances, testing::ValuesIn(importance_rows()), kRowName);

/// What the rows break is whole before.
TEST(HostileGgufFiles, UndamagedFilesAreRead) {
  const auto opened = [](const std::string& file, const std::string& second = {}) {
    refusal({"", file, "", second}, [](const fs::path& path) {
      GgufFile::open(path);
      user_error("read");
    });
  };
  opened(with_key(scalar("k", 4, raw(1U))));
  opened(with_tensor({}));
  opened(first_part(), second_part());
  refusal({"", model("x", 0U), ""}, [](const fs::path& path) {
    config_of_gguf(GgufFile::open(path));
    user_error("read");
  });
  for (const std::string& file : {bytes_bpe("x", 0U), pieces("x", 0U)}) {
    refusal({"", file, ""}, [](const fs::path& path) {
      tokenizer_of_gguf(GgufFile::open(path));
      user_error("read");
    });
  }
}

}  // namespace
}  // namespace lathe
