#include "apps/quantize/journal/run_journal.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "apps/quantize/journal/outcome_record.h"
#include "apps/quantize/journal/run_identity.h"
#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/tensor/aten.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

enum RecordType : uint32_t { kIdentity = 1, kOutcome = 2, kCommit = 3, kWritten = 4 };

constexpr size_t kNamedDifferences = 3;
constexpr double kSecondsUnsynced = 1;
/// Of a run's time, that boundaries may take; but what a kill costs has a limit, too.
constexpr double kCostOfBoundaries = 0.03, kMostSecondsBetween = 600;
constexpr std::string_view kStates = "states-";

fs::path folder_of(const fs::path& output) { return hidden_sibling(output, "journal"); }

json parse(std::span<const std::byte> bytes) {
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  return json::parse(text, text + bytes.size(), nullptr, /*allow_exceptions=*/false);
}

std::string dump(const json& content) { return content.dump(-1, ' ', false, json::error_handler_t::replace); }

/// Stays the same when the folder is renamed.
json folder_number(const fs::path& folder) {
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0) return nullptr;
  return {{"device", info.st_dev}, {"inode", info.st_ino}};
}

bool has_commit(const JournalReader& reader) {
  return std::ranges::any_of(reader.records(), [](const auto& record) { return record.type == kCommit; });
}

struct InterruptedWithHint : Interrupted {
  explicit InterruptedWithHint(std::string line) : text(std::move(line)) {}
  const char* what() const noexcept override { return text.c_str(); }
  std::string text;
};

}  // namespace

RunJournal::RunJournal(const OutputFolder& output, const RunRequest& request)
    : output_(output.target()),
      folder_(folder_of(output.target())),
      written_(!request.no_journal),
      every_(request.journal_every),
      resume_(request.resume) {
  const bool begun = fs::is_directory(folder_);
  nothing_there_ = resume_ && !begun;
  if (resume_ || request.overwrite || !begun || !fs::exists(file())) return;
  if (!has_commit(JournalReader(file()))) return;  // nothing is lost with it
  user_error(
      "output {}: a run of it was left unfinished ({} beside it): pass --resume to go on with it, or "
      "--overwrite to start anew",
      output_.string(), folder_.filename().string());
}

RunJournal::~RunJournal() {
  try {
    settle();
  } catch (const UserError&) {
    // Whoever waited for it was told; else the run ended for another reason.
  }
  writer_.reset();
  if (!begun_ || finished_ > 0) return;
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

bool RunJournal::was_finished(const fs::path& output) {
  const fs::path place = output_place(output), folder = folder_of(place);
  if (!fs::is_directory(place) || !fs::exists(folder / "journal")) return false;
  const auto lock = FileLock::try_take(hidden_sibling(place, "lock"));  // and removes a killed run's
  if (!lock) return false;
  {
    const JournalReader reader(folder / "journal");
    if (reader.records().empty() || reader.records().back().type != kWritten) return false;
    if (parse(reader.payload(reader.records().size() - 1)) != folder_number(place)) return false;
  }
  fs::remove_all(folder);
  return true;
}

void RunJournal::begin(const ModelGraph& graph, const json& identity) {
  graph_ = &graph;
  if (resume_) open_unfinished(identity);
  if (!writer_) start_anew(identity);
  begun_ = written_;
  scratch_.set(written_ ? writer_->size() + states_bytes_ : 0);
}

void RunJournal::start_anew(const json& identity) {
  std::error_code code;
  fs::remove_all(folder_, code);
  if (!written_) return;
  if (!fs::create_directory(folder_, code))
    user_error("{}: the journal's folder can't be made: {}", folder_.string(), code.message());
  begun_ = true;
  writer_.emplace(JournalWriter::create(file()));
  writer_->append(kIdentity, dump(identity));
  writer_->sync();
  sync_folder(folder_);
  sync_folder(folder_.parent_path());
}

void RunJournal::open_unfinished(const json& identity) {
  if (!fs::exists(file())) return;
  reader_.emplace(file());
  if (!has_commit(*reader_)) {  // nothing is lost with it, whatever it was made from
    const std::string damage =
        reader_->records().empty() && reader_->damage().empty() ? "has no records" : reader_->damage();
    if (!damage.empty()) warning_ = fmt::format("{}: {}; the run starts anew", file().string(), damage);
    reader_.reset();
    return;
  }
  check_identity(identity);
  const size_t kept = find_last_commit();
  if (!reader_->damage().empty() && warning_.empty())
    warning_ = fmt::format("{}: {}; they are cut off", file().string(), reader_->damage());
  for (size_t i = 0; i < kept; ++i) {
    if (reader_->records()[i].type == kOutcome) outcomes_.push_back(i);
  }
  added_ = outcomes_.size();
  writer_.emplace(JournalWriter::go_on(file(), *reader_, kept));
  remove_states_but(states_);
}

void RunJournal::check_identity(const json& identity) const {
  const json was = parse(reader_->payload(0));
  if (reader_->records().front().type != kIdentity || !was.is_object()) {
    user_error("{}: does not begin with what the run was; start anew with --overwrite", file().string());
  }
  const std::vector<std::string> found = differences(was, json::parse(dump(identity)));
  if (found.empty()) return;
  std::string text;
  for (size_t i = 0; i < std::min(found.size(), kNamedDifferences); ++i)
    text += (i > 0 ? ", " : "") + found[i];
  if (found.size() > kNamedDifferences)
    text += fmt::format(", and {} more", found.size() - kNamedDifferences);
  user_error(
      "output {}: --resume: what the unfinished run was made from has changed: {}; put it back, or "
      "start anew with --overwrite",
      output_.string(), text);
}

/// Records up to the last commit whose states are whole, it included; 1 where there is none.
size_t RunJournal::find_last_commit() {
  for (size_t i = reader_->records().size(); i-- > 1;) {
    if (reader_->records()[i].type == kCommit && take_commit(i)) return i + 1;
  }
  return 1;
}

/// Takes the commit's states, where they are whole.
bool RunJournal::take_commit(size_t record) {
  const json commit = parse(reader_->payload(record));
  const auto outcomes = static_cast<size_t>(
      std::count_if(reader_->records().begin(), reader_->records().begin() + static_cast<ptrdiff_t>(record),
                    [](const auto& r) { return r.type == kOutcome; }));
  if (!commit.is_object() || commit.value("outcomes", json()) != outcomes ||
      !commit.value("finished", json()).is_number_unsigned()) {
    user_error("{}: record {} is no commit of the {} outcomes before it; start anew with --overwrite",
               file().string(), record, outcomes);
  }
  const auto finished = commit.at("finished").get<size_t>();
  const json states = commit.value("states", json());
  if (!states.is_null()) {
    const fs::path path = states_file(finished);
    std::error_code code;
    const uint64_t bytes = fs::file_size(path, code);
    const bool whole = !code && states == json{{"bytes", bytes}, {"hash", content_hash_of_file(path)}};
    if (!whole) {
      if (warning_.empty())
        warning_ = fmt::format(
            "{}: the hidden states before block {} are damaged or missing; work that was "
            "finished is done again",
            path.string(), finished);
      return false;
    }
    restored_ = MappedFile::open(path);
    states_ = finished;
    states_bytes_ = bytes;
  }
  finished_ = finished;
  return true;
}

std::vector<std::string> RunJournal::news(size_t total, std::string_view what) const {
  std::vector<std::string> lines;
  if (nothing_there_) {
    lines.push_back(fmt::format(
        "resume: no run of it was left unfinished (there is no {} beside it): it starts from the beginning",
        folder_.filename().string()));
  } else if (resume_) {
    lines.push_back(fmt::format("resume: {} of {} {} are finished", finished_, total, what));
  }
  if (!warning_.empty()) lines.push_back("warning: " + warning_);
  return lines;
}

BlockOutcome RunJournal::next() {
  LATHE_ASSERT(has_next(), "{} outcomes, and no more", outcomes_.size());
  const size_t record = outcomes_[next_++];
  BlockOutcome outcome = read_outcome(reader_->payload(record), *graph_);
  reader_->release(record);
  return outcome;
}

void RunJournal::fill_states(at::Tensor& states) {
  const auto bytes = restored_.bytes();
  if (states.nbytes() > bytes.size() - restored_to_) {
    user_error("{}: holds {} bytes, fewer than the run's hidden states take; start anew with --overwrite",
               folder_.string(), bytes.size());
  }
  const auto piece = bytes.subspan(restored_to_, states.nbytes());
  std::memcpy(states.data_ptr(), piece.data(), piece.size());
  restored_to_ += piece.size();
  restored_.release(piece);
}

void RunJournal::settle() {
  if (boundary_.valid()) boundary_.get();
  if (syncing_.valid()) syncing_.get();
}

void RunJournal::add(const BlockOutcome& outcome) {
  if (!written_) return;
  if (boundary_.valid()) boundary_.get();
  writer_->append(kOutcome, outcome_bytes(outcome, *graph_),
                  [&](const JournalWriter::Sink& sink) { write_outcome(outcome, *graph_, sink); });
  ++added_;
}

void RunJournal::append_commit(size_t finished, const json& states) {
  writer_->append(kCommit, dump({{"finished", finished}, {"outcomes", added_}, {"states", states}}));
}

void RunJournal::commit(size_t finished) {
  if (!written_) return;
  if (boundary_.valid()) boundary_.get();
  if (finished == finished_) return;
  append_commit(finished, nullptr);
  finished_ = finished;
  if (states_) {  // that was the last block
    writer_->sync();
    remove_states_but(std::nullopt);
  } else if (since_sync_.seconds() > kSecondsUnsynced) {
    if (syncing_.valid()) syncing_.get();
    syncing_ = std::async(std::launch::async, [this] { writer_->sync_appended(); });
    since_sync_ = {};
  }
  scratch_.set(writer_->size());
}

void RunJournal::commit(size_t finished, const std::function<void(const TakeStates&)>& hand_over) {
  if (!written_) return;
  settle();
  if (boundary_seconds_) {
    const double between =
        every_.value_or(std::min(*boundary_seconds_ / kCostOfBoundaries, kMostSecondsBetween));
    if (since_boundary_.seconds() < between) return;
  }
  since_boundary_ = {};
  ContentHasher hasher;
  AppendFile states = AppendFile::create(states_file(finished));
  hand_over([&](const at::Tensor& piece) {
    hasher.add(bytes_of(piece));
    states.append(bytes_of(piece));
  });
  states.flush();
  scratch_.set(writer_->size() + states_bytes_ + states.size());
  boundary_ = std::async(std::launch::async, &RunJournal::finish_commit, this, finished, std::move(states),
                         hasher.text());
}

void RunJournal::finish_commit(size_t finished, AppendFile states, const std::string& hash) {
  states.sync();
  sync_folder(folder_);
  append_commit(finished, {{"bytes", states.size()}, {"hash", hash}});
  writer_->sync();
  finished_ = finished;
  states_ = finished;
  states_bytes_ = states.size();
  remove_states_but(finished);
  boundary_seconds_ = since_boundary_.seconds();
  scratch_.set(writer_->size() + states_bytes_);
}

fs::path RunJournal::states_file(size_t block) const { return folder_ / fmt::format("{}{}", kStates, block); }

void RunJournal::remove_states_but(std::optional<size_t> block) {
  std::error_code ignored;
  std::vector<fs::path> old;
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    const bool states = entry.path().filename().string().starts_with(kStates);
    if (states && (!block || entry.path() != states_file(*block))) old.push_back(entry.path());
  }
  for (const fs::path& path : old) fs::remove(path, ignored);
  if (block) return;
  states_.reset();
  states_bytes_ = 0;
}

void RunJournal::note_written(const fs::path& working) {
  if (!written_) return;
  settle();
  writer_->append(kWritten, dump(folder_number(working)));
  writer_->sync();
}

void RunJournal::remove() {
  settle();
  writer_.reset();
  finished_ = 0;
  scratch_.set(0);
  if (!written_) return;
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void RunJournal::guard(const std::function<void()>& work) {
  const auto kept = [&] {
    if (boundary_.valid()) boundary_.wait();
    return written_ && finished_ > 0;
  };
  const auto with_hint = [&](const char* line, const char* next) {
    return fmt::format("{}; what was finished is kept in {}: {}", line, folder_.string(), next);
  };
  constexpr const char* kGoOn = "the same command with --resume goes on from there";
  try {
    work();
  } catch (const Interrupted& error) {
    if (!kept()) throw;
    throw InterruptedWithHint(with_hint(error.what(), kGoOn));
  } catch (const UserError& error) {
    if (!kept()) throw;
    throw UserError(with_hint(error.what(), kGoOn));
  } catch (const CheckFailed& error) {
    if (!kept()) throw;
    // A disk that lost bytes is one reason, which is gone then; others come again.
    throw CheckFailed(
        with_hint(error.what(), "--resume writes and checks it again, --overwrite starts anew"));
  }
}

}  // namespace lathe
