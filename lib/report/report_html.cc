#include <array>
#include <string_view>

#include "lib/report/report.h"

namespace lathe {
namespace page {
// Texts of lib/report/page, and of Chart.js.
extern const std::string_view kFrame, kStyle, kScript, kCharts;
}  // namespace page

namespace {

/// JSON that can stand in a script element: ASCII alone, and nothing that could end the element.
std::string for_script(const nlohmann::json& value) {
  const std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) {
    if (c == '<') {
      safe += "\\u003c";
    } else {
      safe += c;
    }
  }
  return safe;
}

}  // namespace

std::string report_page(const nlohmann::json& report, const std::string& how_to_load,
                        const std::vector<std::string>& consumers) {
  const std::string data =
      for_script({{"report", report}, {"how_to_load", how_to_load}, {"consumers", consumers}});
  const std::array<std::pair<std::string_view, std::string_view>, 4> parts = {{{"@{style}", page::kStyle},
                                                                               {"@{report}", data},
                                                                               {"@{charts}", page::kCharts},
                                                                               {"@{script}", page::kScript}}};
  // From the front to the back: what was filled in is not looked at again.
  std::string text;
  std::string_view left = page::kFrame;
  for (const auto& [place, part] : parts) {
    const size_t at = left.find(place);
    text.append(left.substr(0, at)).append(part);
    left.remove_prefix(at + place.size());
  }
  return text.append(left);
}

std::string to_html(const Report& report, const std::string& how_to_load,
                    const std::vector<std::string>& consumers) {
  return report_page(to_json(report), how_to_load, consumers);
}

}  // namespace lathe
