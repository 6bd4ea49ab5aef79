// .jsonl with texts, conversations and token ids.
#include "calib/data/documents.h"
#include "tests/fuzz/fuzz.h"

void lathe::fuzz::read(std::string_view input) {
  static const Folder folder;
  static const text::ChatTemplates templates = [] {
    text::ChatTemplates made;
    made.standard.emplace("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ tools }}",
                          "template", nlohmann::ordered_json::object());
    return made;
  }();
  for_each_document({folder.put("data.jsonl", input)}, &templates, [](const Document&) {});
}
