// --kernels packed and --activations, as a user gives them.
#include <gtest/gtest.h>

#include <cmath>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

class PackedKernelsOption : public testing::Test {
 protected:
  PackedKernelsOption() {
    MakeTinyModel(folder / "model", {.layers = 2});
    WriteText(folder / "text", "the one and the other, on and on; the other and the one");
  }
  Outcome Lieq(std::vector<std::string> words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  Json Evaluated(std::vector<std::string> more) {
    std::vector<std::string> words{"evaluate",  Path("packed"), "--text", Path("text"),
                                   "--context", "16",           "--json", "-q"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return ParseJson(outcome.out, "stdout");
  }

  TempFolder folder;
};

TEST_F(PackedKernelsOption, EvaluatesAndGeneratesWithEachKindOfActivations) {
  ASSERT_EQ(Lieq({"quantize", Path("model"), "-o", Path("packed"), "--method", "rtn", "--uniform",
                  "4", "--calibration", Path("text"), "--context", "16", "-q"})
                .exit,
            0);
  const double expected = Evaluated({})["perplexity"].get<double>();
  const auto change = [&](const std::string& activations) {
    const Json record = Evaluated({"--kernels", "packed", "--activations", activations});
    const auto device = record["device"].get<std::string>();
    EXPECT_NE(device.find(activations + " activations"), std::string::npos) << device;
    return std::fabs(record["perplexity"].get<double>() / expected - 1);
  };

  EXPECT_LT(change("float"), 1e-5);
  EXPECT_LT(change("int16"), 2e-4);
  const double of_bytes = change("int8");
  EXPECT_LT(of_bytes, 1e-2);  // of random weights: their errors do not cancel as a model's do
  EXPECT_GT(of_bytes, 0);
  const auto tokens = [&](const std::string& threads) {
    return Lieq({"generate", Path("packed"), "-p", "the", "-n", "12", "--kernels", "packed",
                 "--threads", threads})
        .out;
  };
  EXPECT_EQ(tokens("1"), tokens("3"));
  for (const std::string type : {"float", "f16", "int8"}) {
    const Outcome cached =
        Lieq({"generate", Path("packed"), "-p", "the", "-n", "3", "--json", "--kv-cache", type});
    const auto device = ParseJson(cached.out, "stdout")["device"].get<std::string>();
    EXPECT_EQ(device.find(type + " cache") != std::string::npos, type != "float") << device;
  }
}

TEST_F(PackedKernelsOption, AreForRunningAModelAndNotForMakingOne) {
  const Outcome made = Lieq({"quantize", Path("model"), "-o", Path("out"), "--kernels", "packed"});
  EXPECT_EQ(made.exit, 2);
  EXPECT_NE(made.err.find("running a model"), std::string::npos) << made.err;

  const Outcome alone =
      Lieq({"evaluate", Path("model"), "--text", Path("text"), "--activations", "int16"});
  EXPECT_EQ(alone.exit, 2);
  EXPECT_NE(alone.err.find("--kernels packed"), std::string::npos) << alone.err;
}

}  // namespace
}  // namespace lieq
