// The text part of a model that also sees, as its makers publish it.
#include "lieq/container/wrapped_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/container/compare.h"
#include "lieq/container/model_folder.h"
#include "lieq/io/tensor_file.h"
#include "tests/support/error_of.h"
#include "tests/support/places.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

struct Case {
  std::string name, wrapper, model_type, prefix;
};

class WrappedModel : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    source_ = fs::path(LIEQ_SOURCE_DIR) / "../shared/models-arch" / GetParam().name;
    if (!fs::exists(source_)) GTEST_SKIP() << source_ << " is not there";
  }

  /// The model of ../shared inside a wrapper, beside a tower and a head that drafts.
  void Write(const fs::path& folder) const {
    fs::create_directories(folder);
    Json text = ReadJson(source_ / "config.json");
    Json config{{"architectures", {GetParam().wrapper}},
                {"model_type", GetParam().model_type},
                {"tie_word_embeddings", text["tie_word_embeddings"]},
                {"vision_config", {{"depth", 2}}}};
    text.erase("architectures");
    config["text_config"] = std::move(text);
    WriteFileAtomically(folder / "config.json", config.dump());
    fs::create_symlink(fs::canonical(source_ / "tokenizer.json"), folder / "tokenizer.json");
    const TensorFile file = TensorFile::OpenFolder(source_);
    const std::array<float, 4> others{1, 2, 3, 4};
    std::vector<TensorSpec> specs;
    for (const auto& [name, tensor] : file.tensors()) {
      const bool head = name.starts_with("lm_head.");
      const std::string inner = head ? name : GetParam().prefix + name.substr(6);
      specs.push_back({inner, tensor.dtype, tensor.shape});
    }
    specs.push_back({"model.visual.blocks.0.weight", DType::kF32, {2, 2}});
    specs.push_back({"mtp.fc.weight", DType::kF32, {2, 2}});
    TensorWriter writer(folder / "model.safetensors", specs, {});
    std::size_t next = 0;
    for (const auto& [name, tensor] : file.tensors()) {
      writer.Write(specs[next++].name, tensor.bytes);
    }
    for (; next < specs.size(); ++next) {
      writer.Write(specs[next].name, std::as_bytes(std::span(others)));
    }
    writer.Commit();
  }

  fs::path source_;
};

TEST_P(WrappedModel, IsReadAsItsTextPartAndSaysWhatIsLeftOut) {
  const TempFolder folder;
  Write(folder / "wrapped");

  const ModelFolder model = OpenModel(folder / "wrapped");

  const Comparison comparison = CompareModels(OpenModel(source_), model);
  EXPECT_TRUE(comparison.equal());
  EXPECT_THAT(model.notes, Contains(HasSubstr(GetParam().wrapper)));
  EXPECT_THAT(model.notes, Contains(HasSubstr("2 tensors beside the language model")));
  EXPECT_EQ(model.config["architectures"][0], model.weights.config.architecture);
  EXPECT_THAT(model.config.dump(), Not(HasSubstr("vision_config")));
}

INSTANTIATE_TEST_SUITE_P(Shared, WrappedModel,
                         testing::Values(Case{"qwen3_5", "Qwen3_5ForConditionalGeneration",
                                              "qwen3_5", "model.language_model."},
                                         Case{"gemma3", "Gemma3ForConditionalGeneration", "gemma3",
                                              "language_model.model."},
                                         Case{"ministral3", "Mistral3ForConditionalGeneration",
                                              "mistral3", "model.language_model."}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace lieq
