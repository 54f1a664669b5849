// --set and --keep: grids of modules by name.
#include <gtest/gtest.h>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using Words = std::vector<std::string>;

class Rules : public testing::Test {
 protected:
  Rules() { MakeTinyModel(folder / "model", {.layers = 3, .intermediate = 192}); }

  std::string Path(const std::string& name) const { return (folder / name).string(); }
  Outcome Run(const std::string& command, const std::string& out, const Words& more) {
    Words words{
        command, Path("model"),      "-o", Path(out),          "--samples", "4", "--context",
        "64",    "--damage-windows", "2",  "--damage-context", "64",        "-q"};
    words.insert(words.end(), more.begin(), more.end());
    if (command == "plan") std::filesystem::remove(folder / out);
    return RunLieq(folder.path(), words);
  }
  Json Plan(const Words& more) {
    const Outcome outcome = Run("plan", "plan.json", more);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return outcome.exit == 0 ? ReadJson(folder / "plan.json") : Json();
  }
  void Refuses(const std::string& expected, const Words& more, int exit = 3) {
    const Outcome outcome = Run("plan", "plan.json", more);
    EXPECT_EQ(outcome.exit, exit) << outcome.out;
    EXPECT_NE(outcome.err.find(expected), std::string::npos) << outcome.err;
  }
  /// Of a unit, whether all units have it or not.
  static Json Of(const Json& plan, std::size_t layer, const char* key, const char* unit) {
    const Json& value = plan["layers"][layer][key];
    return value.is_object() ? value[unit] : value;
  }

  TempFolder folder;
};

TEST_F(Rules, BindWhateverElseDecides) {
  for (const Words& budget :
       {Words{"--uniform", "2"}, Words{"--bits", "2.7", "--ranking", "first"},
        Words{"--bpw", "12", "--ranking", "first"}, Words{"--bpw", "6", "--check", "1"}}) {
    Words words = budget;
    words.insert(words.end(),
                 {"--group-size", "64", "--set", R"(layers\.1\..*(gate|up|down)_proj=w3g32)",
                  "--set", "down=w8", "--set", "embed=w4g32"});
    const Json plan = Plan(words);
    for (std::size_t layer = 0; layer < 3; ++layer) {
      EXPECT_EQ(Of(plan, layer, "bits", "down"), 8) << "the later rule wins";
      EXPECT_EQ(Of(plan, layer, "group_size", "down"), 64) << "--group-size where it says none";
      if (layer != 1) {
        EXPECT_NE(Of(plan, layer, "bits", "gate_up").dump() +
                      Of(plan, layer, "group_size", "gate_up").dump(),
                  "332");
      }
    }
    EXPECT_EQ(Of(plan, 1, "bits", "gate_up"), 3);
    EXPECT_EQ(Of(plan, 1, "group_size", "gate_up"), 32);
    EXPECT_EQ(plan["embedding_bits"], 4);
    EXPECT_EQ(plan["ends_group_size"], 32);
  }
}

TEST_F(Rules, OfAnOptimalPlanAreNoCandidatesOfOthers) {
  const Json plan = Plan({"--bpw", "14", "--candidates", "w2g64,w3g64", "--set", "layers.0.=w8g64",
                          "--keep", "lm_head", "--check", "1"});
  for (const char* unit : {"qkv", "o", "gate_up", "down"}) {
    EXPECT_EQ(Of(plan, 0, "bits", unit), 8);
    EXPECT_EQ(Of(plan, 2, "bits", unit), 3) << "the widest that was offered";
  }
  EXPECT_EQ(plan["embedding_bits"], 16) << "tied to the head that is kept";
  EXPECT_GT(plan["checks"][0]["kl"], 0.0);
  EXPECT_LE(plan["file_bits_per_weight"], 14);
}

TEST_F(Rules, AreRecordedAndTheCommandMakesTheModelAgain) {
  const Words rules{"--method", "rtn",    "--uniform", "w4g32",        "--set",
                    "down=w2",  "--keep", "embed",     "--group-size", "64"};
  ASSERT_EQ(Run("quantize", "out", rules).exit, 0);
  const Json result = ReadJson(folder / "out/lieq.json");
  EXPECT_EQ(result["settings"]["rules"].dump(),
            R"([{"grid":"w2","pattern":"down"},{"grid":"16","pattern":"embed"}])");
  const std::string command = result["command"];
  EXPECT_NE(command.find("--set down=w2 embed=16"), std::string::npos) << command;
  EXPECT_EQ(Of(result, 0, "bits", "down"), 2);
  EXPECT_EQ(Of(result, 0, "bits", "qkv"), 4);
  EXPECT_EQ(RunLieq(folder.path(), {"inspect", Path("out")}).exit, 0);
}

TEST_F(Rules, ThatCannotBeKeptAreRefusedByName) {
  Refuses("k_proj too, or neither", {"--uniform", "4", "--set", "v_proj=w2"});
  Refuses("the nearest name is down_proj", {"--uniform", "4", "--set", "dwn_proj=w2"});
  Refuses("matches no module", {"--uniform", "4", "--keep", "layers.3."});
  Refuses("none stays in floats", {"--uniform", "4", "--keep", "o_proj"});
  Refuses("none stays in floats", {"--uniform", "4", "--set", "mlp=16"});
  Refuses("not a regular expression", {"--uniform", "4", "--set", "(=w2"});
  Refuses("do not divide a row", {"--uniform", "4", "--set", "down=w2g128"});
  Refuses("symmetric, a K-quant, or 16", {"--uniform", "4", "--set", "embed=w4g32:half"});
  Refuses("--for compressed-tensors",
          {"--uniform", "4", "--set", "down=w2g64:half", "--for", "compressed-tensors"});
  Refuses("expected REGEX=GRID", {"--uniform", "4", "--set", "down"}, 2);
  Refuses("expected REGEX=GRID", {"--uniform", "4", "--set", "=w2"}, 2);
  Refuses("expected REGEX=GRID", {"--uniform", "4", "--set", "down=w7"}, 2);
  Refuses("multiple of 16", {"--uniform", "4", "--set", "down=w4g20"}, 2);
  Refuses("a grid such as w4g64", {"--uniform", "w4g"}, 2);
}

}  // namespace
}  // namespace lieq
