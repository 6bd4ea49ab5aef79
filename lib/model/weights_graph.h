// A graph of an architecture that Lathe doesn't know: its weights alone, nothing that could be run. For
// algorithms that look at one weight at a time.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lib/model/graph.h"
#include "lib/tensor/tensor_view.h"

namespace lathe {

struct WeightsGraph {
  /// Each matrix "<module>.weight" in F16, BF16 or F32 is a linear in a block of its own, whose prefix is the
  /// module's name, in order of names with numbers counted ("layers.2" before "layers.10"). Not those whose
  /// last names say that they are embeddings, norms or the output head. The role is that of the module's last
  /// name ("q_proj"), or `other`; "gate" and "router" are routers. config: model_type, and as dtype that of
  /// most of these weights; the rest is empty.
  ModelGraph graph;
  /// Tensors that hold weights in some other way, with their shapes: more than two dimensions, such as fused
  /// experts.
  std::vector<std::pair<std::string, TensorInfo>> other_shapes;
};

/// UserError naming `folder` where there is no such matrix.
WeightsGraph weights_graph(const std::string& model_type, const std::map<std::string, TensorInfo>& tensors,
                           const std::string& folder);

/// Has lib/model/arch a table for this family?
bool is_known_family(const std::string& model_type);

}  // namespace lathe
