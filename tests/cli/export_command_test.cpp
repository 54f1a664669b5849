#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "lieq/io/gguf_file.h"
#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/spoilt_folder.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Export : public testing::Test {
 protected:
  Export() {
    MakeTinyModel(folder / "model", {.layers = 4});
    const Outcome quantized = Lieq({"quantize", Path("model"), "-o", Path("quantized"), "--bits",
                                    "2.5", "--method", "rtn", "-q"});
    if (quantized.exit != 0) throw std::runtime_error(quantized.err);
  }
  Outcome Lieq(const std::vector<std::string>& words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  TempFolder folder;
};

TEST_F(Export, WritesEveryContainerAndVerifiesIt) {
  for (const std::string name : {"compressed-tensors", "gptq", "mlx"}) {
    const std::string out = Path(name);

    const Outcome exported = Lieq({"export", Path("quantized"), "--to", name, "-o", out, "--json"});

    ASSERT_EQ(exported.exit, 0) << exported.err << exported.out;
    const Json record = ParseJson(exported.out, "stdout");
    EXPECT_EQ(record["kind"], "export");
    EXPECT_EQ(record["equal"], true);
    EXPECT_EQ(record["linears"], 28);
    EXPECT_THAT(record["serve"].get<std::string>(), HasSubstr(out));
    EXPECT_FALSE(fs::exists(out + ".run"));

    const Outcome verified = Lieq({"verify", out, "--against", Path("quantized"), "--json"});
    EXPECT_EQ(verified.exit, 0) << verified.err;
    EXPECT_EQ(ParseJson(verified.out, "stdout")["equal"], true);
    const Json inspected = ParseJson(Lieq({"inspect", out, "--json"}).out, "stdout");
    EXPECT_EQ(inspected["code_bits_per_weight"], 2.5);
  }
}

TEST_F(Export, SaysWhichEngineDoesNotRunItOrRunsItSlowlyAndTheWayOut) {
  const auto notes = [&](const std::string& from, const std::string& to,
                         const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"export",  Path(from), "--to",   to,  "-o",
                                   Path("x"), "--force",  "--json", "-q"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    fs::remove_all(folder / "x");
    return ParseJson(outcome.out, "stdout")["notes"].dump();
  };
  ASSERT_EQ(Lieq({"quantize", Path("model"), "-o", Path("odd"), "--uniform", "4", "--group-size",
                  "16", "--method", "rtn"})
                .exit,
            0);

  EXPECT_THAT(notes("quantized", "gguf"), HasSubstr("llama.cpp runs Q2_0 slowly"));
  EXPECT_THAT(notes("quantized", "gguf"), HasSubstr("21 of 28 matrices"));
  EXPECT_THAT(notes("quantized", "gguf"), HasSubstr("--types Q4_0"));
  EXPECT_EQ(notes("quantized", "gguf", {"--types", "Q4_0"}), "[]");
  EXPECT_EQ(notes("model", "gguf"), "[]");
  EXPECT_EQ(notes("quantized", "compressed-tensors"), "[]");
  EXPECT_THAT(notes("odd", "compressed-tensors"), HasSubstr("vLLM does not run this model"));
  EXPECT_THAT(notes("odd", "gptq"), HasSubstr("groups of 32, 64 and 128"));
}

TEST_F(Export, AGridThatTheContainerLacksNamesForAndWhatHoldsIt) {
  ASSERT_EQ(Lieq({"quantize", Path("model"), "-o", Path("odd"), "--uniform", "2", "--offset",
                  "integer", "--group-size", "16", "--method", "rtn"})
                .exit,
            0);

  for (const std::string to : {"gguf", "mlx"}) {
    const Outcome outcome = Lieq({"export", Path("odd"), "--to", to, "-o", Path("n")});

    EXPECT_EQ(outcome.exit, 3);
    EXPECT_THAT(outcome.err, HasSubstr("lieq quantize --for " + to));
    if (to == "mlx") {
      EXPECT_THAT(outcome.err, HasSubstr("held by compressed-tensors, gptq"));
    }
  }
}

TEST_F(Export, QuantizesGgufFilesAsTheFolderTheyCameFrom) {
  const std::vector<std::string> options{"--bits", "2.5",      "--samples", "2", "--context",
                                         "64",     "--method", "gptq",      "-q"};
  const auto quantize = [&](const std::string& from, const std::string& to) {
    std::vector<std::string> words{"quantize", Path(from), "-o", Path(to)};
    words.insert(words.end(), options.begin(), options.end());
    const Outcome done = Lieq(words);
    EXPECT_EQ(done.exit, 0) << done.err;
    const Outcome perplexity =
        Lieq({"evaluate", Path(to), "--text", Path("text.txt"), "--context", "64", "--json", "-q"});
    EXPECT_EQ(perplexity.exit, 0) << perplexity.err;
    return ParseJson(perplexity.out, "stdout")["perplexity"].get<double>();
  };
  std::string text;
  for (int i = 0; i < 300; ++i) text += "line " + std::to_string(i * i) + " of a text\n";
  WriteText(folder / "text.txt", text);
  ASSERT_EQ(Lieq({"export", Path("model"), "--to", "gguf", "-o", Path("f.gguf")}).exit, 0);
  ASSERT_EQ(Lieq({"export", Path("model"), "--to", "gguf", "-o", Path("q.gguf"), "--types", "Q8_0",
                  "--approximate", "--embedding-type", "Q8_0"})
                .exit,
            0);

  const double expected = quantize("model", "from-folder");
  EXPECT_EQ(quantize("f.gguf", "from-floats"), expected);
  EXPECT_EQ(Lieq({"verify", Path("from-floats"), "--against", Path("from-folder")}).exit, 0);
  EXPECT_NEAR(quantize("q.gguf", "from-q8_0"), expected, 0.05 * expected);

  EXPECT_EQ(Lieq({"export", Path("from-q8_0"), "--to", "gguf", "-o", Path("again.gguf")}).exit, 0);
  EXPECT_THAT(Lieq({"quantize", Path("again.gguf"), "-o", Path("n"), "--bits", "2.5"}).err,
              HasSubstr("quantized already"));
  EXPECT_THAT(Lieq({"quantize", Path("q.gguf"), "-o", Path("n"), "--transform", "fuse"}).err,
              HasSubstr("transforms want a source of floats"));
}

TEST_F(Export, CalibrateWritesAnImportanceMatrix) {
  const Outcome done = Lieq({"calibrate", Path("model"), "--imatrix", Path("i.gguf"), "--samples",
                             "2", "--context", "64", "--json"});

  ASSERT_EQ(done.exit, 0) << done.err;
  const Json record = ParseJson(done.out, "stdout");
  EXPECT_EQ(record["tokens"], 128);
  EXPECT_EQ(record["spread"].size(), 4u);
  EXPECT_GE(record["spread"][0]["qkv"], 1.0);
  EXPECT_TRUE(fs::exists(folder / "i.gguf"));
  EXPECT_EQ(Lieq({"calibrate", Path("model")}).exit, 2);
}

TEST_F(Export, RoundsWhereToldToAndVerifyAsksForIt) {
  const std::string out = Path("m.gguf");
  const Outcome exported =
      Lieq({"export", Path("quantized"), "--to", "gguf", "-o", out, "--embedding-type", "Q8_0"});
  ASSERT_EQ(exported.exit, 0) << exported.err << exported.out;
  EXPECT_THAT(exported.out, HasSubstr("1 matrix to the nearest values of Q8_0"));

  EXPECT_EQ(Lieq({"verify", out, "--against", Path("quantized")}).exit, 4);
  const Outcome verified =
      Lieq({"verify", out, "--against", Path("quantized"), "--approximate", "--json"});
  EXPECT_EQ(verified.exit, 0) << verified.out;
  EXPECT_EQ(ParseJson(verified.out, "stdout")["rounded"]["Q8_0"], 1);
  EXPECT_EQ(
      Lieq({"export", Path("quantized"), "--to", "mlx", "-o", Path("n"), "--approximate"}).exit, 2);
}

TEST_F(Export, ExitsWithFourWhereAModelIsAnother) {
  const Outcome quantized = Lieq(
      {"quantize", Path("model"), "-o", Path("other"), "--uniform", "2", "--method", "rtn", "-q"});
  ASSERT_EQ(quantized.exit, 0) << quantized.err;

  const Outcome verified = Lieq({"verify", Path("other"), "--against", Path("quantized")});

  EXPECT_EQ(verified.exit, 4);
  EXPECT_THAT(verified.out, HasSubstr("values"));
  EXPECT_THAT(verified.out, HasSubstr("row "));
  EXPECT_THAT(verified.out, HasSubstr("differences "));
}

TEST_F(Export, VerifyNamesWhatOneFlippedBitChanged) {
  const std::string module = "model.layers.2.mlp.up_proj";
  for (const auto& [container, codes] :
       {std::pair("compressed-tensors", ".weight_packed"), std::pair("gptq", ".qweight"),
        std::pair("mlx", ".weight")}) {
    const std::string out = Path(container);
    ASSERT_EQ(Lieq({"export", Path("quantized"), "--to", container, "-o", out, "-q"}).exit, 0);
    FlipBit(out, module + codes, 0);

    const Outcome verified = Lieq({"verify", out, "--against", Path("quantized")});

    EXPECT_EQ(verified.exit, 4) << container << verified.err;
    EXPECT_THAT(verified.out, testing::StartsWith("codes          " + module + ", row 0, column 0"))
        << container;
  }

  ASSERT_EQ(Lieq({"export", Path("quantized"), "--to", "gguf", "-o", Path("m.gguf"), "-q"}).exit,
            0);
  std::size_t offset = 0;
  {
    const GgufFile file = GgufFile::Open(folder / "m.gguf");
    const auto tensor = std::ranges::find(file.tensors(), "blk.2.ffn_up.weight", &GgufTensor::name);
    offset = static_cast<std::size_t>(tensor->bytes.data() - file.map()->bytes().data());
  }
  FlipBitAt(folder / "m.gguf", 8 * offset);  // the lowest bit of a scale
  const Outcome verified = Lieq({"verify", Path("m.gguf"), "--against", Path("quantized")});
  EXPECT_EQ(verified.exit, 4) << verified.err;
  EXPECT_THAT(verified.out, HasSubstr(module + ", row 0, "));
}

TEST_F(Export, ReplacesNothingUnlessToldTo) {
  const std::vector<std::string> words{"export", Path("quantized"), "--to", "compressed-tensors",
                                       "-o",     Path("out")};
  ASSERT_EQ(Lieq(words).exit, 0);
  const auto before = Contents(folder / "out");

  const Outcome again = Lieq(words);

  EXPECT_EQ(again.exit, 3);
  EXPECT_THAT(again.err, HasSubstr("--force"));
  std::vector<std::string> forced = words;
  forced.insert(forced.end(), {"--force", "--no-verify"});
  const Outcome replaced = Lieq(forced);
  EXPECT_EQ(replaced.exit, 0) << replaced.err;
  EXPECT_EQ(replaced.out.find("verified"), std::string::npos);
  EXPECT_EQ(Contents(folder / "out"), before);
}

TEST_F(Export, LeavesNothingWhereItRefuses) {
  const Outcome exported =
      Lieq({"export", Path("model"), "--to", "compressed-tensors", "-o", Path("out")});

  EXPECT_EQ(exported.exit, 3);
  EXPECT_THAT(exported.err, HasSubstr("the model is not quantized"));
  EXPECT_FALSE(fs::exists(folder / "out"));
  EXPECT_FALSE(fs::exists(folder / "out.run"));
  EXPECT_EQ(Lieq({"export", Path("model"), "--to", "onnx", "-o", Path("out")}).exit, 2);
}

}  // namespace
}  // namespace lieq
