#include "formats/safetensors/checkpoint.h"

#include <algorithm>
#include <array>
#include <optional>
#include <regex>
#include <set>
#include <utility>

#include "formats/safetensors/json_text.h"
#include "formats/safetensors/quantization_file.h"
#include "formats/safetensors/safetensors_header.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/strings.h"
#include "lib/base/terminal.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kConfigFile = "config.json";
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr std::string_view kIndexEnding = ".index.json";
constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;
constexpr uint64_t kMaxIndexBytes = uint64_t{100} << 20;

/// Without fs::exists' exception for a name that is too long or a folder that may not be searched.
bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// tensor name -> shard file; from the index.
using WeightMap = std::map<std::string, std::string>;

bool is_plain_file_name(std::string_view name) {
  const auto bad = [](char c) { return c == '/' || c == '\\' || is_control(c); };
  return !name.empty() && name[0] != '.' && std::none_of(name.begin(), name.end(), bad);
}

WeightMap read_index(const fs::path& path) {
  const json index = read_json_object(path, kMaxIndexBytes);
  const auto found = index.find("weight_map");
  if (found == index.end()) user_error("{}: has no 'weight_map'", path.string());
  if (!found->is_object()) {
    user_error("{}: weight_map: expected an object, found {}", path.string(), found->type_name());
  }
  if (found->empty()) user_error("{}: weight_map: lists no tensor", path.string());
  WeightMap map;
  for (const auto& [name, file] : found->items()) {
    if (!file.is_string()) {
      user_error("{}: weight_map: {}: expected a file name, found {}", path.string(), quote_text(name),
                 file.type_name());
    }
    const auto& text = file.get_ref<const std::string&>();
    if (!is_plain_file_name(text) || !text.ends_with(".safetensors")) {
      user_error("{}: weight_map: {}: expected the name of a .safetensors file in the same folder, found {}",
                 path.string(), quote_text(name), quote_text(text));
    }
    map[name] = text;
  }
  return map;
}

/// What to say about a folder without model.safetensors and without an index.
[[noreturn]] void no_weights(const fs::path& folder) {
  static constexpr std::array<std::string_view, 4> kOther = {".safetensors", ".gguf", ".bin", ".pt"};
  std::error_code ignored;
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    names.insert(entry.path().filename().string());
  for (const std::string_view extension : kOther) {
    const auto named =
        std::find_if(names.begin(), names.end(), [&](const auto& n) { return n.ends_with(extension); });
    if (named != names.end()) {
      user_error("{}: holds {}, but neither {} nor {}: expected a whole safetensors checkpoint",
                 folder.string(), quote_text(*named), kSingleFile, kIndexFile);
    }
  }
  user_error("{}: holds neither {} nor {}: expected a Hugging Face model folder", folder.string(),
             kSingleFile, kIndexFile);
}

/// The one file, or the one index, that AutoGPTQ named by bits and group (gptq_model-4bit-128g.safetensors),
/// which GPTQModel looks for still (models/loader.py, possible_model_basenames). Empty: there is none.
std::string autogptq_file(const fs::path& folder) {
  static const std::regex kName("gptq_model-[0-9]+bit-(-1|[0-9]+)g[.]safetensors([.]index[.]json)?");
  std::error_code ignored;
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (std::regex_match(name, kName)) names.insert(name);
  }
  return names.size() == 1 ? *names.begin() : "";
}

json read_config(const fs::path& folder) {
  std::error_code ignored;
  const fs::path path = folder / kConfigFile;
  if (!fs::is_directory(folder, ignored)) {
    user_error("{}: {}: expected a Hugging Face model folder", folder.string(),
               present(folder) ? "is not a folder" : "does not exist");
  }
  if (!present(path)) {
    user_error("{}: missing; expected a Hugging Face model folder", path.string());
  }
  return read_json_object(path, kMaxConfigBytes);
}

bool holds_weights(const std::string& name) {
  static constexpr std::array<std::string_view, 15> kEndings = {
      ".safetensors", ".bin",     ".pt",  ".pth", ".ckpt",   ".gguf", ".ggml",      ".onnx",
      ".h5",          ".msgpack", ".npz", ".ot",  ".tflite", ".pkl",  ".index.json"};
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [&](std::string_view end) { return lower.ends_with(end); });
}

}  // namespace

struct Checkpoint::State {
  struct Shard {
    std::string file;
    MappedFile mapping;
  };
  struct Place {
    size_t shard = 0;
    uint64_t begin = 0, end = 0;
  };

  fs::path folder;
  json config;
  std::string quantization_file;  // where its quantization_config came from
  std::string index_file = kIndexFile;
  std::vector<Shard> shards;
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, Place> places;
  uint64_t total_bytes = 0;
  std::function<TensorView(const std::string&)> make;  // of a checkpoint without shards

  void open_shards() {
    const bool single = present(folder / kSingleFile);
    const bool sharded = present(folder / kIndexFile);
    if (single && sharded) {
      user_error("{}: holds both {} and {}; remove the one that doesn't belong to this model",
                 folder.string(), kSingleFile, kIndexFile);
    }
    std::string file = single ? kSingleFile : kIndexFile;
    if (!single && !sharded && (file = autogptq_file(folder)).empty()) no_weights(folder);
    if (!file.ends_with(kIndexEnding)) return add_shard(file, nullptr);
    index_file = file;
    open_indexed();
  }

  void open_indexed() {
    const WeightMap map = read_index(folder / index_file);
    std::set<std::string> files;
    for (const auto& [name, file] : map) files.insert(file);
    check_shards_exist(map);
    for (const std::string& file : files) add_shard(file, &map);
    check_index_is_covered(map);
  }

  /// Before any header is read, so that an interrupted download is named as such.
  void check_shards_exist(const WeightMap& map) const {
    for (const auto& [name, file] : map) {
      if (!present(folder / file)) {
        user_error("{}: names the shard {} (for {}), which is missing from the folder", index_path(),
                   quote_text(file), quote_text(name));
      }
    }
  }

  void add_shard(const std::string& file, const WeightMap* map) {
    const std::string path = (folder / file).string();
    Shard shard{file, MappedFile::open(path)};
    SafetensorsHeader header = parse_safetensors_header(shard.mapping.bytes(), path);
    shard.mapping.release(shard.mapping.bytes());
    for (StoredTensor& tensor : header.tensors) {
      if (map != nullptr) check_is_indexed(tensor.name, file, *map);
      places[tensor.name] = {shards.size(), tensor.begin, tensor.end};
      total_bytes += tensor.end - tensor.begin;
      tensors.emplace(std::move(tensor.name), std::move(tensor.info));
    }
    shards.push_back(std::move(shard));
  }

  void check_is_indexed(const std::string& name, const std::string& file, const WeightMap& map) const {
    const auto listed = map.find(name);
    const std::string path = (folder / file).string();
    if (listed == map.end()) {
      user_error("{}: holds tensor {}, which {} doesn't list; index and shards belong to different models",
                 path, quote_text(name), index_file);
    }
    if (listed->second != file) {
      user_error("{}: holds tensor {}, which {} assigns to {}", path, quote_text(name), index_file,
                 quote_text(listed->second));
    }
  }

  void check_index_is_covered(const WeightMap& map) const {
    for (const auto& [name, file] : map) {
      if (!tensors.contains(name)) {
        user_error("{}: says that {} holds tensor {}, but it does not", index_path(), quote_text(file),
                   quote_text(name));
      }
    }
  }

  std::string index_path() const { return (folder / index_file).string(); }

  const Place& place(const std::string& name) const {
    const auto found = places.find(name);
    if (found != places.end()) return found->second;
    std::vector<std::string> names;
    for (const auto& [known, info] : tensors) names.push_back(known);
    user_error("{}: has no tensor {}{}", folder.string(), quote_text(name), did_you_mean(name, names));
  }
};

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open(const fs::path& folder) {
  auto state = std::make_unique<State>();
  state->folder = folder;
  state->config = read_config(folder);
  state->open_shards();
  const bool packed = std::ranges::any_of(
      state->tensors, [](const auto& tensor) { return tensor.first.ends_with(".qweight"); });
  state->quantization_file = add_quantization_file(folder, packed, state->config);
  return Checkpoint(std::move(state));
}

Checkpoint Checkpoint::made(const fs::path& place, json config, std::map<std::string, TensorInfo> tensors,
                            std::function<TensorView(const std::string&)> make) {
  auto state = std::make_unique<State>();
  state->folder = place;
  state->config = std::move(config);
  state->tensors = std::move(tensors);
  state->make = std::move(make);
  for (const auto& [name, info] : state->tensors) state->total_bytes += info.nbytes();
  return Checkpoint(std::move(state));
}

const fs::path& Checkpoint::folder() const { return state_->folder; }
const json& Checkpoint::config() const { return state_->config; }
std::string Checkpoint::quantization_place() const {
  const std::string& file = state_->quantization_file;
  return (state_->folder / file).string() + (file == kConfigFile ? ": quantization_config" : "");
}
const std::map<std::string, TensorInfo>& Checkpoint::tensors() const { return state_->tensors; }
bool Checkpoint::contains(const std::string& name) const { return state_->tensors.contains(name); }
uint64_t Checkpoint::total_bytes() const { return state_->total_bytes; }

TensorView Checkpoint::view(const std::string& name) const {
  if (state_->make) return state_->make(name);
  const State::Place& place = state_->place(name);
  const auto bytes = state_->shards[place.shard].mapping.bytes();
  return {state_->tensors.at(name), bytes.subspan(place.begin, place.end - place.begin)};
}

void Checkpoint::release(const std::string& name, std::span<const std::byte> part) const {
  if (state_->make) return;
  state_->shards[state_->place(name).shard].mapping.release(part);
}

const std::string& Checkpoint::file_of(const std::string& name) const {
  LATHE_ASSERT(!state_->make, "'{}' stands in no shard", name);
  return state_->shards[state_->place(name).shard].file;
}

void Checkpoint::rename(const std::string& from, const std::string& to) {
  if (contains(to)) {
    user_error("{}: tensors {} and {} are two spellings of one name; remove one of them",
               state_->folder.string(), quote_text(from), quote_text(to));
  }
  const auto move = [&](auto& table) {
    auto entry = table.extract(from);
    LATHE_ASSERT(!entry.empty(), "no tensor {}", from);
    entry.key() = to;
    table.insert(std::move(entry));
  };
  move(state_->tensors);
  move(state_->places);
}

void Checkpoint::split(const std::string& name, const std::vector<Part>& parts) {
  const State::Place whole = state_->place(name);
  const TensorInfo info = state_->tensors.at(name);
  const int64_t columns = info.shape.back(), rows = info.numel() / columns;
  const uint64_t row_bytes = info.nbytes() / static_cast<uint64_t>(rows);
  std::map<int64_t, int64_t> covered;  // first row -> rows
  for (const Part& part : parts) {
    LATHE_ASSERT(!contains(part.name), "{} is there already", part.name);
    covered[part.first_row] = part.rows;
    const uint64_t begin = whole.begin + static_cast<uint64_t>(part.first_row) * row_bytes;
    state_->tensors[part.name] = {info.dtype, {part.rows, columns}};
    state_->places[part.name] = {whole.shard, begin, begin + static_cast<uint64_t>(part.rows) * row_bytes};
  }
  int64_t next = 0;
  for (const auto& [first, count] : covered) {
    LATHE_ASSERT(first == next, "{}: its parts leave or repeat row {}", name, next);
    next = first + count;
  }
  LATHE_ASSERT(next == rows && covered.size() == parts.size(), "{}: its parts cover {} of {} rows", name,
               next, rows);
  state_->tensors.erase(name);
  state_->places.erase(name);
}

namespace {

/// A subfolder that is a model of its own, or kernels' layouts of this one, or what its cache is rounded by.
bool stands_for_itself(const fs::path& folder) {
  return folder.filename() == "layouts" || folder.filename() == "kv_cache" || present(folder / kConfigFile);
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  return std::ranges::mismatch(folder, path).in1 == folder.end();
}

/// A link may lead to a file of the same folder, or into the hub's cache (snapshots/<revision>/a ->
/// ../../blobs/<hash>). What else it leads to is not the model's, and would leave this machine with the
/// artefact that it is copied into.
void check_link(const fs::path& link, const fs::path& root) {
  std::error_code code;
  const fs::path home = fs::canonical(root, code), target = fs::canonical(link, code);
  if (code) user_error("{}: can't be followed: {}", link.string(), code.message());
  const fs::path snapshots = home.parent_path();
  const bool in_cache =
      snapshots.filename() == "snapshots" && lies_in(target, snapshots.parent_path() / "blobs");
  if (in_cache || lies_in(target, home)) return;
  user_error(
      "{}: is a link to {}, outside the model's folder, and would be copied into the artefact: put the file "
      "itself "
      "there, or remove the link",
      link.string(), quote_text(target.string()));
}

void add_side_files(const fs::path& folder, const fs::path& root, int depth, std::vector<fs::path>& files) {
  std::error_code code;
  for (fs::directory_iterator entry(folder, code), end; !code && entry != end; entry.increment(code)) {
    const std::string name = entry->path().filename().string();
    std::error_code ignored;  // a dangling link is no regular file
    if (name.starts_with('.') || holds_weights(name)) continue;
    if (entry->is_regular_file(ignored)) {
      if (entry->is_symlink(ignored)) check_link(entry->path(), root);
      files.push_back(entry->path());
    } else if (depth > 0 && !entry->is_symlink(ignored) && entry->is_directory(ignored) &&
               !stands_for_itself(entry->path())) {
      add_side_files(entry->path(), root, depth - 1, files);
    }
  }
  if (code) user_error("{}: can't be listed: {}", folder.string(), code.message());
}

}  // namespace

std::vector<fs::path> Checkpoint::side_files() const {
  constexpr int kDepth = 4;
  std::vector<fs::path> files;
  std::error_code ignored;
  if (state_->make && !fs::is_directory(state_->folder, ignored)) return files;  // a GGUF file
  add_side_files(state_->folder, state_->folder, kDepth, files);
  std::erase(files, state_->folder / kConfigFile);
  if (state_->make) {  // its tensors are others than those that such a file is about
    for (const char* name : {"hf_quant_config.json", "quantize_config.json", "quant_config.json"})
      std::erase(files, state_->folder / name);
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace lathe
