// Stands in for torch's own: the same types and the operators' registry without Python's headers, so that a
// library built with one Python loads in another.
#pragma once

#include <ATen/ATen.h>
#include <torch/library.h>
#include <torch/types.h>
