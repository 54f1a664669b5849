#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::HasSubstr;

class BenchCommand : public testing::Test {
 protected:
  BenchCommand() { MakeTinyModel(folder / "model", {.layers = 2}); }
  Outcome Bench(std::vector<std::string> more) {
    std::vector<std::string> words{"bench", (folder / "model").string()};
    words.insert(words.end(), more.begin(), more.end());
    return RunLieq(folder.path(), words);
  }
  TempFolder folder;
};

TEST_F(BenchCommand, GivesTokensBytesAndShares) {
  const Outcome outcome = Bench({"-p", "40", "-n", "6", "-r", "3", "-t", "1", "--json", "-q"});
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  const Json speed = ParseJson(outcome.out, "stdout");
  EXPECT_EQ(speed["kind"], "speed");
  EXPECT_EQ(speed["threads"], 1);
  EXPECT_EQ(speed["prompt"]["tokens"], 40);
  ASSERT_EQ(speed["generation"]["seconds"].size(), 3u);
  const double rate = speed["generation"]["tokens_per_second"];
  std::vector<double> seconds = speed["generation"]["seconds"];
  std::ranges::sort(seconds);
  EXPECT_NEAR(rate, 6 / seconds[1], 1e-6 * rate);

  const ModelConfig config = OpenModel(folder / "model").weights.config;
  Index weights = config.vocab * config.hidden;
  for (const Site site : kAllSites) weights += config.layers * config.In(site) * config.Out(site);
  EXPECT_EQ(speed["weight_bytes"], 2 * weights);  // BF16
  const double gigabytes = speed["generation"]["gigabytes_per_second"];
  EXPECT_NEAR(gigabytes, rate * 2e-9 * static_cast<double>(weights), 1e-6 * gigabytes);
  EXPECT_NEAR(speed["generation"]["bandwidth_share"],
              gigabytes / speed["read_gigabytes_per_second"].get<double>(), 1e-6);
}

TEST_F(BenchCommand, CountsCodesScalesAndOffsetsOfAQuantizedModel) {
  ASSERT_EQ(RunLieq(folder.path(),
                    {"quantize", (folder / "model").string(), "-o", (folder / "two").string(),
                     "--uniform", "w2g32:integer", "--method", "rtn", "-q"})
                .exit,
            0);
  const auto bytes = [&](const std::string& model) {
    const Outcome outcome = RunLieq(folder.path(), {"bench", (folder / model).string(), "-p", "0",
                                                    "-n", "2", "-r", "1", "--json", "-q"});
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return ParseJson(outcome.out, "stdout")["weight_bytes"].get<Index>();
  };
  const ModelConfig config = OpenModel(folder / "model").weights.config;
  Index linears = 0;
  for (const Site site : kAllSites) linears += config.layers * config.In(site) * config.Out(site);
  // 2 bits, and for each 32 weights a scale of 16 bits and a zero-point of 2, in place of 16 bits.
  EXPECT_EQ(bytes("model") - bytes("two"), linears * 2 - linears * (2 * 32 + 16 + 2) / 32 / 8);
}

TEST_F(BenchCommand, RunsWhatIsAskedForAlone) {
  const Outcome prompt = Bench({"-p", "8", "-n", "0", "-r", "1", "-q"});
  ASSERT_EQ(prompt.exit, 0) << prompt.err;
  EXPECT_THAT(prompt.out, HasSubstr("prompt"));
  EXPECT_THAT(prompt.out, testing::Not(HasSubstr("generation")));
  EXPECT_EQ(Bench({"-p", "0", "-n", "0"}).exit, 2);
  EXPECT_EQ(Bench({"-r", "0"}).exit, 2);
}

}  // namespace
}  // namespace lieq
