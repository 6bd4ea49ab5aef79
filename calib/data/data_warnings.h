// What is doubtful about calibration data: what other tools let pass in silence.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calib/data/calibration_set.h"
#include "lib/text/scripts.h"

namespace lathe {

/// What the data is held against.
struct ModelNeeds {
  int64_t widest_input = 0;            // columns of the widest linear that is to be quantised
  int64_t widest_expert_input = 0;     // of an expert's
  double expert_share = 1;             // part of all tokens that reach an expert, if all get as many
  int64_t max_position = 0;            // tokens that it was made for; 0: unknown
  text::ScriptCounts vocabulary = {};  // letters of the tokenizer's vocabulary; empty: not compared
  int64_t vocabulary_size = 0;         // its tokens
};

/// One line each, about the documents that samples were taken of; of files of ids, about what the first ids
/// of each sample stand for:
/// - fewer than 16 tokens for each column of the widest input: H = X^T X is estimated badly (its rank is at
///   most the number of tokens, and its noise falls with tokens per column), or as few of an expert's share
///   of the tokens for its widest input;
/// - at least 95 % of the text is in one language (text::add_languages), or at least 99 % of its letters have
///   one script (Unicode's Script property), while at least 5 % of the letters of the tokenizer's vocabulary
///   are of other scripts: the model was made for more languages than the text shows. A vocabulary of one
///   script doesn't tell which languages the model is used with, and mostly that is one: no warning, but the
///   plan names the text's languages;
/// - a token stands for less than two bytes of the texts, by a tokenizer of 16,384 tokens or more: its merges
///   are not of such text, which is how a tokenizer shows what the model was trained on. With SmolLM2's
///   English has 3.7 bytes a token, code 3.1, French 3.3, German 2.8, Hungarian 2.2; Vietnamese 1.8, Chinese
///   1.8, base64 1.3, columns of numbers 1.0;
/// - at least 95 % of the documents, of two or more, have 64 tokens or fewer: outliers and attention over
///   long ranges are hardly seen, whatever a few longer ones hold;
/// - at least 1 % of the documents (and at least two) repeat an earlier one;
/// - sources of which no token is taken: a share of the mix below one sample, or text behind the last sample;
/// - rows of token ids, all of one length, that were joined and cut into samples of another;
/// - samples longer than the model's positions (warn_length).
std::vector<std::string> data_warnings(const CalibrationSet& set, const ModelNeeds& needs);

/// Tokens with which statistics are reliable: 16 for each column of the widest input, of an expert's where
/// all get as many.
int64_t wanted_tokens(const ModelNeeds& needs);

/// Adds the warning that `what` is longer than the model was made for, where it is.
void warn_length(const char* what, int64_t length, int64_t max_position, std::vector<std::string>& warnings);

}  // namespace lathe
