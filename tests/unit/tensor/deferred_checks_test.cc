// Checks that wait: all are looked at, in order, and none twice.
#include "lib/tensor/deferred_checks.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <string>

#include "lib/base/error.h"

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(DeferredChecks, LooksAtEveryValueInOrderOnce) {
  DeferredChecks checks;
  std::vector<int64_t> seen;
  const auto look = [&](int64_t found) { seen.push_back(found); };
  const at::Tensor late = at::zeros({1}, at::kLong);
  checks.add(late, look);
  checks.add(at::scalar_tensor(true), look);
  checks.add(at::tensor({int64_t{1} << 62}, at::kLong), look);
  late.fill_(-7);
  EXPECT_THAT(seen, IsEmpty());
  checks.read();
  EXPECT_THAT(seen, ElementsAre(-7, 1, int64_t{1} << 62)) << "values as they are when they are read";
  checks.read();
  EXPECT_EQ(seen.size(), 3u);
}

TEST(DeferredChecks, TheFirstFailureIsTheOneReported) {
  DeferredChecks checks;
  const auto refuse = [](const char* name) {
    return [name](int64_t bad) {
      if (bad != 0) user_error("{}", name);
    };
  };
  for (const char* name : {"a", "b", "c"}) checks.add(at::scalar_tensor(name[0] != 'a'), refuse(name));
  try {
    checks.read();
    FAIL() << "nothing was refused";
  } catch (const UserError& error) {
    EXPECT_EQ(error.what(), std::string("b"));
  }
  EXPECT_NO_THROW(checks.read()) << "nothing is left of a failed reading";
}

}  // namespace
}  // namespace lathe
