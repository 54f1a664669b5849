#include "lieq/device/devices.h"

#include <gtest/gtest.h>

#include "lieq/device/cuda/cuda_device.h"
#include "tests/support/error_of.h"

namespace lieq {
namespace {

TEST(Devices, AreFoundByNameAndNumber) {
  EXPECT_EQ(FindDevice("cpu").row.name, "cpu");
  EXPECT_EQ(FindDevice("cuda").row.name, "cuda");
  EXPECT_EQ(FindDevice("cuda").indices, std::vector{0});
  EXPECT_EQ(FindDevice("cuda:12").row.name, "cuda");
  EXPECT_EQ(FindDevice("cuda:12").indices, std::vector{12});
  EXPECT_EQ(FindDevice("cuda:3,0,12").indices, (std::vector{3, 0, 12}));
}

TEST(Devices, OtherNamesAreRefusedWithThoseThatThereAre) {
  for (const char* name :
       {"", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:1x", "cuda:0:1", ":1", "cuda:0,", "cuda:,1",
        "cuda:0,1x", "cuda:1,0,1", "cpu:0,1", "auto:0,1"}) {
    const Problem problem = ProblemOf([&] { return FindDevice(name).indices; });
    EXPECT_EQ(problem.expected, "cpu, cuda, cuda:N, cuda:N,M, auto") << name;
    EXPECT_EQ(problem.found, name);
  }
}

TEST(Devices, AutoIsAGpuWhereThereIsOne) {
  EXPECT_EQ(FindDevice("auto").row.name, HasCudaDevice() ? "cuda" : "cpu");
}

TEST(Devices, AGpuThatIsNotThereSaysWhatIsMissingAndHowToGetIt) {
  if (HasCudaDevice()) GTEST_SKIP() << "there is one";
  ThreadPool pool(1);
  const Problem problem = ProblemOf([&] { return MakeDevice("cuda", pool)->description(); });
  EXPECT_EQ(problem.where, "--device cuda");
  EXPECT_FALSE(problem.what.empty());
  EXPECT_NE(problem.hint.find("--device cpu"), std::string::npos) << problem.hint;
}

TEST(Devices, UsualKernelsAreThoseOfAProcessorWhereNoneAreNamed) {
  ThreadPool pool(1);
  const auto described = [&](const DeviceOptions& options) {
    return MakeDevice("cpu", pool, options)->description();
  };
  const DeviceOptions packed{.usual_kernels = "packed-scalar"};
  EXPECT_NE(described(packed).find("packed scalar"), std::string::npos);
  EXPECT_EQ(described({.kernels = "scalar", .usual_kernels = "packed-scalar"}).find("packed"),
            std::string::npos);
}

}  // namespace
}  // namespace lieq
