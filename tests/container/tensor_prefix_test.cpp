#include "lieq/container/tensor_prefix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "lieq/container/compare.h"
#include "lieq/container/model_folder.h"
#include "tests/support/error_of.h"
#include "tests/support/raw_tensors.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

/// A tiny model whose tensors get other names.
class Names : public testing::Test {
 protected:
  Names() {
    MakeTinyModel(folder_ / "good", {.layers = 2});
    MakeTinyModel(folder_ / "other", {.layers = 2});
  }
  void Rename(const std::function<std::string(const std::string&)>& name_of,
              const std::vector<RawTensor>& more = {}) {
    std::vector<RawTensor> tensors = ReadRaw(folder_ / "good" / "model.safetensors");
    for (RawTensor& tensor : tensors) tensor.spec.name = name_of(tensor.spec.name);
    tensors.insert(tensors.end(), more.begin(), more.end());
    WriteRaw(folder_ / "other" / "model.safetensors", tensors);
  }
  std::string Error() {
    return ErrorOf([&] { return OpenModel(folder_ / "other"); });
  }
  static std::string WithoutModel(const std::string& name) {
    return name.starts_with("model.") ? name.substr(6) : name;
  }
  static RawTensor One(const std::string& name) { return Raw<float>(name, DType::kF32, {1}, {0}); }

  TempFolder folder_;
};

TEST_F(Names, OfWrappersAndOfBodiesAreRead) {
  const ModelFolder good = OpenModel(folder_ / "good");
  EXPECT_THAT(good.notes, IsEmpty());
  for (const std::string prefix :
       {"_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "base_model.model.",
        "language_model.", "_fsdp_wrapped_module."}) {
    for (const bool body : {false, true}) {
      Rename([&](const std::string& name) { return prefix + (body ? WithoutModel(name) : name); });
      ASSERT_THAT(Error(), IsEmpty()) << prefix << body;

      const ModelFolder other = OpenModel(folder_ / "other");

      EXPECT_TRUE(CompareModels(good, other).equal()) << prefix << body;
      EXPECT_THAT(other.notes, Contains(HasSubstr(prefix.substr(0, prefix.find('.') + 1))));
      std::vector<std::string> names;
      for (const auto& [name, tensor] : other.tensors.tensors()) names.push_back(name);
      EXPECT_THAT(names, Each(StartsWith("model."))) << prefix << body;
    }
  }
  Rename(WithoutModel);
  EXPECT_TRUE(CompareModels(good, OpenModel(folder_ / "other")).equal());
  EXPECT_THAT(OpenModel(folder_ / "other").notes, Contains(HasSubstr("lack 'model.'")));
}

TEST_F(Names, OfABodyLackItsHeadWhereItIsNotTied) {
  Rename(WithoutModel);
  Json config = ReadJson(folder_ / "other" / "config.json");
  config["tie_word_embeddings"] = false;
  WriteText(folder_ / "other" / "config.json", config.dump());
  EXPECT_THAT(Error(),
              AllOf(HasSubstr("the head is missing"), HasSubstr("\"tie_word_embeddings\": true")));
}

TEST_F(Names, OfOtherModelsAreRefusedWithTheirMeaning) {
  struct Row {
    std::string prefix, meaning;
  };
  for (const Row& row :
       {Row{"transformer.model.", "another architecture"},
        Row{"model.language_model.", "also sees"}, Row{"model.decoder.", "another architecture"},
        Row{"text_model.model.", "also sees"}, Row{"foo.model.", "not read"}}) {
    Rename([&](const std::string& name) { return row.prefix + WithoutModel(name); });
    EXPECT_THAT(Error(), AllOf(HasSubstr(row.meaning), HasSubstr("layers.0."),
                               HasSubstr("model.layers.0.self_attn.q_proj.weight")))
        << row.prefix;
  }
}

TEST_F(Names, OfATextModelAreRefusedBesideOtherParts) {
  Rename([](const std::string& name) { return "language_model." + name; },
         {One("vision_tower.encoder.layers.0.x.weight")});
  EXPECT_THAT(Error(), AllOf(HasSubstr("'language_model.'"), HasSubstr("vision_tower"),
                             HasSubstr("save the text model alone")));
}

TEST_F(Names, OfAnAdapterAreRefusedWithHowToMergeIt) {
  const RawTensor lora = One("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
  Rename([](const std::string& name) { return "base_model.model." + name; }, {lora});
  EXPECT_THAT(Error(), AllOf(HasSubstr("PEFT"), HasSubstr("merge_and_unload")));

  Rename([](const std::string& name) { return name; },
         {One("model.layers.0.self_attn.q_proj.lora_A.weight")});
  EXPECT_THAT(Error(), AllOf(HasSubstr("tensor not expected"), HasSubstr("merge_and_unload")));
}

TEST_F(Names, ThatMeanTheSameAreRefused) {
  Rename(WithoutModel, {One("model.norm.weight")});
  EXPECT_THAT(Error(), HasSubstr("mean the same"));
}

TEST_F(Names, OfNoLayerAreShown) {
  Rename([](const std::string& name) {
    return "h." + std::to_string(std::hash<std::string>{}(name));
  });
  EXPECT_THAT(Error(), AllOf(HasSubstr("tensor is missing"), HasSubstr("'h."),
                             HasSubstr("no architecture")));
}

TEST_F(Names, OfOtherPackingsSayWhatTheyAre) {
  std::vector<RawTensor> tensors = ReadRaw(folder_ / "good" / "model.safetensors");
  const std::string module = "model.layers.0.self_attn.q_proj.";
  FindRaw(tensors, module + "weight").spec.name = module + "qweight";
  WriteRaw(folder_ / "other" / "model.safetensors", tensors);
  EXPECT_THAT(Error(), AllOf(HasSubstr("tensor is missing"), HasSubstr(module + "qweight"),
                             HasSubstr("GPTQ, AWQ")));
}

}  // namespace
}  // namespace lieq
