// What lets a run that was cut off go on: a hidden folder beside the output that holds a journal of what each
// finished block came to, and the hidden states that the next one begins with.
//
//   .out.journal/journal    records (lib/base/journal.h): the run's identity, then outcomes and commits
//   .out.journal/states-N   hidden states before block N, FP32, as DriverEvents::boundary hands them over
//
// A commit says how many blocks or linears are finished and which file holds the states, with its hash. Order
// at a boundary: outcomes, the new states (synced), the commit (synced), then the old states are removed. So
// whatever stops the run, the last commit that is whole names states that are whole. What waits for the disk
// does so in another thread, while the next block is worked on: its end waits for the boundary before it.
//
// A run that goes on is given the outcomes again and passes them where fresh ones go: writers and report
// begin anew, and nobody else needs to know of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/quantize/requests.h"
#include "calib/driver/driver.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/journal.h"
#include "lib/base/scratch_file.h"
#include "lib/model/graph.h"

namespace lathe {

class RunJournal {
 public:
  /// Of the run that fills `output`. UserError where it isn't to go on, an unfinished run's journal is there
  /// and may not be overwritten; and where what is there is no journal. A run that is to go on, and nothing
  /// was finished, begins anew: whoever always asks for it (a job that is started until it ends) need not
  /// know how far the last one came.
  RunJournal(const OutputFolder& output, const RunRequest& request);
  /// Keeps the journal where something was committed, else removes it.
  ~RunJournal();
  RunJournal(const RunJournal&) = delete;
  RunJournal& operator=(const RunJournal&) = delete;

  /// Did a run that was to be gone on with finish, but for removing its journal? Then it is removed now.
  static bool was_finished(const std::filesystem::path& output);

  /// Once, before all that follows: begins the journal, or finds out where to go on. UserError where the
  /// identity is another one than the unfinished run's, saying what differs. The graph must outlive this.
  void begin(const ModelGraph& graph, const nlohmann::json& identity);
  /// For people, where a run goes on: how far it had come, of `total` blocks or linears (`what`), and what of
  /// its journal is damaged. A line each.
  std::vector<std::string> news(size_t total, std::string_view what) const;
  /// Blocks, or units of a run without calibration, that are finished.
  size_t finished() const { return finished_; }

  /// Outcomes of the unfinished run, in order: is there one more?
  bool has_next() const { return next_ < outcomes_.size(); }
  BlockOutcome next();
  /// Hidden states before block finished(), into whatever the driver asks to be filled. UserError where they
  /// changed since begin().
  void fill_states(at::Tensor& states);

  /// Appends an outcome; it counts with the next commit.
  void add(const BlockOutcome& outcome);
  /// All that was added counts from now on, `finished` blocks or linears; where the power fails, what is
  /// older than a second or so.
  void commit(size_t finished);
  /// The same of blocks, with the states that block `finished` begins with, once all is on the disk: before
  /// anything is added. Not of blocks that follow faster than states are written: a boundary is passed over
  /// while less time went by since the last one than RunRequest::journal_every, or than makes writing that
  /// one kCostOfBoundaries of it. UserError, here or where the disk is waited for, as AppendFile.
  void commit(size_t finished, const std::function<void(const TakeStates&)>& hand_over);

  /// The artefact is whole, and `working` is about to get the output's name.
  void note_written(const std::filesystem::path& working);
  void remove();

  /// Does the run's work. Where that ends early with something to go on from, the error says so.
  void guard(const std::function<void()>& work);

 private:
  std::filesystem::path file() const { return folder_ / "journal"; }
  std::filesystem::path states_file(size_t block) const;
  void start_anew(const nlohmann::json& identity);
  void open_unfinished(const nlohmann::json& identity);
  void check_identity(const nlohmann::json& identity) const;
  size_t find_last_commit();
  bool take_commit(size_t record);
  /// Waits for what is under way to the disk. UserError where that failed.
  void settle();
  void finish_commit(size_t finished, AppendFile states, const std::string& hash);
  void append_commit(size_t finished, const nlohmann::json& states);
  void remove_states_but(std::optional<size_t> block);

  std::filesystem::path output_, folder_;
  bool written_ = true;  // is a journal written?
  std::optional<double> every_;
  bool resume_ = false;
  bool nothing_there_ = false;  // of a run that was to go on
  bool begun_ = false;          // is the folder this run's to remove?
  const ModelGraph* graph_ = nullptr;
  std::optional<JournalReader> reader_;
  std::optional<JournalWriter> writer_;
  std::vector<size_t> outcomes_;  // records of the reader
  size_t next_ = 0;
  size_t finished_ = 0;
  std::optional<size_t> states_;  // the block that a file holds the states of
  uint64_t states_bytes_ = 0;
  MappedFile restored_;       // states to begin with,
  uint64_t restored_to_ = 0;  // and how many of their bytes were asked for
  size_t added_ = 0;          // outcomes in the journal
  Stopwatch since_sync_, since_boundary_;
  std::optional<double> boundary_seconds_;  // that the last one took; nothing: there was none
  CountedScratch scratch_;
  std::future<void>
      boundary_;  // finish_commit(), which works on all of this: nothing else does before its end
  std::future<void> syncing_;  // of the journal, beside whatever is appended
  std::string warning_;
};

}  // namespace lathe
