// What quantize reads as a source, and what is left of it in the result.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "lieq/base/error.h"
#include "lieq/io/gguf_file.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/assemble.h"
#include "lieq/pipeline/code_store.h"
#include "tests/cli/program.h"
#include "tests/support/changed_tensors.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class Source : public testing::Test {
 protected:
  Outcome Lieq(const std::vector<std::string>& words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }
  /// Quantizes to nearest at 4 bits; the options are put behind.
  Outcome Quantize(const std::string& from, const std::string& to,
                   const std::vector<std::string>& options = {}) {
    std::vector<std::string> words{"quantize",  Path(from), "-o",       Path(to),
                                   "--uniform", "4",        "--method", "rtn"};
    words.insert(words.end(), options.begin(), options.end());
    return Lieq(words);
  }
  void ExpectEqual(const std::string& found, const std::string& expected) {
    const Outcome verified = Lieq({"verify", Path(found), "--against", Path(expected)});
    EXPECT_EQ(verified.exit, 0) << found << "\n" << verified.out << verified.err;
  }

  TempFolder folder;
};

// ---- codes of 8 bits
// -----------------------------------------------------------------------------

TEST_F(Source, CodesOfEightBitsGiveTheSameInEveryContainer) {
  MakeTinyModel(folder / "model", {.layers = 2});
  for (const std::string offset : {"symmetric", "integer"}) {
    const std::string ct = "ct-" + offset;
    const Outcome made = Lieq({"quantize", Path("model"), "-o", Path(ct), "--uniform", "8",
                               "--method", "rtn", "--group-size", "32", "--offset", offset, "-q"});
    ASSERT_EQ(made.exit, 0) << made.err;
    ASSERT_EQ(Quantize(ct, ct + "-4").exit, 0);
    for (const std::string to : {"gptq", "mlx", "gguf"}) {
      if (offset == "integer" && to != "gptq") continue;  // no such grid
      const std::string copy = to + "-" + offset + (to == "gguf" ? ".gguf" : "");
      const Outcome exported = Lieq({"export", Path(ct), "--to", to, "-o", Path(copy), "-q"});
      ASSERT_EQ(exported.exit, 0) << exported.err;

      const Outcome done = Quantize(copy, copy + "-4");

      ASSERT_EQ(done.exit, 0) << done.err;
      ExpectEqual(copy + "-4", ct + "-4");
      const Json config = ReadJson(folder / (copy + "-4") / "config.json");
      EXPECT_FALSE(config.contains("quantization")) << copy;
      EXPECT_EQ(config["quantization_config"]["quant_method"], "compressed-tensors");
    }
  }
}

TEST_F(Source, CodesOfEightBitsAtTheEndsToo) {
  for (const bool tied : {true, false}) {
    const std::string name = tied ? "tied" : "untied";
    MakeTinyModel(folder / name, {.layers = 2, .tied = tied});
    std::vector<std::string> words{
        "quantize", Path(name),     "-o", Path(name + "-8"),  "--uniform", "8", "-q", "--method",
        "rtn",      "--group-size", "32", "--embedding-bits", "8"};
    if (!tied) words.insert(words.end(), {"--head-bits", "8"});
    ASSERT_EQ(Lieq(words).exit, 0);
    ASSERT_EQ(
        Lieq({"export", Path(name + "-8"), "--to", "mlx", "-o", Path(name + "-m"), "-q"}).exit, 0);
    for (const std::string& source : {name + "-8", name + "-m"}) {
      for (const std::vector<std::string>& options :
           {std::vector<std::string>{}, {"--embedding-bits", "4"}}) {
        const std::string out = source + (options.empty() ? "-w" : "-4");
        const Outcome done = Quantize(source, out, options);
        ASSERT_EQ(done.exit, 0) << done.err;
        EXPECT_EQ(Lieq({"inspect", Path(out), "--check"}).exit, 0);
      }
    }
    ExpectEqual(name + "-m-w", name + "-8-w");
    ExpectEqual(name + "-m-4", name + "-8-4");
  }
}

TEST_F(Source, TransformsRefuseCodesWhereverTheyAre) {
  MakeTinyModel(folder / "model", {.layers = 1});
  ASSERT_EQ(Lieq({"export", Path("model"), "--to", "gguf", "-o", Path("m.gguf"), "--embedding-type",
                  "Q8_0", "-q"})
                .exit,
            0);
  const Outcome refused = Quantize("m.gguf", "out", {"--transform", "fuse"});
  EXPECT_EQ(refused.exit, 3);
  EXPECT_THAT(refused.err, HasSubstr("transforms want a source of floats"));
  EXPECT_EQ(Quantize("m.gguf", "out").exit, 0);
}

// ---- keys that are left over
// -----------------------------------------------------------------------

struct LeftOver {
  std::string name, key, value, said;
};

class LeftOverKeys : public Source, public testing::WithParamInterface<LeftOver> {};

TEST_P(LeftOverKeys, AreLeftAsideWhereAllWeightsAreFloats) {
  MakeTinyModel(folder / "model", {.layers = 2});
  fs::copy(folder / "model", folder / "left");
  Record config = ReadRecord(folder / "left" / "config.json");
  const Record value = ParseRecord(GetParam().value, "test");
  config[GetParam().key] = value;
  if (GetParam().key == "quantization") config["quantization_config"] = value;
  WriteText(folder / "left" / "config.json", config.dump());

  const Outcome done = Quantize("left", "left-4");

  ASSERT_EQ(done.exit, 0) << done.err;
  EXPECT_THAT(done.err, HasSubstr("left aside"));
  EXPECT_THAT(done.err, HasSubstr(GetParam().said));
  ASSERT_EQ(Quantize("model", "model-4").exit, 0);
  ExpectEqual("left-4", "model-4");
  EXPECT_EQ(ReadText(folder / "left-4" / "config.json"),
            ReadText(folder / "model-4" / "config.json"));
  EXPECT_THAT(ReadJson(folder / "left-4" / "lieq.json")["notes"][0].get<std::string>(),
              HasSubstr("left aside"));
  EXPECT_FALSE(ReadJson(folder / "model-4" / "lieq.json").contains("notes"));

  // Every other writer, and readers.
  ASSERT_EQ(Quantize("left", "left-t", {"--transform", "fuse"}).exit, 0);
  ASSERT_EQ(Quantize("model", "model-t", {"--transform", "fuse"}).exit, 0);
  ExpectEqual("left-t", "model-t");
  const Outcome exported =
      Lieq({"export", Path("left"), "--to", "gguf", "-o", Path("left.gguf"), "--json"});
  ASSERT_EQ(exported.exit, 0) << exported.err;
  EXPECT_EQ(ParseJson(exported.out, "stdout")["notes"].size(), 1u);
  ExpectEqual("left.gguf", "model");
  EXPECT_EQ(ParseJson(Lieq({"inspect", Path("left"), "--json"}).out, "stdout")["quantized"], false);
}

INSTANTIATE_TEST_SUITE_P(
    Of, LeftOverKeys,
    testing::Values(
        LeftOver{"Mlx", "quantization", R"({"group_size": 64, "bits": 4})", "'quantization'"},
        LeftOver{"Gptq", "quantization_config",
                 R"({"quant_method": "gptq", "bits": 4, "group_size": 128})", "gptq"},
        LeftOver{"CompressedTensors", "quantization_config",
                 R"({"quant_method": "compressed-tensors", "format": "pack-quantized",
                     "config_groups": {"group_0": {"targets": ["Linear"],
                                                   "weights": {"num_bits": 4}}}})",
                 "compressed-tensors"},
        LeftOver{"BitsAndBytes", "quantization_config",
                 R"({"quant_method": "bitsandbytes", "load_in_4bit": true})", "bitsandbytes"},
        LeftOver{"Awq", "quantization_config", R"({"quant_method": "awq", "bits": 4})", "awq"},
        LeftOver{"Fp8", "quantization_config", R"({"quant_method": "fp8"})", "fp8"},
        LeftOver{"NoMethod", "quantization_config", R"({"bits": 4})", "'quantization_config'"}),
    [](const auto& each) { return each.param.name; });

TEST_F(Source, KeysWithPackedPartsAreNotLeftOver) {
  MakeTinyModel(folder / "model", {.layers = 1});
  ASSERT_EQ(Quantize("model", "q").exit, 0);
  Record config = ReadRecord(folder / "q" / "config.json");
  config["quantization_config"]["quant_method"] = "awq";
  WriteText(folder / "q" / "config.json", config.dump());
  EXPECT_THAT(Lieq({"inspect", Path("q")}).err, HasSubstr("quantized by a method"));
}

// ---- what was written is read back
// -----------------------------------------------------------------

TEST(ReadBack, FindsOneChangedBitOfAnyTensor) {
  const TempFolder folder;
  const Grid grid{.bits = 4, .group_size = 64, .offset = Offset::kInteger};
  MakeTinyModel(folder / "m", {.layers = 2, .attention_bias = true});
  const ModelFolder model = OpenModel(folder / "m");
  const ModelFolder codes =
      RandomQuantizedModel(folder / "c", {.layers = 2, .attention_bias = true}, grid);
  const ModelGrids grids = ModelGrids::Uniform(2, grid);
  const auto layer_file = [&](Index layer, Site) {
    return folder / ("layer-" + std::to_string(layer));
  };
  for (Index layer = 0; layer < 2; ++layer) {
    QuantizedLayer made;
    for (const Site site : kAllSites) {
      made.matrices[static_cast<std::size_t>(site)] = std::get<std::shared_ptr<const QMatrix>>(
          codes.weights.layers[Size(layer)].At(site).weight);
    }
    WriteLayerCodes(layer_file(layer, Site::kQ), layer, made, DType::kBF16);
  }
  const fs::path out = folder / "out";
  fs::create_directory(out);
  AssembleModel(model, grids, PlanOutput(model, grids, DType::kBF16), layer_file, {}, out);

  ReadBack(model, grids, layer_file, {}, out);

  std::vector<std::string> names;
  {
    const TensorFile written = TensorFile::OpenFolder(out);
    for (const auto& [name, tensor] : written.tensors()) names.push_back(name);
  }
  for (const std::string& name : names) {
    FlipBit(out, name, 3);
    const std::string message = ErrorOf([&] {
      ReadBack(model, grids, layer_file, {}, out);
      return 0;
    });
    FlipBit(out, name, 3);
    const std::string module = name.substr(0, name.rfind('.'));
    EXPECT_THAT(message, HasSubstr(module)) << name;
  }
  ReadBack(model, grids, layer_file, {}, out);
}

// ---- NaN and infinity
// ------------------------------------------------------------------------------

TEST_F(Source, EveryCommandNamesWhatIsNotFinite) {
  MakeTinyModel(folder / "model", {.layers = 2, .tied = false});
  WriteText(folder / "text.txt", std::string(4000, 'a'));
  const Outcome checked = Lieq({"inspect", Path("model"), "--check"});
  EXPECT_EQ(checked.exit, 0);
  EXPECT_THAT(checked.out, HasSubstr("weights are finite"));
  for (const std::string tensor :
       {"model.embed_tokens.weight", "lm_head.weight", "model.layers.1.mlp.down_proj.weight"}) {
    fs::remove_all(folder / "bad");
    fs::copy(folder / "model", folder / "bad");
    ChangeTensors(folder / "bad", [&](const std::string& name, std::size_t i, float old) {
      return name == tensor && i == 128 * 70 + 5 ? -std::numeric_limits<float>::infinity() : old;
    });
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"inspect", Path("bad"), "--check"},
          {"quantize", Path("bad"), "-o", Path("out"), "--uniform", "4", "--method", "rtn"},
          {"quantize", Path("bad"), "-o", Path("out"), "--uniform", "4", "--method", "rtn",
           "--embedding-bits", "8", "--head-bits", "8"},
          {"export", Path("bad"), "--to", "gguf", "-o", Path("out.gguf")},
          {"evaluate", Path("bad"), "--text", Path("text.txt"), "--context", "64"}}) {
      const Outcome refused = Lieq(words);
      EXPECT_EQ(refused.exit, 3) << words[0] << refused.out;
      EXPECT_THAT(refused.err, HasSubstr(tensor)) << words[0];
      EXPECT_THAT(refused.err, HasSubstr("-infinity"));
    }
    EXPECT_FALSE(fs::exists(folder / "out.run"));
    EXPECT_FALSE(fs::exists(folder / "out.gguf"));
  }
}

}  // namespace
}  // namespace lieq
