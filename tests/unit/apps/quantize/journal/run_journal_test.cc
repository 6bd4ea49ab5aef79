// What a run that was cut off leaves is what the next one goes on with: no more, no less, and only if it is
// the same run.
#include "apps/quantize/journal/run_journal.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "lib/base/error.h"
#include "tests/unit/calib/driver/tiny_model.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class RunJournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / fmt::format("lathe-run-journal-{}", ::getpid());
    fs::create_directory(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  BlockOutcome outcome(size_t block) const {
    BlockOutcome result;
    result.index = block;
    LinearOutcome& linear = result.linears.emplace_back();
    linear.linear = &graph_.blocks[block].linears[0];
    linear.quantized.codes = at::full({2, 2}, static_cast<int64_t>(block), at::kChar);
    return result;
  }
  static at::Tensor states(size_t block) {
    return at::arange(24, at::kFloat).view({2, 3, 4}) + 100.0 * block;
  }
  static void finish(RunJournal& journal, size_t block, const BlockOutcome& outcome) {
    journal.add(outcome);
    journal.commit(block + 1, [&](const TakeStates& take) {
      take(states(block + 1).narrow(0, 0, 1));
      take(states(block + 1).narrow(0, 1, 1));
    });
  }
  /// A run that dies behind `blocks` blocks.
  void begin_and_die(size_t blocks, const nlohmann::json& identity = {{"a", 1}}) {
    const OutputFolder output(folder_ / "out", false);
    RunJournal journal(output, kEach);
    journal.begin(graph_, identity);
    for (size_t b = 0; b < blocks; ++b) finish(journal, b, outcome(b));
  }
  /// A run that dies when its artefact has its name, before its journal is removed.
  void write_and_die() {
    OutputFolder output(folder_ / "out", false);
    RunJournal journal(output, kEach);
    journal.begin(graph_, {{"a", 1}});
    finish(journal, 0, outcome(0));
    output.before_commit([&] { journal.note_written(output.path()); });
    output.commit();
  }
  std::string message_of(const RunRequest& request, const nlohmann::json& identity = {{"a", 1}}) {
    try {
      const OutputFolder output(folder_ / "out", false);
      RunJournal journal(output, request);
      journal.begin(graph_, identity);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  }
  /// Blocks that a run goes on with; their outcomes and states are checked.
  size_t resumed(std::string* warning = nullptr) {
    const OutputFolder output(folder_ / "out", false);
    RunJournal journal(output, kResume);
    journal.begin(graph_, {{"a", 1}});
    size_t blocks = 0;
    for (; journal.has_next(); ++blocks) {
      const BlockOutcome next = journal.next();
      EXPECT_EQ(next.index, blocks);
      EXPECT_TRUE(at::equal(next.linears.at(0).quantized.codes, outcome(blocks).linears[0].quantized.codes));
    }
    EXPECT_EQ(journal.finished(), blocks);
    if (blocks > 0) {
      at::Tensor found = at::empty({2, 3, 4});
      journal.fill_states(found);
      EXPECT_TRUE(at::equal(found, states(blocks)));
      EXPECT_THROW(journal.fill_states(found), UserError) << "there are no more";
    }
    if (warning != nullptr) *warning = journal.news(4, "blocks").back();
    return blocks;
  }
  std::string listing(const fs::path& folder) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder))
      names.push_back(entry.path().filename().string());
    std::ranges::sort(names);
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : " ") + name;
    return all;
  }

  /// Every boundary is kept.
  inline static const RunRequest kEach = [] {
    RunRequest request;
    request.journal_every = 0;
    return request;
  }();
  inline static const RunRequest kResume = [] {
    RunRequest request = kEach;
    request.resume = true;
    return request;
  }();
  const ModelGraph graph_ = testing::family_graph("llama", 64, 4);
  fs::path folder_;
};

TEST_F(RunJournalTest, ARunGoesOnWhereItWasCutOff) {
  begin_and_die(2);
  EXPECT_EQ(listing(folder_), ".out.journal");
  EXPECT_EQ(listing(folder_ / ".out.journal"), "journal states-2") << "older states are gone";
  EXPECT_EQ(resumed(), 2u);
  EXPECT_EQ(resumed(), 2u) << "and again, where that is cut off, too";
}

TEST_F(RunJournalTest, AResumedRunsJournalIsThatOfAnUninterruptedOne) {
  begin_and_die(3);
  const std::string whole = read_text_file(folder_ / ".out.journal" / "journal");
  fs::remove_all(folder_ / ".out.journal");
  begin_and_die(1);
  {
    const OutputFolder output(folder_ / "out", false);
    RunJournal journal(output, kResume);
    journal.begin(graph_, {{"a", 1}});
    for (size_t b = 1; b < 3; ++b) finish(journal, b, outcome(b));
  }
  EXPECT_EQ(read_text_file(folder_ / ".out.journal" / "journal"), whole);
  EXPECT_EQ(resumed(), 3u);
}

TEST_F(RunJournalTest, NothingIsKeptBeforeTheFirstBlock) {
  begin_and_die(0);
  EXPECT_EQ(listing(folder_), "");
  EXPECT_EQ(message_of(kResume, {{"a", 2}}), "no error") << "a job that always asks for it need not know";
  std::string news;
  EXPECT_EQ(resumed(&news), 0u);
  EXPECT_THAT(news, HasSubstr("no run of it was left unfinished"));
  EXPECT_EQ(listing(folder_), "") << "and it keeps nothing, either";
}

TEST_F(RunJournalTest, AKilledRunThatFinishedNothingIsBegunAnewWhateverItWasMadeFrom) {
  begin_and_die(1);
  const fs::path file = folder_ / ".out.journal" / "journal";
  const uint64_t identity = JournalReader(file).end_of(0);
  for (const uint64_t bytes : {uint64_t{0}, identity - 1, identity}) {
    fs::resize_file(file, bytes);
    EXPECT_EQ(message_of(kResume, {{"a", 2}}), "no error") << bytes;
    begin_and_die(1);
  }
  EXPECT_THAT(message_of(kResume, {{"a", 2}}), HasSubstr("has changed"));
}

TEST_F(RunJournalTest, WhatIsTornBehindTheLastCommitIsDoneAgain) {
  begin_and_die(2);
  const fs::path file = folder_ / ".out.journal" / "journal", kept = folder_ / "kept";
  const uint64_t two = fs::file_size(file);
  fs::copy(folder_ / ".out.journal", kept);
  {  // a third block that is cut off at any byte of its records, with the states of both boundaries there
    const OutputFolder output(folder_ / "out", false);
    RunJournal journal(output, kResume);
    journal.begin(graph_, {{"a", 1}});
    finish(journal, 2, outcome(2));
  }
  const std::string three = read_text_file(file);
  const uint64_t outcome_end = JournalReader(file).end_of(6);  // identity, two of each, and this outcome
  const std::string after = read_text_file(folder_ / ".out.journal" / "states-3");
  for (uint64_t bytes = two; bytes <= three.size(); bytes += bytes + 40 > three.size() ? 1 : 7) {
    fs::remove_all(folder_ / ".out.journal");
    fs::copy(kept, folder_ / ".out.journal");
    std::ofstream(file, std::ios::binary) << three.substr(0, bytes);
    std::ofstream(folder_ / ".out.journal" / "states-3", std::ios::binary) << after;
    std::string warning;
    EXPECT_EQ(resumed(&warning), bytes == three.size() ? 3u : 2u) << bytes;
    EXPECT_EQ(warning.starts_with("warning: "), bytes != two && bytes != outcome_end && bytes != three.size())
        << warning;
  }
}

TEST_F(RunJournalTest, DamagedStatesAreNotUsed) {
  begin_and_die(2);
  const fs::path states = folder_ / ".out.journal" / "states-2";
  std::string bytes = read_text_file(states);
  bytes[7] ^= 1;
  std::ofstream(states, std::ios::binary) << bytes;
  std::string warning;
  EXPECT_EQ(resumed(&warning), 0u);
  EXPECT_THAT(warning, HasSubstr("the hidden states before block 2 are damaged or missing"));
}

TEST_F(RunJournalTest, AnythingThatChangedRefuses) {
  const nlohmann::json was = {{"recipe", {{"rules", {{{"bits", 4}}}}}}, {"model", {{"a.safetensors", "x"}}}};
  begin_and_die(1, was);
  const std::string before = read_text_file(folder_ / ".out.journal" / "journal");
  nlohmann::json is = was;
  is["recipe"]["rules"][0]["bits"] = 3;
  EXPECT_THAT(message_of(kResume, is),
              HasSubstr("has changed: recipe.rules[0].bits was 4 and is 3; put it back"));
  is = was;
  is["model"]["b.safetensors"] = "y";
  EXPECT_THAT(message_of(kResume, is), HasSubstr("model.b.safetensors was absent and is \"y\""));
  EXPECT_EQ(read_text_file(folder_ / ".out.journal" / "journal"), before);
  EXPECT_EQ(message_of(kResume, was), "no error");
}

TEST_F(RunJournalTest, AnUnfinishedRunIsNotLostByAccident) {
  begin_and_die(1);
  EXPECT_THAT(message_of({}), HasSubstr("pass --resume to go on with it, or --overwrite"));
  EXPECT_EQ(listing(folder_ / ".out.journal"), "journal states-1");
  RunRequest anew;
  anew.overwrite = true;
  EXPECT_EQ(message_of(anew, {{"other", 2}}), "no error");
  EXPECT_EQ(listing(folder_), "") << "given up, and nothing was finished since";
}

TEST_F(RunJournalTest, BoundariesArePassedOverWhereBlocksFollowFasterThanWanted) {
  const OutputFolder output(folder_ / "out", false);
  RunRequest request;
  request.journal_every = 3600;
  {
    RunJournal journal(output, request);
    journal.begin(graph_, {{"a", 1}});
    for (size_t b = 0; b < 3; ++b) finish(journal, b, outcome(b));
  }
  EXPECT_EQ(listing(folder_ / ".out.journal"), "journal states-1") << "the first, whose cost isn't known";
  request.resume = true;
  RunJournal journal(output, request);
  journal.begin(graph_, {{"a", 1}});
  EXPECT_EQ(journal.finished(), 1u) << "what was added since doesn't count";
  ASSERT_TRUE(journal.has_next());
  journal.next();
  EXPECT_FALSE(journal.has_next());
}

TEST_F(RunJournalTest, WithoutAJournalNothingIsWritten) {
  const OutputFolder output(folder_ / "out", false);
  RunRequest request;
  request.no_journal = true;
  RunJournal journal(output, request);
  journal.begin(graph_, {{"a", 1}});
  finish(journal, 0, outcome(0));
  EXPECT_FALSE(fs::exists(folder_ / ".out.journal"));
  EXPECT_EQ(journal.finished(), 0u);
}

TEST_F(RunJournalTest, AFinishedArtefactIsKnownByItsFolder) {
  write_and_die();
  fs::rename(folder_ / "out", folder_ / "other");
  fs::create_directory(folder_ / "out");
  EXPECT_FALSE(RunJournal::was_finished(folder_ / "out")) << "somebody else's folder";
  fs::remove(folder_ / "out");
  EXPECT_FALSE(RunJournal::was_finished(folder_ / "out"));
  EXPECT_EQ(resumed(), 1u) << "killed before it had its name";
  fs::remove_all(folder_ / ".out.journal");
  EXPECT_FALSE(RunJournal::was_finished(folder_ / "other"));
}

TEST_F(RunJournalTest, TheJournalOfAFinishedArtefactIsRemoved) {
  write_and_die();
  EXPECT_TRUE(RunJournal::was_finished(folder_ / "out"));
  EXPECT_EQ(listing(folder_), "out");
}

TEST_F(RunJournalTest, ErrorsSayHowToGoOn) {
  const OutputFolder output(folder_ / "out", false);
  RunJournal journal(output, kEach);
  journal.begin(graph_, {{"a", 1}});
  const auto message = [&](const auto& error) {
    try {
      journal.guard([&] { throw error; });
    } catch (const std::exception& caught) {
      EXPECT_TRUE(dynamic_cast<const std::decay_t<decltype(error)>*>(&caught)) << caught.what();
      return std::string(caught.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(UserError("full")), "full") << "nothing is kept";
  finish(journal, 0, outcome(0));
  EXPECT_THAT(message(UserError("full")), HasSubstr("full; what was finished is kept in"));
  EXPECT_THAT(message(Interrupted()), HasSubstr("the same command with --resume goes on from there"));
  EXPECT_THAT(message(CheckFailed("wrong")), HasSubstr("--resume"));
  EXPECT_EQ(message(InternalError("bug")), "bug");
}

}  // namespace
}  // namespace lathe
