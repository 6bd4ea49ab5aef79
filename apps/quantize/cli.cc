#include "apps/quantize/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include "lib/base/error.h"
#include "lib/base/strings.h"
#include "recipes/recipe.h"

namespace lathe {
namespace {

constexpr int kMaxThreads = 1024;

constexpr const char* kFooter =
    "\nExit codes: 0 fine, 2 the input (a file, a recipe key, a flag), 3 the result failed its checks, 70 a "
    "bug in Lathe,\n"
    "130 interrupted. Commands have their own help: `quantize eval --help`.";

/// One flag or option; `once` refuses a second one, otherwise each occurrence takes one value.
template <class T>
CLI::Option* add_value(CLI::App& app, const std::string& name, T& target, const std::string& value,
                       const std::string& help) {
  CLI::Option* option = app.add_option(name, target, help)->type_name(value);
  return option->allow_extra_args(false);
}

void add_compute_options(CLI::App& app, std::string& device, std::string& compute_dtype, int& threads) {
  add_value(app, "--device", device, "auto|cpu|cuda[:N]",
            "where to compute; auto takes a GPU where there is one");
  add_value(app, "--compute-dtype", compute_dtype, "auto|f32|bf16|f16",
            "what the forward pass multiplies in; auto is f32 on the CPU, the model's own dtype on a GPU");
  add_value(app, "--threads", threads, "N", "CPU threads; 0 is one for each core");
}

/// Sizes and a folder as they were typed.
struct MemoryTexts {
  std::string ram, vram, disk, work;
};

void add_memory_options(CLI::App& app, MemoryTexts& texts) {
  add_value(app, "--max-ram", texts.ram, "SIZE",
            "memory that may be used, such as 4GiB or 500MB (left out: what is free)");
  add_value(app, "--max-vram", texts.vram, "SIZE", "the same of the GPU's memory");
  add_value(app, "--max-disk", texts.disk, "SIZE", "the same of temporary files in --work");
  add_value(app, "--work", texts.work, "DIR", "folder for temporary files, should memory not do");
}

/// Optional paths are bound to plain strings: CLI11 then refuses a flag without a value.
struct Texts {
  std::string recipe, model, output, dump_ids;
  std::vector<std::string> calib;
  std::string eval_model, eval_reference, eval_text, eval_kv_cache;
  MemoryTexts memory, eval_memory, sensitivity_memory;
  std::string sensitivity_recipe, sensitivity_model, sensitivity_output;
  std::vector<std::string> sensitivity_calib;
  std::string convert_model, convert_output, convert_shard_size;
  std::string verify_folder, verify_reference;
  std::vector<std::string> compare_artefacts;
  std::string compare_reference, compare_text, compare_junit;
  MemoryTexts compare_memory;
  std::string advise_model, advise_gpu, advise_vram;
  std::string inspect_folder;
};

void declare_run(CLI::App& app, RunRequest& run, Texts& texts) {
  add_value(app, "--recipe", texts.recipe, "FILE", "what to do: a YAML file such as recipes/awq.yaml");
  add_value(app, "--model", texts.model, "DIR",
            "floating-point model: a Hugging Face folder (replaces the recipe's)");
  add_value(
      app, "--calib", texts.calib, "FILE",
      "calibration data: .txt, .jsonl, .parquet, .npy or .safetensors (replaces the recipe's); may be given "
      "several times");
  add_value(app, "--output", texts.output, "DIR", "folder to write (replaces the recipe's)");
  add_value(app, "--dump-ids", texts.dump_ids, "FILE",
            "write the token ids that calibrate the run, .safetensors or .npy; --calib reads them back "
            "(those of padded samples with calibration.packing=document)");
  add_compute_options(app, run.device, run.compute_dtype, run.threads);
  add_memory_options(app, texts.memory);
  add_value(
      app, "--set", run.sets, "key=value",
      "change the recipe for this run, such as rules[0].scheme.group_size=64; may be given several times");
  app.add_flag("--dry-run", run.dry_run, "say what would happen, and write nothing but --dump-ids' file");
  app.add_flag("--json", run.json, "of a dry run: JSON instead of text");
  app.add_flag("--quiet", run.quiet, "no progress, no plan and no summary");
  app.add_flag("--overwrite", run.overwrite,
               "replace an existing output folder or --dump-ids file, and give up an unfinished run of it");
  app.add_flag(
      "--resume", run.resume,
      "go on with a run of this output that was cut off; recipe, model, data and program must be the same");
  app.add_flag("--no-journal", run.no_journal,
               "keep nothing beside the output that --resume could go on from");
  app.add_option(
         "--journal-every", run.journal_every,
         "keep the hidden states between two blocks at most every so many seconds; 0 is at each block's end "
         "(default: as often as costs 3 % of the time, and every ten minutes)")
      ->type_name("SECONDS");
}

CLI::App* declare_sensitivity(CLI::App& app, RunRequest& run, Texts& texts) {
  CLI::App* sub = app.add_subcommand(
      "sensitivity",
      "what a model loses when one group of its linears is quantised, for each candidate or by its rule");
  add_value(*sub, "--recipe", texts.sensitivity_recipe, "FILE",
            "a recipe with `candidates`, such as recipes/sensitivity.yaml, or with rules");
  add_value(*sub, "--model", texts.sensitivity_model, "DIR", "floating-point model (replaces the recipe's)");
  add_value(*sub, "--calib", texts.sensitivity_calib, "FILE",
            "calibration data (replaces the recipe's); may be given several times");
  add_value(*sub, "--output", texts.sensitivity_output, "DIR",
            "folder for sensitivity.json (replaces the recipe's)");
  add_compute_options(*sub, run.device, run.compute_dtype, run.threads);
  add_memory_options(*sub, texts.sensitivity_memory);
  add_value(*sub, "--set", run.sets, "key=value",
            "change the recipe for this run; may be given several times");
  sub->add_flag("--quiet", run.quiet, "no progress and no summary");
  sub->add_flag("--overwrite", run.overwrite, "measure anew what stands there already");
  sub->add_flag("--dry-run", run.dry_run, "say what would be measured and what that takes");
  sub->add_flag("--json", run.json, "of a dry run: JSON instead of text");
  return sub;
}

CLI::App* declare_eval(CLI::App& app, EvalRequest& eval, Texts& texts) {
  CLI::App* sub = app.add_subcommand("eval", "perplexity of a model, and its divergence from a reference");
  add_value(*sub, "--model", texts.eval_model, "DIR", "a floating-point folder or one that Lathe wrote");
  add_value(*sub, "--reference", texts.eval_reference, "DIR",
            "the model to compare with, usually the original");
  add_value(*sub, "--text", texts.eval_text, "FILE", "a data file, as for --calib");
  add_value(*sub, "--kv-cache", texts.eval_kv_cache, "FILE",
            "an artefact's kv_cache.safetensors, in place of the model's own cache");
  add_value(*sub, "--ctx", eval.ctx, "N", "tokens in a row of text (512)");
  add_value(*sub, "--rows", eval.rows, "N", "rows of text; 0 is all of them");
  add_compute_options(*sub, eval.device, eval.compute_dtype, eval.threads);
  add_memory_options(*sub, texts.eval_memory);
  sub->add_flag("--json", eval.json, "JSON instead of text");
  return sub;
}

CLI::App* declare_compare(CLI::App& app, CompareRequest& compare, Texts& texts) {
  CLI::App* sub =
      app.add_subcommand("compare", "artefacts side by side: size, perplexity, divergence, errors, tokens");
  sub->add_option("DIR", texts.compare_artefacts,
                  "two folders or GGUF files or more, or one with --reference")
      ->type_name("");
  add_value(*sub, "--reference", texts.compare_reference, "DIR",
            "the floating-point model that they were made of");
  add_value(*sub, "--text", texts.compare_text, "FILE", "a data file, as for --calib");
  add_value(*sub, "--ctx", compare.ctx, "N", "tokens in a row of text (512)");
  add_value(*sub, "--rows", compare.rows, "N", "rows of text; 0 is all of them");
  add_value(*sub, "--examples", compare.examples, "N",
            "places to show at which they name different tokens (5)");
  add_compute_options(*sub, compare.device, compare.compute_dtype, compare.threads);
  add_memory_options(*sub, texts.compare_memory);
  add_value(
      *sub, "--fail-if", compare.fail_if, "CONDITION",
      "end with exit code 3 where an artefact's figure is such: kl>0.05, ppl_increase>2%, same_top<95%, "
      "size>4GiB; of kl, kl_median, kl_p99, same_top, ppl, ppl_increase, size, bits; may be given several "
      "times");
  add_value(*sub, "--junit", texts.compare_junit, "FILE", "write the conditions' results as JUnit XML");
  sub->add_flag("--json", compare.json, "JSON instead of text");
  sub->add_flag("--quiet", compare.quiet, "no progress");
  return sub;
}

CLI::App* declare_advise(CLI::App& app, AdviseRequest& advise, Texts& texts) {
  CLI::App* sub =
      app.add_subcommand("advise", "what serving a model takes of a GPU's memory, and which recipe fits");
  add_value(*sub, "--model", texts.advise_model, "DIR",
            "floating-point model: a Hugging Face folder (headers are read)");
  add_value(*sub, "--gpu", texts.advise_gpu, "NAME", "such as \"RTX 4000 Ada\", H100-SXM, L4");
  add_value(*sub, "--vram", texts.advise_vram, "SIZE", "or its memory alone, such as 20GiB");
  add_value(*sub, "--context", advise.context, "N", "tokens of a sequence (4096)");
  add_value(*sub, "--batch", advise.batch, "N", "sequences at a time (1)");
  sub->add_flag("--json", advise.json, "JSON instead of text");
  return sub;
}

CLI::App* declare_convert(CLI::App& app, ConvertRequest& convert, Texts& texts) {
  CLI::App* sub = app.add_subcommand(
      "convert", "write a finished artefact in another format, where its codes carry over exactly");
  add_value(*sub, "--model", texts.convert_model, "DIR", "a quantised folder that Lathe reads");
  add_value(*sub, "--to", convert.to, "FORMAT", "an output format (see `quantize list`)");
  add_value(*sub, "--output", texts.convert_output, "DIR", "folder to write");
  add_value(*sub, "--shard-size", texts.convert_shard_size, "SIZE",
            "of the weight files at most (5GB; GGUF: one file)");
  add_value(*sub, "--pre-tokenizer", convert.gguf_pre_tokenizer, "NAME",
            "llama.cpp's name for how text is cut (GGUF; found out where it is known)");
  add_value(*sub, "--threads", convert.threads, "N", "CPU threads; 0 is one for each core");
  sub->add_flag("--quiet", convert.quiet, "no progress");
  sub->add_flag("--overwrite", convert.overwrite, "replace an existing output folder");
  return sub;
}

CLI::App* declare_verify(CLI::App& app, VerifyRequest& verify, Texts& texts) {
  CLI::App* sub = app.add_subcommand(
      "verify", "check a finished artefact: files, tensors, configuration, and its distance from the model");
  sub->add_option("DIR", texts.verify_folder, "what a run wrote, or another quantised folder or GGUF file")
      ->type_name("");
  add_value(*sub, "--reference", texts.verify_reference, "DIR",
            "the floating-point model that it was made of");
  add_value(*sub, "--threads", verify.threads, "N", "CPU threads; 0 is one for each core");
  sub->add_flag("--json", verify.json, "JSON instead of text");
  return sub;
}

CLI::App* declare_inspect(CLI::App& app, InspectRequest& inspect, Texts& texts) {
  CLI::App* sub = app.add_subcommand(
      "inspect", "tensors, sizes and schemes of a model folder, and which servers load it");
  sub->add_option(
         "DIR", texts.inspect_folder,
         "a folder with config.json and safetensors, or with a GGUF file; or a safetensors or GGUF file")
      ->type_name("");
  sub->add_flag("--json", inspect.json, "JSON instead of text");
  return sub;
}

CLI::App* declare_list(CLI::App& app, ListRequest& list) {
  CLI::App* sub =
      app.add_subcommand("list", "algorithms with their options, observers, formats and model families");
  sub->add_flag("--json", list.json, "JSON instead of text");
  return sub;
}

/// Long names that the (sub)command knows, for the nearest one.
std::vector<std::string> flags_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_lnames().empty()) names.push_back("--" + option->get_lnames().front());
  }
  return names;
}

std::vector<std::string> commands_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  return names;
}

/// The flag that a word seems to be a second value of, as in `--calib a.txt b.txt`: one that may be given
/// several times, was, and takes files where the word is one; empty where there is none.
std::string flag_with_a_list(const CLI::App& app, const std::string& word) {
  std::error_code ignored;
  const bool there = std::filesystem::exists(word, ignored);
  const auto given = [&](const char* flag) {
    const CLI::Option* const option = app.get_option_no_throw(flag);
    return option != nullptr && option->count() > 0 && !word.starts_with("-");
  };
  if (given("--set") && word.find('=') != std::string::npos && !there) return "--set";
  const bool file = there || !std::filesystem::path(word).extension().empty();
  return given("--calib") && file ? "--calib" : "";
}

/// What CLI11 found no place for: a misspelt flag or command, or one word too many.
void refuse_leftovers(const CLI::App& app, const CLI::App* sub) {
  const std::vector<std::string> left = sub != nullptr ? sub->remaining() : app.remaining();
  const std::vector<std::string> outer = app.remaining();
  const std::string* first = !left.empty() ? &left.front() : !outer.empty() ? &outer.front() : nullptr;
  if (first == nullptr) return;
  const std::string command = sub != nullptr ? "quantize " + sub->get_name() : "quantize";
  const std::string list = flag_with_a_list(sub != nullptr ? *sub : app, *first);
  if (!list.empty())
    user_error("unexpected argument '{}': {} takes one value at a time; give `{} {}`, too", *first, list,
               list, *first);
  if (first->starts_with("-")) {
    const std::string flag = first->substr(0, first->find('='));
    user_error("unknown flag '{}' of `{}`{} (see `{} --help`)", flag, command,
               did_you_mean(flag, flags_of(sub != nullptr ? *sub : app)), command);
  }
  if (sub != nullptr)
    user_error("unexpected argument '{}' of `{}` (see `{} --help`)", *first, command, command);
  user_error("unknown command '{}'{} (commands are {}; a run is `quantize --recipe FILE`)", *first,
             did_you_mean(*first, commands_of(app)), join_words(commands_of(app)));
}

std::filesystem::path required_path(const std::string& text, const char* flag, const char* command) {
  if (text.empty()) user_error("expected {} with a value (see `{} --help`)", flag, command);
  return text;
}

std::optional<std::filesystem::path> optional_path(const CLI::App& app, const std::string& text,
                                                   const std::string& flag, const char* what = "a folder") {
  if (app.count(flag) == 0) return std::nullopt;
  if (text.empty()) user_error("{}: expected {}, found an empty text", flag, what);
  return text;
}

void check_range(const char* flag, int64_t value, int64_t minimum, int64_t maximum) {
  if (value < minimum || value > maximum) {
    user_error("{}: expected an integer from {} to {}, found {}", flag, minimum, maximum, value);
  }
}

std::optional<uint64_t> optional_size(const CLI::App& app, const std::string& text, const std::string& flag) {
  if (app.count(flag) == 0) return std::nullopt;
  const auto bytes = parse_bytes(text);
  if (!bytes) user_error("{}: expected a size such as 4GiB or 500MB, found '{}'", flag, text);
  return bytes;
}

MemoryRequests finish_memory(const CLI::App& app, const MemoryTexts& texts) {
  return {optional_size(app, texts.ram, "--max-ram"), optional_size(app, texts.vram, "--max-vram"),
          optional_size(app, texts.disk, "--max-disk"), optional_path(app, texts.work, "--work")};
}

RunRequest finish_run(const CLI::App& app, RunRequest run, const Texts& texts) {
  if (texts.recipe.empty() && app.count("--recipe") == 0) {
    user_error(
        "expected a recipe or a command: `quantize --recipe FILE`, or sensitivity, eval, compare, advise, "
        "convert, "
        "verify, inspect, list "
        "(see "
        "`quantize "
        "--help`)");
  }
  run.recipe = required_path(texts.recipe, "--recipe FILE", "quantize");
  run.model = optional_path(app, texts.model, "--model");
  run.output = optional_path(app, texts.output, "--output");
  run.dump_ids = optional_path(app, texts.dump_ids, "--dump-ids", "a file");
  for (const std::string& file : texts.calib)
    run.calib.push_back(required_path(file, "--calib FILE", "quantize"));
  check_range("--threads", run.threads, 0, kMaxThreads);
  if (run.journal_every && !(*run.journal_every >= 0 && std::isfinite(*run.journal_every)))
    user_error("--journal-every: expected seconds, 0 or more, found {}", *run.journal_every);
  for (const auto& [given, flag] : {std::pair(run.no_journal, "--no-journal"), {run.dry_run, "--dry-run"}})
    if (run.resume && given) user_error("--resume: has nothing to do beside {}; leave one of them out", flag);
  if (run.json && !run.dry_run)
    user_error("--json: is of a plan; add --dry-run (a run writes report.json beside its weights)");
  run.memory = finish_memory(app, texts.memory);
  return run;
}

SensitivityRequest finish_sensitivity(const CLI::App& sub, RunRequest run, const Texts& texts) {
  run.recipe = required_path(texts.sensitivity_recipe, "--recipe FILE", "quantize sensitivity");
  run.model = optional_path(sub, texts.sensitivity_model, "--model");
  run.output = optional_path(sub, texts.sensitivity_output, "--output");
  for (const std::string& file : texts.sensitivity_calib)
    run.calib.push_back(required_path(file, "--calib FILE", "quantize sensitivity"));
  if (run.json && !run.dry_run)
    user_error("--json: is of a plan; add --dry-run (a run writes sensitivity.json into its folder)");
  check_range("--threads", run.threads, 0, kMaxThreads);
  run.memory = finish_memory(sub, texts.sensitivity_memory);
  return {std::move(run)};
}

EvalRequest finish_eval(const CLI::App& sub, EvalRequest eval, const Texts& texts) {
  eval.model = required_path(texts.eval_model, "--model DIR", "quantize eval");
  eval.text = required_path(texts.eval_text, "--text FILE", "quantize eval");
  eval.reference = optional_path(sub, texts.eval_reference, "--reference");
  eval.kv_cache = optional_path(sub, texts.eval_kv_cache, "--kv-cache");
  check_range("--threads", eval.threads, 0, kMaxThreads);
  eval.memory = finish_memory(sub, texts.eval_memory);
  check_range("--ctx", eval.ctx, 2, 1 << 20);
  check_range("--rows", eval.rows, 0, Recipe::Evaluate::kMostRows);
  return eval;
}

CompareRequest finish_compare(const CLI::App& sub, CompareRequest compare, const Texts& texts) {
  for (const std::string& folder : texts.compare_artefacts)
    compare.artefacts.push_back(required_path(folder, "DIR", "quantize compare"));
  compare.reference = optional_path(sub, texts.compare_reference, "--reference");
  if (compare.artefacts.size() < (compare.reference || !compare.fail_if.empty() ? 1 : 2))
    user_error(
        "expected two artefacts or more, or one with --reference DIR or --fail-if CONDITION, found {} (see "
        "`quantize compare --help`)",
        compare.artefacts.size());
  compare.text = required_path(texts.compare_text, "--text FILE", "quantize compare");
  compare.junit = optional_path(sub, texts.compare_junit, "--junit", "a file");
  compare.memory = finish_memory(sub, texts.compare_memory);
  check_range("--threads", compare.threads, 0, kMaxThreads);
  check_range("--ctx", compare.ctx, 2, 1 << 20);
  check_range("--rows", compare.rows, 0, Recipe::Evaluate::kMostRows);
  check_range("--examples", compare.examples, 0, 1000);
  return compare;
}

AdviseRequest finish_advise(const CLI::App& sub, AdviseRequest advise, const Texts& texts) {
  advise.model = required_path(texts.advise_model, "--model DIR", "quantize advise");
  if (sub.count("--gpu") > 0) advise.gpu = texts.advise_gpu;
  advise.vram = optional_size(sub, texts.advise_vram, "--vram");
  if (advise.gpu.has_value() == advise.vram.has_value())
    user_error("expected --gpu NAME or --vram SIZE, found {} (see `quantize advise --help`)",
               advise.gpu ? "both" : "neither");
  if (advise.vram && *advise.vram > (uint64_t{1} << 50)) user_error("--vram: expected at most 1 PiB");
  check_range("--context", advise.context, 1, int64_t{1} << 24);
  check_range("--batch", advise.batch, 1, int64_t{1} << 16);
  return advise;
}

ConvertRequest finish_convert(const CLI::App& sub, ConvertRequest convert, const Texts& texts) {
  convert.model = required_path(texts.convert_model, "--model DIR", "quantize convert");
  convert.to = required_path(convert.to, "--to FORMAT", "quantize convert").string();
  convert.output = required_path(texts.convert_output, "--output DIR", "quantize convert");
  const auto size = optional_size(sub, texts.convert_shard_size, "--shard-size");
  if (size && *size == 0) user_error("--shard-size: expected more than 0 bytes");
  if (size) convert.shard_size = convert.gguf_shard_size = *size;
  check_range("--threads", convert.threads, 0, kMaxThreads);
  return convert;
}

VerifyRequest finish_verify(const CLI::App& sub, VerifyRequest verify, const Texts& texts) {
  verify.folder = required_path(texts.verify_folder, "DIR", "quantize verify");
  verify.reference = optional_path(sub, texts.verify_reference, "--reference");
  check_range("--threads", verify.threads, 0, kMaxThreads);
  return verify;
}

/// CLI11's text on one line, without its hint to --help.
[[noreturn]] void refuse(const CLI::ParseError& error) {
  std::string text = error.what();
  std::replace(text.begin(), text.end(), '\n', ' ');
  user_error("{} (see `quantize --help`)", text);
}

}  // namespace

Command parse_command_line(int argc, const char* const* argv) {
  CLI::App app("Lathe: offline post-training quantisation of large language models", "quantize");
  app.footer(kFooter);
  app.set_version_flag("--version", "quantize (Lathe) " LATHE_VERSION);
  app.allow_extras();
  app.fallthrough(false);
  Texts texts;
  RunRequest run, sensitivity;
  EvalRequest eval;
  CompareRequest compare;
  AdviseRequest advise;
  ConvertRequest convert;
  VerifyRequest verify;
  InspectRequest inspect;
  ListRequest list;
  declare_run(app, run, texts);
  const CLI::App* sensitivity_app = declare_sensitivity(app, sensitivity, texts);
  const CLI::App* eval_app = declare_eval(app, eval, texts);
  const CLI::App* compare_app = declare_compare(app, compare, texts);
  const CLI::App* advise_app = declare_advise(app, advise, texts);
  const CLI::App* convert_app = declare_convert(app, convert, texts);
  const CLI::App* verify_app = declare_verify(app, verify, texts);
  const CLI::App* inspect_app = declare_inspect(app, inspect, texts);
  const CLI::App* list_app = declare_list(app, list);
  for (CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    sub->allow_extras();
    sub->footer("");
  }
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app.get_subcommands();
    return PrintRequest{chosen.empty() ? app.help() : chosen.front()->help("quantize")};
  } catch (const CLI::CallForVersion& version) {
    return PrintRequest{std::string(version.what()) + "\n"};
  } catch (const CLI::ParseError& error) {
    refuse(error);
  }
  const auto chosen = app.get_subcommands();
  refuse_leftovers(app, chosen.empty() ? nullptr : chosen.front());
  if (chosen.empty()) return finish_run(app, std::move(run), texts);
  for (const std::string& flag : flags_of(app)) {
    if (flag != "--help" && flag != "--version" && app.count(flag) > 0) {
      user_error("{} comes after the command: `quantize {} {} ...`", flag, chosen.front()->get_name(), flag);
    }
  }
  if (chosen.front() == sensitivity_app)
    return finish_sensitivity(*sensitivity_app, std::move(sensitivity), texts);
  if (chosen.front() == eval_app) return finish_eval(*eval_app, std::move(eval), texts);
  if (chosen.front() == compare_app) return finish_compare(*compare_app, std::move(compare), texts);
  if (chosen.front() == advise_app) return finish_advise(*advise_app, std::move(advise), texts);
  if (chosen.front() == convert_app) return finish_convert(*convert_app, std::move(convert), texts);
  if (chosen.front() == verify_app) return finish_verify(*verify_app, std::move(verify), texts);
  if (chosen.front() == list_app) return list;
  LATHE_ASSERT(chosen.front() == inspect_app, "a command that nobody handles");
  inspect.folder = required_path(texts.inspect_folder, "DIR", "quantize inspect");
  return inspect;
}

}  // namespace lathe
