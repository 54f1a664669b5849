// Which row of packed kernels a processor gets.
#include "lieq/device/cpu/packed_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "tests/support/error_of.h"

namespace lieq {
namespace {

TEST(PackedKernels, OfAProcessorAreTheFirstThatItRuns) {
  const auto rows = PackedKernelSets();
  const auto first =
      std::ranges::find_if(rows, [](const PackedKernels* row) { return row->supported(); });

  EXPECT_EQ(ChoosePackedKernels("").name, (*first)->name);
  EXPECT_EQ(rows.back()->name, "scalar");
  // tools/check_aarch64 names the row that the processor it runs this as has to get.
  if (const char* expected = std::getenv("LIEQ_EXPECTED_ROW")) {
    EXPECT_EQ(ChoosePackedKernels("").name, expected);
  }
}

TEST(PackedKernels, AreForcedByTheirNamesOrRefused) {
  for (const PackedKernels* row : PackedKernelSets()) {
    const std::string name(row->name);
    if (row->supported()) {
      EXPECT_EQ(ChoosePackedKernels(name).name, name);
    } else {
      EXPECT_NE(ErrorOf([&] { (void)ChoosePackedKernels(name); }).find("packed-" + name),
                std::string::npos);
    }
  }
}

}  // namespace
}  // namespace lieq
