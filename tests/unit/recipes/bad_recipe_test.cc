// Every way in which a recipe can be wrong, with the place and the words of the message.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/base/error.h"
#include "recipes/recipe.h"
#include "tests/unit/recipes/vocabulary.h"

namespace lathe {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct BadRecipe {
  std::string name;
  std::string text;
  std::string start;               // "r.yaml:2:3: key: expected"
  std::vector<std::string> words;  // further on
};

std::string message_of(const std::string& text, const std::vector<std::string>& sets = {}) {
  try {
    parse_recipe(text, "r.yaml", sets, test_vocabulary());
  } catch (const UserError& error) {
    return error.what();
  }
  return "(accepted)";
}

/// A rule after `head`; with an empty head it stands on line 1.
std::string with_rule(const std::string& head) { return head + "rules: [{}]\n"; }
std::string scheme(const std::string& text) { return "rules:\n  - {scheme: {" + text + "}}\n"; }
std::string solver(const std::string& text) { return "rules:\n  - solver: " + text + "\n"; }
std::string activations(const std::string& text) { return "rules:\n  - {activations: " + text + "}\n"; }
std::string targets(const std::string& text) { return "rules:\n  - targets: " + text + "\n"; }
std::string transform(const std::string& text) { return with_rule("transforms:\n  - " + text + "\n"); }

std::string many_aliases() {
  std::string text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c < 'h'; ++c) {
    const std::string before = std::string("*") + static_cast<char>(c - 1);
    text += fmt::format("{}: &{} [{}", c, c, before);
    for (int i = 0; i < 9; ++i) text += ", " + before;
    text += "]\n";
  }
  return text;
}

std::vector<BadRecipe> structure_errors() {
  return {
      {"empty_file", "", "r.yaml:1:1: expected a recipe", {"empty file"}},
      {"comma_alone", ",\n", "r.yaml:1:1: expected valid YAML", {"closing bracket is out of place"}},
      {"only_comments", "# nothing\n# here\n", "r.yaml:1:1: expected a recipe", {"empty file"}},
      {"null_document", "---\n", "r.yaml:", {"expected a map", "found nothing"}},
      {"a_list", "- 1\n- 2\n", "r.yaml:1:1: expected a map", {"rules", "found a list of 2"}},
      {"a_scalar", "hello\n", "r.yaml:1:1: expected a map", {"found 'hello'"}},
      {"unclosed_bracket",
       "rules: [{}\n",
       "r.yaml:1:11: expected valid YAML",
       {"the end of the text", "bracket"}},
      {"unclosed_quote", "model: 'abc\n", "r.yaml:1:8: expected a closing quote", {}},
      {"unclosed_quote_later",
       with_rule("model: a\n") + "evaluate: {text: \"b}\n",
       "r.yaml:3:21: expected valid YAML",
       {"the end of the text", "quote"}},
      {"unclosed_quoted_key", "'model: a\nrules: [{}]\n", "r.yaml:1:1: expected", {}},
      {"tab_indentation",
       "output:\n\tpath: x\n",
       "r.yaml:2:6: expected valid YAML",
       {"syntax error", "indented with a tab"}},
      {"bad_indentation", "model: a\n  output: b\n", "r.yaml:2:9: expected valid YAML", {"syntax error"}},
      {"unknown_alias", "model: *nowhere\n", "r.yaml:1:8: expected valid YAML", {"anchor"}},
      {"two_documents",
       "rules: [{}]\n---\nrules: [{}]\n",
       "r.yaml:3:1: expected one YAML document",
       {"found 2"}},
      {"duplicate_key",
       "model: a\nrules: [{}]\nmodel: b\n",
       "r.yaml:3:1: model: expected each key once",
       {"r.yaml:1:1"}},
      {"duplicate_nested", scheme("bits: 4, bits: 3"), "r.yaml:2:24: bits: expected each key once", {}},
      {"list_as_key", "? [a]\n: b\n", "r.yaml:1:3: expected a word as the key", {}},
      {"custom_tag", "model: !secret x\n", "r.yaml:1:8: expected a value without a tag", {"!secret"}},
      {"python_tag", "model: !!python/object x\n", "r.yaml:1:8: expected a value without a tag", {}},
      {"invalid_utf8", "model: a\nrules: \xc3\x28\n", "r.yaml:2:8: expected YAML as UTF-8", {"0xc3"}},
      {"control_character", "model: a\x04\nrules: 5\n", "r.yaml:1:9: expected YAML as UTF-8", {"0x04"}},
      {"alias_bomb", many_aliases(), "r.yaml:", {"100000 values"}},
      {"self_alias", "model: &a [*a]\n", "r.yaml:1:8: expected", {"alias"}},
  };
}

std::vector<BadRecipe> key_errors() {
  return {
      {"no_rules", "model: a\n", "r.yaml:1:1: rules: expected a list of at least one rule", {"no such key"}},
      {"empty_rules",
       "rules: []\n",
       "r.yaml:1:8: rules: expected a list of at least one rule",
       {"empty list"}},
      {"null_rules", "model: a\nrules:\n", "r.yaml:2:1: rules: expected a list", {"found nothing"}},
      {"rules_a_map",
       "rules: {targets: [linear]}\n",
       "r.yaml:1:8: rules: expected a list",
       {"a map with the key 'targets'"}},
      {"unknown_top_key",
       with_rule("modell: a\n"),
       "r.yaml:1:1: modell: expected a key among",
       {"'modell'", "did you mean 'model'?"}},
      {"merge_key", "x: &x {a: 1}\nrules: [{}]\n<<: *x\n", "r.yaml:1:1: x: expected a key among", {}},
      {"unknown_rule_key",
       "rules:\n  - target: [linear]\n",
       "r.yaml:2:5: rules[0].target: expected a key among targets, scheme, activations and solver",
       {"did you mean 'targets'?"}},
      {"unknown_scheme_key",
       scheme("bitz: 4"),
       "r.yaml:2:15: rules[0].scheme.bitz: expected a key among",
       {"did you mean 'bits'?"}},
      {"unknown_output_key",
       with_rule("output: {pathe: a}\n"),
       "r.yaml:1:10: output.pathe: expected a key among path",
       {"did you mean 'path'?"}},
      {"unknown_experts_key",
       with_rule("calibration: {experts: {floor: 3}}\n"),
       "r.yaml:1:25: calibration.experts.floor: expected a key among min_tokens and fallback",
       {}},
      {"unknown_calibration_key",
       with_rule("calibration:\n  sample: 5\n"),
       "r.yaml:2:3: calibration.sample: expected a key",
       {"did you mean 'samples'?"}},
      {"unknown_data_key",
       with_rule("calibration: {data: [{file: a}]}\n"),
       "r.yaml:1:23: calibration.data[0].file: expected a key among path, field, weight, samples and "
       "token_weight",
       {}},
      {"unknown_evaluate_key",
       with_rule("evaluate: {text: a, contex: 5}\n"),
       "r.yaml:1:21: evaluate.contex: expected a key among",
       {}},
      {"output_not_a_map",
       with_rule("output: out\n"),
       "r.yaml:1:9: output: expected a map with keys among path",
       {"'out'"}},
      {"data_without_path",
       with_rule("calibration: {data: [{field: a}]}\n"),
       "r.yaml:1:22: calibration.data[0]: expected the key 'path'",
       {}},
      {"data_not_a_list",
       with_rule("calibration: {data: {path: a.txt}}\n"),
       "r.yaml:1:21: calibration.data: expected a file, or a list of files",
       {"a map"}},
      {"data_of_a_list",
       with_rule("calibration: {data: [[a.txt]]}\n"),
       "r.yaml:1:22: calibration.data[0]: expected a map with keys among path",
       {}},
      {"data_weight_and_samples",
       with_rule("calibration: {data: [{path: a.txt, weight: 2, samples: 3}]}\n"),
       "r.yaml:1:22: calibration.data[0]: expected either weight or samples",
       {}},
      {"data_weight_of_nothing",
       with_rule("calibration: {data: [{path: a.txt, weight: 0}]}\n"),
       "r.yaml:1:44: calibration.data[0].weight: expected a number from 1e-06",
       {}},
      {"data_samples_of_nothing",
       with_rule("calibration: {data: [{path: a.txt, samples: 0}]}\n"),
       "r.yaml:1:45: calibration.data[0].samples: expected an integer from 1",
       {}},
      {"samples_against_the_sources",
       with_rule("calibration: {samples: 5, data: [{path: a.txt, samples: 2}, {path: b.txt, samples: 4}]}\n"),
       "r.yaml:1:24: calibration.samples: expected 6, what the sources' own samples add up to",
       {"'5'"}},
      {"unknown_packing",
       with_rule("calibration: {packing: documents}\n"),
       "r.yaml:1:24: calibration.packing: expected pack or document",
       {"did you mean 'document'?"}},
      {"min_tokens_of_zero",
       with_rule("calibration: {min_tokens: 0}\n"),
       "r.yaml:1:27: calibration.min_tokens: expected an integer from 1",
       {}},
      {"special_tokens_by_name",
       with_rule("calibration: {special_tokens: bos}\n"),
       "r.yaml:1:31: calibration.special_tokens: expected",
       {"'bos'"}},
      {"evaluate_without_text",
       with_rule("evaluate: {ctx: 512}\n"),
       "r.yaml:1:11: evaluate: expected the key 'text'",
       {}},
  };
}

std::vector<BadRecipe> value_errors() {
  return {
      {"bits_text",
       scheme("bits: four"),
       "r.yaml:2:21: rules[0].scheme.bits: expected an integer from 1 to 8, found 'four'",
       {}},
      {"bits_quoted",
       scheme("bits: '4'"),
       "r.yaml:2:21: rules[0].scheme.bits: expected an integer",
       {"the text \"4\""}},
      {"bits_fraction",
       scheme("bits: 4.5"),
       "r.yaml:2:21: rules[0].scheme.bits: expected an integer",
       {"'4.5'"}},
      {"bits_one",
       scheme("bits: 0"),
       "r.yaml:2:21: rules[0].scheme.bits: expected an integer from 1 to 8, found '0'",
       {}},
      {"bits_nine",
       scheme("bits: 9"),
       "r.yaml:2:21: rules[0].scheme.bits: expected an integer from 1 to 8, found '9'",
       {}},
      {"bits_huge",
       scheme("bits: 99999999999999999999"),
       "r.yaml:2:21: rules[0].scheme.bits: expected an integer",
       {}},
      {"bits_list",
       scheme("bits: [4]"),
       "r.yaml:2:21: rules[0].scheme.bits: expected an integer",
       {"a list of 1"}},
      {"bits_null", scheme("bits: ~"), "r.yaml:2:15: rules[0].scheme.bits: expected an integer", {"nothing"}},
      {"group_zero",
       scheme("group_size: 0"),
       "r.yaml:2:27: rules[0].scheme.group_size: expected a multiple of 8",
       {"-1", "'0'"}},
      {"group_odd",
       scheme("group_size: 100"),
       "r.yaml:2:27: rules[0].scheme.group_size: expected a multiple of 8",
       {"'100'"}},
      {"group_negative",
       scheme("group_size: -2"),
       "r.yaml:2:27: rules[0].scheme.group_size: expected a multiple of 8",
       {"'-2'"}},
      {"group_text",
       scheme("group_size: many"),
       "r.yaml:2:27: rules[0].scheme.group_size: expected a multiple of 8",
       {"'many'"}},
      {"symmetric_yes",
       scheme("symmetric: yes"),
       "r.yaml:2:26: rules[0].scheme.symmetric: expected true or false, found 'yes'",
       {}},
      {"symmetric_number",
       scheme("symmetric: 1"),
       "r.yaml:2:26: rules[0].scheme.symmetric: expected true or false",
       {}},
      {"type_unknown",
       scheme("type: imt"),
       "r.yaml:2:21: rules[0].scheme.type: expected a known number type (int, float, fp8_e4m3, ",
       {"found 'imt'", "did you mean 'int'?"}},
      {"float_per",
       scheme("type: fp8_e4m3, per: row"),
       "r.yaml:2:",
       {"rules[0].scheme.per: expected channel, tensor or block, found 'row'"}},
      {"float_group_size",
       scheme("type: fp8_e4m3, group_size: 32"),
       "r.yaml:2:",
       {"rules[0].scheme", "'group_size'"}},
      {"float_group",
       scheme("type: fp8_e4m3, per: group"),
       "r.yaml:2:",
       {"rules[0].scheme.per: expected channel, tensor or block (no consumer reads FP8 in groups", "mxfp8"}},
      {"float_unread",
       scheme("type: fp8_e5m2"),
       "r.yaml:2:",
       {"rules[0].scheme.type: expected fp8_e4m3 (no consumer reads", "found 'fp8_e5m2'"}},
      {"nvfp4_group_size",
       scheme("type: nvfp4, group_size: 32"),
       "r.yaml:2:",
       {"rules[0].scheme", "'group_size'"}},
      {"float_bits", scheme("type: fp8_e4m3, bits: 8"), "r.yaml:2:", {"rules[0].scheme", "'bits'"}},
      {"int_per",
       scheme("type: int, per: channel"),
       "r.yaml:2:",
       {"rules[0].scheme.per: expected no such key where type is int"}},
      {"model_number",
       with_rule("model: 5\n"),
       "r.yaml:1:8: model: expected a folder, found '5'",
       {"quotes"}},
      {"model_empty", with_rule("model: ''\n"), "r.yaml:1:8: model: expected a folder", {}},
      {"model_map", with_rule("model: {path: a}\n"), "r.yaml:1:8: model: expected a folder, found a map", {}},
      {"samples_zero",
       with_rule("calibration: {samples: 0}\n"),
       "r.yaml:1:24: calibration.samples: expected an integer from 1",
       {"'0'"}},
      {"seq_len_one",
       with_rule("calibration: {seq_len: 1}\n"),
       "r.yaml:1:24: calibration.seq_len: expected an integer from 2",
       {}},
      {"experts_floor_negative",
       with_rule("calibration: {experts: {min_tokens: -1}}\n"),
       "r.yaml:1:37: calibration.experts.min_tokens: expected an integer",
       {}},
      {"experts_fallback_unknown",
       with_rule("calibration: {experts: {fallback: all_token}}\n"),
       "r.yaml:1:35: calibration.experts.fallback: expected all_tokens or weight_only, found 'all_token'",
       {"did you mean 'all_tokens'"}},
      {"propagate_word",
       with_rule("calibration: {propagate: referense}\n"),
       "r.yaml:1:26: calibration.propagate: expected quantised or reference, found 'referense'",
       {}},
      {"limit_word", with_rule("limits: {ram: much}\n"), "r.yaml:1:15: limits.ram: expected", {"much"}},
      {"verify_key", with_rule("verify: {max_kul: 1}\n"), "r.yaml:1:10: verify", {"max_kul", "max_kl"}},
      {"verify_bound", with_rule("verify: {max_kl: -1}\n"), "r.yaml:1:18: verify.max_kl: expected", {"-1"}},
      {"verify_fallback",
       with_rule("verify: {fallbacks: [diagonally]}\n"),
       "r.yaml:1:22: verify.fallbacks[0]: expected damping or diagonal, found 'diagonally'",
       {}},
      {"report_key", with_rule("report: {inputs: true}\n"), "r.yaml:1:10: report", {"inputs"}},
      {"report_word",
       with_rule("report: {activations: some}\n"),
       "r.yaml:1:23: report.activations: expected",
       {"some"}},
      {"limit_key", with_rule("limits: {memory: 4GiB}\n"), "r.yaml:1:10: limits", {"memory"}},
      {"seed_negative",
       with_rule("calibration: {seed: -1}\n"),
       "r.yaml:1:21: calibration.seed: expected an integer of at least 0",
       {}},
      {"rows_negative",
       with_rule("evaluate: {text: a, rows: -4}\n"),
       "r.yaml:1:27: evaluate.rows: expected an integer of at least 0",
       {}},
      {"shard_size_unit",
       with_rule("output: {shard_size: 5 parsecs}\n"),
       "r.yaml:1:22: output.shard_size: expected a size such as 5GB",
       {"'5 parsecs'"}},
      {"shard_size_zero",
       with_rule("output: {shard_size: 0}\n"),
       "r.yaml:1:22: output.shard_size: expected a size",
       {}},
      {"format_unknown",
       with_rule("output: {formats: [compressed-tensor]}\n"),
       "r.yaml:1:20: output.formats[0]: expected a known format (compressed-tensors and gguf)",
       {"did you mean 'compressed-tensors'?"}},
      {"format_twice",
       with_rule("output: {formats: [gguf, gguf]}\n"),
       "r.yaml:1:26: output.formats[1]: expected each format once",
       {}},
      {"format_none",
       with_rule("output: {formats: []}\n"),
       "r.yaml:1:19: output.formats: expected at least one format",
       {}},
      {"format_scalar",
       with_rule("output: {formats: gguf}\n"),
       "r.yaml:1:19: output.formats: expected a list of formats",
       {}},
  };
}

std::vector<BadRecipe> name_errors() {
  return {
      {"target_unknown",
       targets("[atention]"),
       "r.yaml:2:15: rules[0].targets[0]: expected one of linear, attention, mlp, expert, shared_expert, "
       "q_proj",
       {"'atention'", "did you mean 'attention'?"}},
      {"target_scalar",
       targets("linear"),
       "r.yaml:2:14: rules[0].targets: expected a list of roles",
       {"'linear'"}},
      {"target_none", targets("[]"), "r.yaml:2:14: rules[0].targets: expected at least one role", {}},
      {"regex_paren",
       targets("['/(q|k/']"),
       "r.yaml:2:15: rules[0].targets[0]: expected a valid regular expression",
       {"parenthesis"}},
      {"regex_bracket",
       targets("[linear, '/[a/']"),
       "r.yaml:2:23: rules[0].targets[1]: expected a valid regular expression",
       {"bracket"}},
      {"regex_repeat",
       targets("['/*a/']"),
       "r.yaml:2:15: rules[0].targets[0]: expected a valid regular expression",
       {"repeat"}},
      {"regex_empty",
       targets("['//']"),
       "r.yaml:2:15: rules[0].targets[0]: expected a valid regular expression",
       {"empty"}},
      {"regex_long",
       targets("['/" + std::string(1001, 'a') + "/']"),
       "r.yaml:2:15: rules[0].targets[0]: expected a valid regular expression",
       {"more than 1000 characters"}},
      {"ignore_unknown",
       with_rule("ignore: [lmhead]\n"),
       "r.yaml:1:10: ignore[0]: expected one of",
       {"did you mean 'lm_head'?"}},
      {"solver_unknown",
       solver("{rtm: {}}"),
       "r.yaml:2:14: rules[0].solver: expected a known solver (rtn and toy)",
       {"'rtm'", "did you mean 'rtn'?"}},
      {"solver_word",
       solver("rtn"),
       "r.yaml:2:13: rules[0].solver: expected a map with one solver",
       {"{rtn: {}}", "found 'rtn'"}},
      {"solver_empty",
       solver("{}"),
       "r.yaml:2:13: rules[0].solver: expected a map with one solver",
       {"an empty map"}},
      {"solver_two",
       solver("{rtn: {}, toy: {}}"),
       "r.yaml:2:23: rules[0].solver: expected a map with one solver",
       {"'toy'"}},
      {"activations_key", activations("{bit: 8}"), "r.yaml:2:20: rules[0].activations", {"'bit'", "bits"}},
      {"activations_bits", activations("{bits: 4}"), "r.yaml:2:26: rules[0].activations.bits", {"8"}},
      {"activations_type", activations("{type: fp8}"), "r.yaml:2:26: rules[0].activations.type", {"int"}},
      {"nvfp4_activations_per",
       activations("{type: nvfp4, per: token}"),
       "r.yaml:2:",
       {"rules[0].activations", "'per'"}},
      {"nvfp4_activations_mse",
       activations("{type: nvfp4, observer: mse}"),
       "r.yaml:2:",
       {"rules[0].activations: observer mse clips a tensor", "minmax or percentile"}},
      {"fp8_activations_symmetric",
       activations("{type: fp8_e4m3, symmetric: false}"),
       "r.yaml:2:",
       {"rules[0].activations", "'symmetric'"}},
      {"fp8_activations_static_token",
       activations("{type: fp8_e4m3, dynamic: false, per: token}"),
       "r.yaml:2:",
       {"rules[0].activations: static activations per token"}},
      {"fp8_activations_observer",
       activations("{type: fp8_e4m3, observer: kl}"),
       "r.yaml:2:",
       {"rules[0].activations.observer: expected no such key where dynamic is true"}},
      {"activations_per",
       activations("{per: row}"),
       "r.yaml:2:25: rules[0].activations.per: expected token or tensor",
       {"found 'row'"}},
      {"activations_dynamic_tensor",
       activations("{per: tensor}"),
       "r.yaml:2:19: rules[0].activations: dynamic activations per tensor",
       {"use per: token"}},
      {"activations_static_token",
       activations("{dynamic: false, per: token}"),
       "r.yaml:2:19: rules[0].activations: static activations per token",
       {"use per: tensor"}},
      {"observer_of_dynamic_activations",
       activations("{observer: mse}"),
       "r.yaml:2:30: rules[0].activations.observer: expected no such key where dynamic is true",
       {}},
      {"unknown_observer",
       activations("{dynamic: false, observer: max}"),
       "r.yaml:2:46: rules[0].activations.observer: expected minmax or ema or percentile or mse or kl",
       {"found 'max'"}},
      {"percentile_without_its_observer",
       activations("{dynamic: false, percentile: 99}"),
       "r.yaml:2:48: rules[0].activations.percentile: expected no such key where observer is minmax",
       {}},
      {"transform_twice",
       with_rule("transforms: [{awq: {}}, {awq: {grid: 5}}]\n"),
       "r.yaml:1:25: transforms[1]: expected each transform once",
       {"awq stands above already"}},
      {"option_of_a_flag_that_is_off",
       transform("awq: {clip: false, clip_steps: 5}"),
       "r.yaml:2:36: transforms[0].awq.clip_steps: expected no value where clip is false (only clip true "
       "reads "
       "it)",
       {}},
      {"word_for_a_number",
       solver("{toy: {alpha: atuo}}"),
       "r.yaml:2:27: rules[0].solver.toy.alpha: expected a number from 0 to 1, or auto",
       {"found 'atuo'"}},
      {"number_beyond_its_bounds",
       solver("{toy: {alpha: 2}}"),
       "r.yaml:2:27: rules[0].solver.toy.alpha: expected a number from 0 to 1, or auto",
       {"found '2'"}},
      {"option_of_a_word_with_a_number",
       solver("{toy: {alpha: 0.5, steps: 3}}"),
       "r.yaml:2:39: rules[0].solver.toy.steps: expected no value where alpha is 0.5 (only alpha auto reads "
       "it)",
       {"found '3'"}},
      {"solver_option",
       solver("{rtn: {grid: 5}}"),
       "r.yaml:2:20: rules[0].solver.rtn.grid: expected no key here, found 'grid'",
       {}},
      {"transform_unknown",
       transform("{awk: {}}"),
       "r.yaml:2:6: transforms[0]: expected a known transform (awq and smooth)",
       {"did you mean 'awq'?"}},
      {"transform_option",
       transform("awq: {gridd: 5}"),
       "r.yaml:2:11: transforms[0].awq.gridd: expected a key among grid",
       {"did you mean 'grid'?"}},
      {"transform_option_without_effect",
       transform("awq: {norm: l2, delta: 2}"),
       "r.yaml:2:28: transforms[0].awq.delta: expected no value where norm is l2 (only norm l1 reads it)",
       {"'2'"}},
      {"transform_option_without_effect_by_default",
       transform("awq: {delta: 2}"),
       "r.yaml:2:18: transforms[0].awq.delta: expected no value where norm is l2",
       {}},
      {"transform_list",
       transform("[awq]"),
       "r.yaml:2:5: transforms[0]: expected a map with one transform",
       {}},
      {"option_bounds",
       transform("awq: {grid: 0}"),
       "r.yaml:2:17: transforms[0].awq.grid: expected an integer from 1 to 100, found '0'",
       {}},
      {"option_type",
       transform("awq: {clip: 3}"),
       "r.yaml:2:17: transforms[0].awq.clip: expected true or false",
       {}},
      {"option_number",
       transform("awq: {shrink: 1.5}"),
       "r.yaml:2:19: transforms[0].awq.shrink: expected a number from 0 to 1, found '1.5'",
       {}},
      {"option_nan",
       transform("awq: {shrink: nan}"),
       "r.yaml:2:19: transforms[0].awq.shrink: expected a number from 0 to 1",
       {}},
      {"option_choice",
       transform("awq: {norm: l3}"),
       "r.yaml:2:17: transforms[0].awq.norm: expected one of l1 and l2, found 'l3'",
       {"did you mean"}},
      {"options_a_list",
       transform("awq: [grid]"),
       "r.yaml:2:10: transforms[0].awq: expected a map with keys among",
       {}},
      {"transforms_null",
       with_rule("transforms:\n"),
       "r.yaml:1:1: transforms: expected a list of transforms",
       {"nothing"}},
  };
}

class BadRecipeTest : public testing::TestWithParam<BadRecipe> {};

TEST_P(BadRecipeTest, SaysWhereAndWhat) {
  const std::string message = message_of(GetParam().text);
  EXPECT_THAT(message, StartsWith(GetParam().start));
  for (const std::string& word : GetParam().words) EXPECT_THAT(message, HasSubstr(word));
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

std::string name_of_case(const testing::TestParamInfo<BadRecipe>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Structure, BadRecipeTest, testing::ValuesIn(structure_errors()), name_of_case);
INSTANTIATE_TEST_SUITE_P(Keys, BadRecipeTest, testing::ValuesIn(key_errors()), name_of_case);
INSTANTIATE_TEST_SUITE_P(Values, BadRecipeTest, testing::ValuesIn(value_errors()), name_of_case);
INSTANTIATE_TEST_SUITE_P(Names, BadRecipeTest, testing::ValuesIn(name_errors()), name_of_case);

struct BadSet {
  std::string name, argument;
  std::vector<std::string> words;
};

class BadSetTest : public testing::TestWithParam<BadSet> {};

TEST_P(BadSetTest, NamesTheArgument) {
  const std::string message =
      message_of("rules:\n  - {targets: [linear]}\nmodel: a\n", {GetParam().argument});
  EXPECT_THAT(message, StartsWith("--set " + GetParam().argument + ": "));
  for (const std::string& word : GetParam().words) EXPECT_THAT(message, HasSubstr(word));
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadSetTest,
    testing::ValuesIn(std::vector<BadSet>{
        {"no_equals", "model", {"expected key=value"}},
        {"no_key", "=5", {"expected a path"}},
        {"bad_path", "rules[x].scheme=5", {"expected a path", "character 6"}},
        {"open_index", "rules[0", {"expected key=value"}},
        {"unclosed_index", "rules[0=5", {"expected a path"}},
        {"text_after_index", "rules[0]scheme.bits=4", {"expected a path", "character 9"}},
        {"double_dot", "output..path=5", {"expected a path"}},
        {"index_first", "[0].bits=4", {"expected a path"}},
        {"index_beyond", "rules[2].scheme.bits=4", {"'rules'", "up to 1", "found 2"}},
        {"index_of_map", "rules[0][1]=4", {"'rules[0]'", "a list", "found a map"}},
        {"key_of_list", "rules.scheme=4", {"'rules'", "a map", "found a list of 1"}},
        {"key_of_scalar", "model.path=4", {"'model'", "a map", "found 'a'"}},
        {"bad_yaml", "model=[1", {"expected valid YAML"}},
        {"two_values", "model=a\n--- b", {"expected one value"}},
        {"wrong_type",
         "rules[0].scheme.group_size=many",
         {"rules[0].scheme.group_size: expected a multiple", "'many'"}},
        {"no_value", "rules[0].scheme.bits=", {"rules[0].scheme.bits: expected an integer", "nothing"}},
        {"unknown_key", "rules[0].scheme.bitz=4", {"did you mean 'bits'?"}},
        {"unknown_new_map", "evalute.rows=4", {"did you mean 'evaluate'?"}},
        {"incomplete_new_map", "evaluate.rows=4", {"evaluate: expected the key 'text'"}},
    }),
    [](const testing::TestParamInfo<BadSet>& info) { return info.param.name; });

TEST(BadRecipeFile, MissingFileIsNamed) {
  try {
    load_recipe("/nowhere/at/all.yaml", {}, test_vocabulary());
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("/nowhere/at/all.yaml"));
  }
}

TEST(BadRecipeFile, AFolderIsNoRecipe) {
  EXPECT_THROW(load_recipe("/tmp", {}, test_vocabulary()), UserError);
}

}  // namespace
}  // namespace lathe
