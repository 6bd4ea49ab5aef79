// The calibration job that a recipe and its plan describe, with the algorithms that it runs.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <vector>

#include "calib/driver/driver.h"
#include "formats/targets/model_folder.h"
#include "recipes/plan.h"
#include "recipes/recipe.h"

namespace lathe {

/// Instances of the algorithms that a recipe names; they live as long as the run.
struct Algorithms {
  std::vector<std::unique_ptr<Transform>> transforms;
  std::vector<std::unique_ptr<Solver>> solvers;  // one for each rule
};

/// UserError where an option is out of an algorithm's range.
Algorithms make_algorithms(const Recipe& recipe);

/// The job, still without samples and storage. It refers to the model and the algorithms.
CalibrationJob make_job(const Recipe& recipe, const Plan& plan, const ModelFolder& model,
                        const Algorithms& algorithms, c10::Device device, DType compute);

}  // namespace lathe
