// What the command line asks for, parsed and checked for form. Nothing here has been opened yet.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace lathe {

/// --max-ram, --max-vram, --max-disk (bytes) and --work.
struct MemoryRequests {
  std::optional<uint64_t> ram, vram, disk;
  std::optional<std::filesystem::path> work;
};

/// `quantize --recipe FILE ...`. What is given here replaces the recipe's value.
struct RunRequest {
  std::filesystem::path recipe;
  std::optional<std::filesystem::path> model;
  std::vector<std::filesystem::path> calib;  // not empty: replaces the recipe's calibration data
  std::optional<std::filesystem::path> output;
  std::optional<std::filesystem::path> dump_ids;  // where to write the calibration ids
  std::string device = "auto";                    // for resolve_device()
  std::string compute_dtype = "auto";             // for resolve_compute_dtype()
  int threads = 0;                                // 0: libtorch's default; main() applies it
  std::vector<std::string> sets;                  // "rules[0].scheme.group_size=64", for load_recipe()
  MemoryRequests memory;
  bool dry_run = false;
  bool json = false;  // of a dry run: JSON instead of text
  bool quiet = false;
  bool overwrite = false;
  bool resume = false;      // go on with a run that was cut off
  bool no_journal = false;  // keep nothing to go on from
  /// Seconds from one boundary that the journal keeps to the next, at the least; nothing: as many as make it
  /// cost little (RunJournal::commit()).
  std::optional<double> journal_every = std::nullopt;
};

/// `quantize sensitivity --recipe FILE ...`: of a run's settings those that it has.
struct SensitivityRequest {
  RunRequest run;
};

/// `quantize eval ...`
struct EvalRequest {
  std::filesystem::path model;
  std::optional<std::filesystem::path> reference;
  std::optional<std::filesystem::path> kv_cache;  // a kv_cache_file.h to use in place of the model's own
  std::filesystem::path text;
  int64_t ctx = 512;
  int64_t rows = 0;  // 0: all
  std::string device = "auto";
  std::string compute_dtype = "auto";
  int threads = 0;
  MemoryRequests memory;
  bool json = false;
};

/// `quantize convert ...`
struct ConvertRequest {
  std::filesystem::path model;
  std::string to;  // for find_target()
  std::filesystem::path output;
  uint64_t shard_size = 5'000'000'000;
  uint64_t gguf_shard_size = 0;    // of a GGUF file's parts; 0: one file
  std::string gguf_pre_tokenizer;  // tokenizer.ggml.pre; empty: found out
  int threads = 0;
  bool quiet = false;
  bool overwrite = false;
};

/// `quantize inspect DIR`
struct InspectRequest {
  std::filesystem::path folder;
  bool json = false;
};

/// `quantize verify DIR`
struct VerifyRequest {
  std::filesystem::path folder;
  std::optional<std::filesystem::path> reference;
  int threads = 0;
  bool json = false;
};

/// `quantize compare A B ...`
struct CompareRequest {
  std::vector<std::filesystem::path> artefacts;  // two, or one with a reference
  std::optional<std::filesystem::path> reference;
  std::filesystem::path text;
  int64_t ctx = 512;
  int64_t rows = 0;      // 0: all
  int64_t examples = 5;  // positions at which they disagree, to be shown
  std::string device = "auto";
  std::string compute_dtype = "auto";
  int threads = 0;
  MemoryRequests memory;
  std::vector<std::string> fail_if;  // for parse_condition()
  std::optional<std::filesystem::path> junit;
  bool json = false;
  bool quiet = false;
};

/// `quantize advise ...`
struct AdviseRequest {
  std::filesystem::path model;
  std::optional<std::string> gpu;  // for find_gpu(); either this
  std::optional<uint64_t> vram;    // or this, bytes
  int64_t context = 4096;
  int64_t batch = 1;
  bool json = false;
};

/// `quantize list`
struct ListRequest {
  bool json = false;
};

/// --help and --version: text for stdout.
struct PrintRequest {
  std::string text;
};

using Command = std::variant<RunRequest, SensitivityRequest, EvalRequest, CompareRequest, AdviseRequest,
                             ConvertRequest, VerifyRequest, InspectRequest, ListRequest, PrintRequest>;

}  // namespace lathe
