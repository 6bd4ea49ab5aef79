#include "calib/data/documents.h"

#include "calib/data/readers.h"
#include "lib/base/error.h"

namespace lathe {

double for_each_document(const DataSource& source, const text::ChatTemplates* templates,
                         const DocumentVisit& visit) {
  switch (kind_of(source)) {
    case DataKind::text:
      return read_text(source, visit);
    case DataKind::json_lines:
      return read_json_lines(source, templates, visit);
    case DataKind::parquet:
      return read_parquet(source, templates, visit);
    case DataKind::npy:
      read_npy(source, visit);
      return 1;
    case DataKind::safetensors:
      read_safetensors(source, visit);
      return 1;
  }
  internal_error("a kind of data without a reader");
}

}  // namespace lathe
