// What a model loses by each group of its linears, as report.md and sensitivity.md have it.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "lib/report/report.h"

namespace lathe {

/// "predicted KL 0.051 (estimated from gradients on 12288 tokens held out), 0.0595 on the evaluation's text;
/// rank correlation with the measured KL: fisher 0.97 (32 pairs)": how far what was measured of groups can be
/// believed. The prediction is the chosen mixture's, or, of rules, the sum over groups. Of a report with
/// `sensitivity`.
std::string prediction_text(const Report& report);

/// Of a report's `sensitivity`: what was measured on what, correlations, and every group.
std::string sensitivity_markdown(const nlohmann::json& section);

/// sensitivity.md: model, candidates, warnings, and the same.
std::string sensitivity_document(const Report& report);

}  // namespace lathe
