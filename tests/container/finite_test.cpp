#include "lieq/container/finite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <limits>
#include <set>
#include <string>

#include "lieq/container/exporters.h"
#include "tests/support/changed_tensors.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// All kinds of tensors: a head of its own, biases everywhere, norms of queries and keys.
TinyModelOptions EveryKind(DType type) {
  return {.layers = 2, .tied = false, .attention_bias = true, .dtype = type};
}

/// What a reader says of the folder.
std::string Complaint(const std::filesystem::path& folder) {
  return ErrorOf([&] {
    ThreadPool pool(2);
    return RequireFinite(OpenModel(folder), pool);
  });
}

class Finite : public testing::TestWithParam<DType> {};

TEST_P(Finite, NamesEveryTensorThatIsNot) {
  const TempFolder folder;
  MakeTinyModel(folder / "m", EveryKind(GetParam()));
  std::set<std::string> kinds;
  std::map<std::string, std::pair<std::int64_t, std::size_t>> tensors;  // columns, values
  const TensorFile whole = TensorFile::OpenFolder(folder / "m");
  for (const auto& [name, tensor] : whole.tensors()) {
    tensors[name] = {tensor.shape.back(), tensor.bytes.size() / ItemSize(tensor.dtype)};
  }
  EXPECT_EQ(Complaint(folder / "m"), "");
  int turn = 0;
  for (const auto& [name, shape] : tensors) {
    const std::size_t dot = name.rfind('.', name.rfind('.') - 1);
    const std::string kind = dot == std::string::npos ? name : name.substr(dot);
    if (!kinds.insert(kind).second) continue;  // the second layer is the first's like
    // First, last, and some place between: vectors of the scan and what is left of them.
    for (const std::size_t at : {std::size_t{0}, shape.second / 3, shape.second - 1}) {
      const float value = std::array{kNan, kInfinity, -kInfinity}[Size(turn++ % 3)];
      const std::filesystem::path spoilt = folder / "spoilt";
      std::filesystem::remove_all(spoilt);
      std::filesystem::copy(folder / "m", spoilt);
      ChangeTensors(spoilt, [&](const std::string& each, std::size_t i, float old) {
        return each == name && i == at ? value : old;
      });

      const std::string complaint = Complaint(spoilt);

      EXPECT_THAT(complaint, HasSubstr("not finite")) << name;
      EXPECT_THAT(complaint, HasSubstr("'" + name + "'"));
      const auto columns = static_cast<std::size_t>(shape.first);
      EXPECT_THAT(complaint, HasSubstr("column " + std::to_string(at % columns)));
      EXPECT_THAT(complaint, HasSubstr("row " + std::to_string(at / columns)));
    }
  }
  EXPECT_EQ(kinds.size(), 18u);  // embedding, head, 5 norms, 7 linears, and biases of q, k, v, o
}

INSTANTIATE_TEST_SUITE_P(Types, Finite, testing::Values(DType::kBF16, DType::kF16, DType::kF32));

TEST(Finite, CountsWhatItReadAndWhatIsBroken) {
  const TempFolder folder;
  MakeTinyModel(folder / "m", {.layers = 1});
  std::int64_t values = 0;
  const TensorFile whole = TensorFile::OpenFolder(folder / "m");
  for (const auto& [name, tensor] : whole.tensors()) {
    values += static_cast<std::int64_t>(tensor.bytes.size() / 2);
  }
  ThreadPool pool(1);
  EXPECT_EQ(RequireFinite(OpenModel(folder / "m"), pool), values);

  ChangeTensors(folder / "m", [](const std::string& name, std::size_t i, float old) {
    return name == "model.embed_tokens.weight" && i / 128 == 280 ? kNan : old;  // a whole row
  });
  EXPECT_THAT(Complaint(folder / "m"), HasSubstr("row 280, column 0"));
  EXPECT_THAT(Complaint(folder / "m"), HasSubstr("NaN, and 127 more"));
}

TEST(Finite, LetsTheLargestAndTheSmallestNumbersPass) {
  for (const DType type : {DType::kBF16, DType::kF16, DType::kF32}) {
    const TempFolder folder;
    MakeTinyModel(folder / "m", {.layers = 1, .dtype = type});
    const float largest = type == DType::kF16    ? 65504.0f
                          : type == DType::kBF16 ? ToFloat(Bf16{0x7F7F})
                                                 : std::numeric_limits<float>::max();
    ChangeTensors(folder / "m", [&](const std::string& name, std::size_t i, float old) {
      if (!name.ends_with("_proj.weight")) return old;
      return i % 3 == 0 ? largest : i % 3 == 1 ? -largest : std::ldexp(1.0f, -24);
    });
    EXPECT_EQ(Complaint(folder / "m"), "");
  }
}

TEST(Finite, ScalesThatAreNotAreNamedWhenTheModelIsOpened) {
  for (const auto& [container, scales] :
       {std::pair("compressed-tensors", "weight_scale"), std::pair("gptq", "scales"),
        std::pair("mlx", "scales"), std::pair("mlx", "biases")}) {
    const TempFolder folder;
    const ModelFolder model =
        RandomQuantizedModel(folder / "m", {.layers = 1}, Grid{.bits = 8, .group_size = 64});
    std::filesystem::create_directory(folder / "q");
    FindExporter(container).write(model, folder / "q", {.writer = "test"});
    const std::string name = std::string("model.layers.0.mlp.up_proj.") + scales;
    ASSERT_EQ(Complaint(folder / "q"), "") << container;
    // A scale of 16 bits, and the bits of its exponent.
    const bool half = TensorFile::OpenFolder(folder / "q").At(name).dtype == DType::kF16;
    const std::uint16_t exponent = half ? 0x7C00 : 0x7F80;
    std::uint16_t bits = 0;
    {
      const TensorFile file = TensorFile::OpenFolder(folder / "q");
      std::memcpy(&bits, file.At(name).bytes.data() + 2 * 5, sizeof(bits));
    }
    for (std::size_t bit = 0; bit < 16; ++bit) {
      if (((exponent & ~bits) >> bit & 1) != 0) FlipBit(folder / "q", name, 8 * 2 * 5 + bit);
    }

    const std::string complaint = Complaint(folder / "q");

    EXPECT_THAT(complaint, HasSubstr("not finite")) << container;
    EXPECT_THAT(complaint, HasSubstr("'" + name + "'"));
    EXPECT_THAT(complaint, HasSubstr("column "));
  }
}

}  // namespace
}  // namespace lieq
