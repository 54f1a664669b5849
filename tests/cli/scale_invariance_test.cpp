// A model whose gate and up are multiplied by a power of two, and the norm before them by its
// inverse, is the same model: it loses the same, in every container, or quantize says which
// matrices do not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "lieq/io/json.h"
#include "lieq/pipeline/quality_warnings.h"
#include "tests/cli/program.h"
#include "tests/support/changed_tensors.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ScaleInvariance : public testing::TestWithParam<int> {  // bits
 protected:
  void SetUp() override {
    if (!fs::exists(Tiny())) GTEST_SKIP() << Tiny() << " is not there";
  }
  static fs::path Shared() { return fs::path(LIEQ_SOURCE_DIR) / "../shared"; }
  static fs::path Tiny() { return Shared() / "models" / "llama-tiny"; }
  std::string Path(const std::string& name) const { return (folder / name).string(); }
  Outcome Lieq(const std::vector<std::string>& words) { return RunLieq(folder.path(), words); }

  double Perplexity(const std::string& model) {
    const Outcome done = Lieq({"evaluate", Path(model), "--text",
                               (Shared() / "data" / "wikitext2.test.raw").string(), "--context",
                               "128", "--samples", "4", "--json", "-q"});
    EXPECT_EQ(done.exit, 0) << done.err;
    return ParseJson(done.out, "stdout")["perplexity"].get<double>();
  }
  /// Quantizes the model times 2^power for a container, in its container; what quantize said.
  std::string Make(int power, const std::string& container) {
    fs::remove_all(folder / "m");
    fs::remove_all(folder / "q");
    fs::remove_all(folder / "out");
    fs::copy(Tiny(), folder / "m", fs::copy_options::recursive);
    for (const auto& entry : fs::directory_iterator(folder / "m")) {
      fs::permissions(entry, fs::perms::owner_write, fs::perm_options::add);
    }
    ShiftGateAndUp(folder / "m", power);
    std::vector<std::string> words{
        "quantize", Path("m"), "-o",           Path("q"), "--uniform", std::to_string(GetParam()),
        "--method", "rtn",     "--group-size", "32",      "--for",     container};
    const Outcome quantized = Lieq(words);
    EXPECT_EQ(quantized.exit, 0) << quantized.err;
    const Outcome exported =
        Lieq({"export", Path("q"), "--to", container, "-o", Path("out"), "-q"});
    EXPECT_EQ(exported.exit, 0) << exported.err;
    return quantized.err;
  }

  TempFolder folder;
};

TEST_P(ScaleInvariance, HoldsOrIsSaid) {
  for (const std::string container : {"compressed-tensors", "mlx", "gptq", "gguf"}) {
    const bool half = container == "gptq" || container == "gguf";
    (void)Make(0, container);
    const double expected = Perplexity("out");
    for (const int power : {-16, -12, 4, 20}) {
      const std::string said = Make(power, container);
      const double found = Perplexity("out");
      if (said.find("gate_proj: ") != std::string::npos) {
        EXPECT_TRUE(half) << container << " 2^" << power << said;
        EXPECT_THAT(said, HasSubstr("model.layers.3.mlp.up_proj"));
        EXPECT_FALSE(ReadJson(folder / "q" / "lieq.json")["warnings"].empty());
      } else {
        EXPECT_NEAR(found, expected, 0.01 * expected) << container << " 2^" << power;
      }
    }
  }
}

class ScaleInvarianceExport : public ScaleInvariance {};

INSTANTIATE_TEST_SUITE_P(Bits, ScaleInvariance, testing::Values(4, 8));

TEST_F(ScaleInvarianceExport, ContainersOfF16NameWhatTheyDoNotHold) {
  fs::copy(Tiny(), folder / "m", fs::copy_options::recursive);
  for (const auto& entry : fs::directory_iterator(folder / "m")) {
    fs::permissions(entry, fs::perms::owner_write, fs::perm_options::add);
  }
  ShiftGateAndUp(folder / "m", -16);
  ASSERT_EQ(Lieq({"quantize", Path("m"), "-o", Path("q"), "--uniform", "4", "--method", "rtn",
                  "--group-size", "32", "-q"})
                .exit,
            0);
  for (const auto& [container, place] :
       {std::pair<std::string, std::string>{"gptq", "model.layers.0.mlp.gate_proj"},
        {"gguf", "layer 0, gate"}}) {
    const Outcome refused = Lieq({"export", Path("q"), "--to", container, "-o", Path(container)});
    EXPECT_EQ(refused.exit, 3) << refused.out;
    EXPECT_THAT(refused.err, HasSubstr(place));
    EXPECT_THAT(refused.err, HasSubstr("--for " + container));
  }
  EXPECT_EQ(Lieq({"export", Path("q"), "--to", "mlx", "-o", Path("mlx"), "-q"}).exit, 0);
}

TEST(QualityWarnings, NameMatricesOfWhichLittleIsLeft) {
  std::vector<LayerReports> layers(3);
  for (LayerReports& layer : layers) {
    for (LinearReport& report : layer) report = {.error = 0.2, .signal = 1};
  }
  EXPECT_TRUE(QualityWarnings(layers, {{"lm_head", {}}}).empty());  // of zeros alone: 0 of 0

  layers[2][static_cast<std::size_t>(Site::kUp)].error = 0.95;
  layers[1][static_cast<std::size_t>(Site::kO)].coarse_scales = 0.5;
  const auto warnings = QualityWarnings(layers, {{"lm_head", {.error = 2, .signal = 2}}});
  ASSERT_EQ(warnings.size(), 3u);
  EXPECT_THAT(warnings[0], HasSubstr("lm_head: relative error 1.000"));
  EXPECT_THAT(warnings[1], HasSubstr("model.layers.1.self_attn.o_proj: 50 %"));
  EXPECT_THAT(warnings[2], HasSubstr("model.layers.2.mlp.up_proj: relative error 0.950"));

  for (LayerReports& layer : layers) {
    for (LinearReport& report : layer) report.error = report.signal;
  }
  EXPECT_EQ(QualityWarnings(layers, {}).size(), 11u);
  EXPECT_THAT(QualityWarnings(layers, {}).back(), HasSubstr("11 more"));
}

}  // namespace
}  // namespace lieq
