// One reader for each kind of data file; documents.cc chooses. Errors are described there.
#pragma once

#include "calib/data/documents.h"

namespace lathe {

void read_text(const DataSource& source, const DocumentVisit& visit);
void read_json_lines(const DataSource& source, const text::ChatTemplates* templates,
                     const DocumentVisit& visit);
void read_parquet(const DataSource& source, const text::ChatTemplates* templates, const DocumentVisit& visit);
void read_npy(const DataSource& source, const DocumentVisit& visit);
void read_safetensors(const DataSource& source, const DocumentVisit& visit);

}  // namespace lathe
