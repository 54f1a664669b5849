#include "lieq/container/float_folder.h"

#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

std::vector<float> Values(const AnyMatrix& matrix) {
  Matrix<float> wide(Rows(matrix), Cols(matrix));
  WidenRows(matrix, 0, wide.view());
  return {wide.data(), wide.data() + wide.size()};
}

FloatLayer Copy(const LayerWeights& given) {
  FloatLayer layer;
  for (const Site site : kAllSites) {
    const Linear& linear = given.At(site);
    layer.At(site) = Matrix<float>(Rows(linear.weight), Cols(linear.weight));
    WidenRows(linear.weight, 0, layer.At(site).view());
    layer.Bias(site) = linear.bias;
  }
  layer.attention_norm = given.attention_norm;
  layer.mlp_norm = given.mlp_norm;
  layer.q_norm = given.q_norm;
  layer.k_norm = given.k_norm;
  return layer;
}

TEST(FloatFolder, HoldsWhatWasWrittenTiedOrNot) {
  for (const char* architecture : {"Qwen3ForCausalLM", "Qwen2ForCausalLM"}) {
    for (const bool tied : {true, false}) {
      for (const bool untied : {true, false}) {
        for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
          TempFolder folder;
          MakeTinyModel(folder / "source",
                        {.architecture = architecture, .tied = tied, .dtype = dtype});
          const ModelFolder source = OpenModel(folder / "source");
          FloatFolderWriter writer(source, untied, folder / "copy");
          const FloatEnds ends = WidenedEnds(source.weights);
          writer.Ends(untied ? &ends : nullptr);
          std::vector<FloatLayer> layers;
          for (Index i = 0; i < source.weights.config.layers; ++i) {
            layers.push_back(Copy(source.weights.layers[Size(i)]));
            layers.back().At(Site::kDown)(1, 2) = 0.1F;  // neither BF16 nor F16 holds it
            layers.back().mlp_norm[3] = 0.5F;
            writer.Layer(i, layers.back());
          }
          EXPECT_FALSE(std::filesystem::exists(folder / "copy/model.safetensors"));
          writer.Commit();

          const ModelFolder copy = OpenFloatFolder(folder / "copy", source);

          EXPECT_EQ(copy.path, source.path);
          EXPECT_EQ(copy.dtype, source.dtype);
          EXPECT_EQ(copy.weights.config.tied, tied && !untied);
          EXPECT_EQ(Values(copy.weights.embedding), Values(source.weights.embedding));
          EXPECT_EQ(Values(copy.weights.head), Values(source.weights.head));
          EXPECT_EQ(copy.weights.final_norm, source.weights.final_norm);
          for (std::size_t i = 0; i < layers.size(); ++i) {
            const LayerWeights& read = copy.weights.layers[i];
            const LayerWeights written = layers[i].Views();
            for (const Site site : kAllSites) {
              EXPECT_EQ(Values(read.At(site).weight), Values(written.At(site).weight));
              EXPECT_EQ(read.At(site).bias, written.At(site).bias);
            }
            EXPECT_EQ(read.attention_norm, written.attention_norm);
            EXPECT_EQ(read.mlp_norm, written.mlp_norm);
            EXPECT_EQ(read.q_norm, written.q_norm);
            EXPECT_EQ(read.k_norm, written.k_norm);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace lieq
