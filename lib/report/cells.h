// Numbers and texts as tables of Markdown have them.
#pragma once

#include <optional>
#include <string>

namespace lathe {

/// Four significant digits; "n/a" where it isn't finite, "-" where there is none.
std::string short_number(double value);
std::string short_number(const std::optional<double>& value);

/// A table cell's text: a bar or a line break in it can't break the table.
std::string cell(const std::string& text);

/// "1 thread", "2 threads".
std::string threads_text(int threads);

}  // namespace lathe
