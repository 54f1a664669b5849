// recipe.json: a result made again by one command.
#include <gtest/gtest.h>

#include "lieq/base/files.h"
#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using Words = std::vector<std::string>;

class Recipe : public testing::Test {
 protected:
  Recipe() {
    MakeTinyModel(folder / "model", {.layers = 2});
    std::string text;
    for (int i = 0; i < 3000; ++i) text += static_cast<char>('a' + i * i % 26);
    WriteText(folder / "my text", text);
  }
  std::string Path(const std::string& name) const { return (folder / name).string(); }
  Outcome Quantize(const std::string& out, const Words& more) {
    Words words{"quantize", Path("model"), "-o", Path(out), "-q"};
    words.insert(words.end(), more.begin(), more.end());
    return RunLieq(folder.path(), words);
  }
  std::string Bytes(const std::string& out) { return ReadText(folder / out / "model.safetensors"); }
  void Refuses(const std::string& expected, const std::string& recipe) {
    WriteText(folder / "bad.json", recipe);
    const Outcome outcome = Quantize("bad", {"--recipe", Path("bad.json")});
    EXPECT_EQ(outcome.exit, 2) << recipe << outcome.out;
    EXPECT_NE(outcome.err.find(expected), std::string::npos) << outcome.err;
  }

  TempFolder folder;
};

TEST_F(Recipe, MakesTheSameModelAgain) {
  const std::vector<Words> runs{
      {"--method", "rtn", "--uniform", "w3g32:integer", "--embedding-bits", "8"},
      {"--bits",    "2.7",         "--ranking",     "first",         "--rounding",
       "paper",     "--method",    "gptq",          "--samples",     "4",
       "--context", "64",          "--calibration", Path("my text"), "--damping",
       "0.03",      "--act-order", "none",          "--clip",        "none"},
      {"--bpw",
       "8",
       "--candidates",
       "w2g32,3:32,4:32:integer",
       "--set",
       "down=w4g32",
       "--set",
       "q_proj|k_proj|v_proj=w2",
       "--keep",
       "embed",
       "--check",
       "0",
       "--samples",
       "4",
       "--context",
       "64",
       "--damage-windows",
       "2",
       "--damage-context",
       "64",
       "--drift",
       "0.25,1",
       "--rounds",
       "1",
       "--no-search",
       "--seed",
       "7"},
      {"--uniform", "4", "--group-size", "32", "--transform", "fuse", "--samples", "4", "--context",
       "64", "--line-ends", "keep"}};
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const std::string first = "a" + std::to_string(i), again = "b" + std::to_string(i);
    ASSERT_EQ(Quantize(first, runs[i]).exit, 0) << Quantize(first, runs[i]).err;
    const Outcome outcome = Quantize(again, {"--recipe", Path(first + "/recipe.json")});
    ASSERT_EQ(outcome.exit, 0) << outcome.err;

    EXPECT_EQ(Bytes(again), Bytes(first)) << i;
    EXPECT_EQ(ReadJson(folder / again / "recipe.json"), ReadJson(folder / first / "recipe.json"));
    EXPECT_EQ(ReadJson(folder / again / "lieq.json")["settings"],
              ReadJson(folder / first / "lieq.json")["settings"]);
  }
}

TEST_F(Recipe, IsGoneBeforeByTheCommandLine) {
  ASSERT_EQ(Quantize("a", {"--method", "rtn", "--uniform", "2", "--group-size", "32"}).exit, 0);
  ASSERT_EQ(Quantize("b", {"--uniform", "4", "--recipe", Path("a/recipe.json")}).exit, 0);

  const Json result = ReadJson(folder / "b/lieq.json");
  EXPECT_EQ(result["layers"][0]["bits"], 4);
  EXPECT_EQ(result["layers"][0]["group_size"], 32) << "of the recipe";
}

TEST_F(Recipe, ThatIsWrongIsRefusedByPlace) {
  const auto options = [](const std::string& text) {
    return R"({"schema":1,"kind":"recipe","options":{)" + text + "}}";
  };
  Refuses("did you mean \"uniform\"", options(R"("unifrm":4)"));
  Refuses("/options/threads", options(R"("threads":1)"));
  Refuses("/options/output", options(R"("output":"elsewhere")"));
  Refuses("/options/recipe", options(R"("recipe":"again.json")"));
  Refuses("true or false", options(R"("no-search":"yes")"));
  Refuses("/options/uniform", options(R"("uniform":[4])"));
  Refuses("a string or a number", options(R"("set":[{"down":4}])"));
  Refuses("not a recipe", R"({"schema":1,"kind":"plan","options":{}})");
  Refuses("/extra", R"({"schema":1,"kind":"recipe","options":{},"extra":1})");
  EXPECT_FALSE(std::filesystem::exists(folder / "bad"));
}

}  // namespace
}  // namespace lieq
