// Blocks that differ in their names alone: of most models all are, and what follows from shapes is the same
// for each of them.
#pragma once

#include "lib/model/graph.h"

namespace lathe {

/// Do the two do the same with parameters of the same shapes, but for where these stand?
bool alike(const Linear& a, const Linear& b);
bool alike(const Block& a, const Block& b);

}  // namespace lathe
