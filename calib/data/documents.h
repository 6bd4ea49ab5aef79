// Reads the documents of a text file: the whole of a .txt, one field of each line of a .jsonl.
#pragma once

#include <functional>
#include <string_view>

#include "calib/data/token_rows.h"

namespace lathe {

/// Refuses, by name, a file whose kind is not supported; does not open it.
void check_text_kind(const DataSource& source);

/// Calls `visit(document, place)` for each document in order; `place` names it in errors ("a.jsonl:12"). The
/// file is memory-mapped: a .txt document points into the mapping and is valid during the call only. Errors
/// as in token_rows().
void for_each_document(const DataSource& source,
                       const std::function<void(std::string_view, const std::string&)>& visit);

}  // namespace lathe
