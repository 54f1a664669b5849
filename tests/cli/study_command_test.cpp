#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/prose.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class StudyCommand : public testing::Test {
 protected:
  StudyCommand() {
    MakeTinyModel(folder / "model", {.layers = 3});
    WriteText(folder / "one.txt", Prose(1, 400));
    WriteText(folder / "two.txt", Prose(2, 400));
    WriteText(folder / "notes.txt", Prose(3, 1200));
    WriteText(folder / "digits.txt", std::string(5000, '7'));
  }

  std::string Path(const std::string& name) const { return (folder / name).string(); }

  /// A study of a second or so.
  std::vector<std::string> Words(const std::string& name,
                                 const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"study", name, Path("model"), "-o", Path("out"), "-q"};
    const std::vector<std::pair<std::string, std::string>> defaults{
        {"--texts", Path("one.txt")}, {"--calibration", Path("notes.txt")},
        {"--windows", "2"},           {"--lengths", "64"},
        {"--context", "64"},          {"--samples", "4"},
        {"--group-size", "32"}};
    for (const auto& [option, value] : defaults) {
      if (std::ranges::find(more, option) != more.end()) continue;
      words.insert(words.end(), {option, value});
    }
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Outcome Run(const std::string& name, const std::vector<std::string>& more = {}) {
    return RunLieq(folder.path(), Words(name, more));
  }

  Record Study() const { return ReadRecord(folder / "out/study.json"); }
  void Change(const std::function<void(Record&)>& edit) {
    Record study = Study();
    edit(study);
    WriteText(folder / "out/study.json", study.dump(1) + "\n");
  }
  std::vector<std::string> Keys() const {
    std::vector<std::string> keys;
    const Record study = Study();
    for (const Record& row : study["rows"]) keys.push_back(row["key"]);
    return keys;
  }
  std::vector<std::string> Flags() const {
    std::vector<std::string> flags;
    const Record study = Study();
    for (const Record& flag : study["flags"]) flags.push_back(flag["flag"]);
    return flags;
  }

  /// Takes the last row away, marks the first, and starts the study again: the last must come back
  /// as it was, and the mark must still be there.
  void ExpectGoesOn(const std::string& name, const std::vector<std::string>& more) {
    const Record whole = Study();
    Change([](Record& study) {
      study["rows"].erase(study["rows"].size() - 1);
      study["rows"][0]["mark"] = "kept";
    });
    const Outcome again = Run(name, more);
    ASSERT_EQ(again.exit, 0) << again.err;
    Record resumed = Study();
    EXPECT_EQ(resumed["rows"][0]["mark"], "kept");
    resumed["rows"][0].erase("mark");
    EXPECT_EQ(resumed, whole);
  }

  TempFolder folder;
};

TEST_F(StudyCommand, CorrelationComparesCheapScoresWithDamageOnEachText) {
  const std::vector<std::string> more{"--texts", Path("one.txt"), Path("two.txt")};
  const Outcome made = Run("correlation", more);

  ASSERT_EQ(made.exit, 0) << made.err;
  EXPECT_THAT(made.out, HasSubstr("rho"));
  const Record study = Study();
  EXPECT_EQ(study["schema"], 1);
  EXPECT_EQ(study["kind"], "study");
  // For each text: one row of measurements, three scores with the drop, four with each damage.
  ASSERT_EQ(study["rows"].size(), 2u * (1 + 3 + 4 + 4));
  const Record& measured = study["rows"][0];
  EXPECT_EQ(measured["key"], "measured: one.txt, 64");
  for (const char* key : {"drop", "solo", "solo_kl"}) {
    EXPECT_EQ(measured[key].size(), 3u) << key;
    EXPECT_EQ(measured[key][0].size(), 2u) << key;
  }
  for (const Record& row : study["rows"]) {
    if (!row.contains("rho")) continue;
    EXPECT_LE(row["low"], row["rho"]) << row["key"];
    EXPECT_GE(row["high"], row["rho"]) << row["key"];
  }
  ExpectGoesOn("correlation", more);
}

TEST_F(StudyCommand, CorrelationFlagsAScoreThatDoesNotPredict) {
  ASSERT_EQ(Run("correlation").exit, 0);
  const auto set_rho = [&](double rho) {
    Change([&](Record& study) {
      for (Record& row : study["rows"]) {
        if (!row["key"].get<std::string>().starts_with("measured")) row["rho"] = rho;
      }
      // Not a cheap score: whatever it correlates with, there is nothing to warn of.
      for (Record& row : study["rows"]) {
        if (row.value("score", "") == "perplexity-drop") row["rho"] = -1.0;
      }
    });
    ASSERT_EQ(Run("correlation").exit, 0);
  };

  set_rho(0.71);
  EXPECT_THAT(Flags(), IsEmpty());
  set_rho(0.69);
  EXPECT_THAT(Flags(), ElementsAre("cheap-ranking"));
}

TEST_F(StudyCommand, ActivationsComparesTheDamageOfInputsWithThatOfWeights) {
  const std::vector<std::string> more{"--group-sizes", "64,row"};
  const Outcome made = Run("activations", more);

  ASSERT_EQ(made.exit, 0) << made.err;
  EXPECT_THAT(made.out, HasSubstr("int4 by row"));
  const Record study = Study();
  // One text: its measurements, and four scores with each of four roundings.
  ASSERT_EQ(study["rows"].size(), 1u + 4 * 4);
  const auto total = [&](const std::string& name) {
    double sum = 0;
    for (const Record& layer : study["rows"][0]["kl"][name]) {
      for (const Record& window : layer) sum += window.get<double>();
    }
    return sum;
  };
  EXPECT_EQ(study["rows"][0]["kl"]["weights"].size(), 3u);
  EXPECT_GT(total("int8 by 64"), 0);
  EXPECT_GT(total("int4 by 64"), 20 * total("int8 by 64"));  // steps of 18 times the size
  EXPECT_GT(total("int4 by row"), total("int4 by 64"));
  ExpectGoesOn("activations", more);
  EXPECT_NE(Run("activations").exit, 0);  // other columns are another study
}

TEST_F(StudyCommand, LayersSweepsEachRankingFromNoLayerToAll) {
  const std::vector<std::string> more{"--rankings", "first,last", "--most", "9"};
  const Outcome made = Run("layers", more);

  ASSERT_EQ(made.exit, 0) << made.err;
  EXPECT_THAT(Keys(), ElementsAre("no layer raised", "first 1", "first 2", "first 3", "last 1",
                                  "last 2", "last 3"));
  const Record study = Study();
  EXPECT_EQ(study["rows"][2]["layers"], (Record{0, 1}));
  EXPECT_EQ(study["rows"][4]["layers"], (Record{2}));
  EXPECT_EQ(study["rows"][0]["code_bits"], 2.0);
  EXPECT_EQ(study["rows"][3]["code_bits"], 4.0);
  // All layers raised: the same mix, whatever raised them.
  EXPECT_EQ(study["rows"][3]["perplexity"], study["rows"][6]["perplexity"]);
  EXPECT_GT(study["base"]["perplexity"]["one.txt"], 1.0);
  ExpectGoesOn("layers", more);
}

TEST_F(StudyCommand, LayersTakesRankingsByMeasurementsOfItsOwn) {
  const Outcome made = Run("layers", {"--rankings", "perplexity-drop,combined", "--most", "1"});
  ASSERT_EQ(made.exit, 0) << made.err;
  EXPECT_THAT(Keys(), ElementsAre("no layer raised", "perplexity-drop 1", "combined 1"));

  fs::remove_all(folder / "out");
  const Outcome solo = Run("layers", {"--rankings", "solo", "--most", "1"});
  EXPECT_EQ(solo.exit, 2);
  EXPECT_THAT(solo.err, HasSubstr("--sensitivities"));
}

TEST_F(StudyCommand, LayersFlagsAPerplexityAbove100WithOneLayerRaised) {
  const std::vector<std::string> more{"--rankings", "first", "--most", "1"};
  ASSERT_EQ(Run("layers", more).exit, 0);
  const auto set = [&](std::size_t row, double perplexity) {
    Change([&](Record& study) { study["rows"][row]["perplexity"]["one.txt"] = perplexity; });
    ASSERT_EQ(Run("layers", more).exit, 0);
  };

  set(0, 1e6);  // with no layer raised: expected to be bad
  set(1, 99);
  EXPECT_THAT(Flags(), IsEmpty());
  set(1, 101);
  EXPECT_THAT(Flags(), ElementsAre("perplexity-above-100"));
  EXPECT_THAT(Study()["flags"][0]["text"].get<std::string>(), HasSubstr("massive activations"));
}

TEST_F(StudyCommand, CalibrationSweepsTextsSizesAndLengthsUnderOnePlan) {
  const std::vector<std::string> more{
      "--calibration", Path("notes.txt"), Path("digits.txt"), "--sizes", "2,4",
      "--lengths",     "64,128",          "--high-layers",    "1"};
  const Outcome made = Run("calibration", more);

  ASSERT_EQ(made.exit, 0) << made.err;
  EXPECT_THAT(Keys(), ElementsAre("notes.txt, 2 windows of 64", "notes.txt, 4 windows of 64",
                                  "notes.txt, 2 windows of 128", "notes.txt, 4 windows of 128",
                                  "digits.txt, 2 windows of 64", "digits.txt, 4 windows of 64",
                                  "digits.txt, 2 windows of 128", "digits.txt, 4 windows of 128"));
  const Record study = Study();
  for (const Record& row : study["rows"]) {
    EXPECT_EQ(row["code_bits"], study["rows"][0]["code_bits"]);
    EXPECT_EQ(row.contains("tau"), row["calibration"] == "digits.txt");
  }
  EXPECT_THAT(made.out, HasSubstr("tau compactness"));  // a column that the first rows lack
  ExpectGoesOn("calibration", more);
}

TEST_F(StudyCommand, CalibrationFlagsASpreadAbove20Percent) {
  const std::vector<std::string> more{"--sizes", "2,4"};
  ASSERT_EQ(Run("calibration", more).exit, 0);
  const auto set = [&](double first, double second) {
    Change([&](Record& study) {
      study["rows"][0]["perplexity"]["one.txt"] = first;
      study["rows"][1]["perplexity"]["one.txt"] = second;
    });
    ASSERT_EQ(Run("calibration", more).exit, 0);
  };

  set(50, 59);
  EXPECT_THAT(Flags(), IsEmpty());
  set(50, 61);
  EXPECT_THAT(Flags(), ElementsAre("calibration-spread"));
}

TEST_F(StudyCommand, CalibrationFlagsRankingsThatChangeWithTheText) {
  const std::vector<std::string> more{"--calibration", Path("notes.txt"), Path("digits.txt"),
                                      "--sizes", "2"};
  ASSERT_EQ(Run("calibration", more).exit, 0);

  // The record of the second text says how far each ranking agrees.
  std::size_t unstable = 0;
  const Record taus = Study()["rows"][1]["tau"];
  EXPECT_FALSE(taus.empty());
  for (const auto& [ranking, tau] : taus.items()) {
    unstable += tau.get<double>() < 0.8 ? 1 : 0;
  }
  const std::vector<std::string> flags = Flags();
  EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(flags, "ranking-stability")), unstable);
}

TEST_F(StudyCommand, BackendSweepsMethodsOrdersAndGroupSizes) {
  const std::vector<std::string> more{"--methods",     "rtn,gptq", "--act-orders", "none,static",
                                      "--group-sizes", "32,row",   "--bits",       "2.6"};
  const Outcome made = Run("backend", more);

  ASSERT_EQ(made.exit, 0) << made.err;
  // The order is nothing to rtn: it comes once.
  EXPECT_THAT(Keys(), ElementsAre("rtn, group 32", "rtn, group row", "gptq-none, group 32",
                                  "gptq-none, group row", "gptq-static, group 32",
                                  "gptq-static, group row"));
  const Record study = Study();
  EXPECT_EQ(study["rows"][1]["group_size"], "row");
  EXPECT_NE(study["rows"][2]["perplexity"], study["rows"][4]["perplexity"]);
  ExpectGoesOn("backend", more);
}

TEST_F(StudyCommand, BackendRunsTransformsAndAwqUnderOnePlan) {
  const std::vector<std::string> more{"--transforms", "none,rotate+permute", "--methods",
                                      "rtn,awq",      "--group-sizes",       "32"};

  const Outcome made = Run("backend", more);

  ASSERT_EQ(made.exit, 0) << made.err;
  EXPECT_THAT(Keys(),
              ElementsAre("rtn, group 32", "awq-static, group 32", "rotate+permute-rtn, group 32",
                          "rotate+permute-awq-static, group 32"));
  const Record study = Study();
  EXPECT_EQ(study["rows"][0].count("transform"), 0u);
  EXPECT_EQ(study["rows"][1]["transform"], Record::array({"awq"}));
  EXPECT_EQ(study["rows"][3]["transform"], Record::array({"fuse", "rotate", "permute", "awq"}));
  for (const Record& row : study["rows"]) {
    EXPECT_EQ(row["code_bits"], study["rows"][0]["code_bits"]);
  }
  EXPECT_NE(study["rows"][0]["perplexity"], study["rows"][2]["perplexity"]);
  EXPECT_EQ(Run("backend", {"--transforms", "turn"}).exit, 2);
}

TEST_F(StudyCommand, BackendFlagsASpreadAbove15PercentAndPerplexitiesAbove100) {
  const std::vector<std::string> more{"--group-sizes", "32,64"};
  ASSERT_EQ(Run("backend", more).exit, 0);
  const auto set = [&](double first, double second) {
    Change([&](Record& study) {
      study["rows"][0]["perplexity"]["one.txt"] = first;
      study["rows"][1]["perplexity"]["one.txt"] = second;
    });
    ASSERT_EQ(Run("backend", more).exit, 0);
  };

  set(50, 57);
  EXPECT_THAT(Flags(), IsEmpty());
  set(50, 58);
  EXPECT_THAT(Flags(), ElementsAre("backend-spread"));
  set(110, 111);
  EXPECT_THAT(Flags(), ElementsAre("perplexity-above-100"));
}

TEST_F(StudyCommand, BackendFollowsAPlanUnitByUnit) {
  Record plan{{"schema", 1}, {"kind", "plan"}, {"layers", Record::array()}};
  for (int layer = 0; layer < 3; ++layer) {
    plan["layers"].push_back({{"layer", layer}, {"bits", layer == 1 ? 3 : 2}});
  }
  plan["layers"][2]["bits"] = {{"qkv", 2}, {"o", 8}, {"gate_up", 2}, {"down", 4}};
  WriteText(folder / "plan.json", plan.dump());

  const std::vector<std::string> more{"--plan", Path("plan.json")};
  const Outcome made = Run("backend", more);

  ASSERT_EQ(made.exit, 0) << made.err;
  // Weights of a unit in 1024s: qkv 32, o 16, gate_up 64, down 32, of 144 a layer.
  const double bits = 2 + (144 * 1 + 16 * 6 + 32 * 2) / (3 * 144.0);
  EXPECT_NEAR(Study()["rows"][0]["code_bits"].get<double>(), bits, 1e-12);

  WriteText(folder / "plan.json", plan.dump(1));  // the same plan
  EXPECT_EQ(Run("backend", more).exit, 0);
  plan["layers"][0]["bits"] = 3;
  WriteText(folder / "plan.json", plan.dump());
  EXPECT_EQ(Run("backend", more).exit, 3);
}

TEST_F(StudyCommand, BackendPutsItsOwnGroupsAndOffsetInPlaceOfAPlans) {
  Record plan{{"schema", 1}, {"kind", "plan"}, {"layers", Record::array()}};
  for (int layer = 0; layer < 3; ++layer) {
    plan["layers"].push_back(
        {{"layer", layer}, {"bits", 2}, {"group_size", 32}, {"offset", "float"}});
  }
  WriteText(folder / "plan.json", plan.dump());

  const Outcome made = Run("backend", {"--plan", Path("plan.json"), "--group-sizes", "64"});

  ASSERT_EQ(made.exit, 0) << made.err;
  EXPECT_NEAR(Study()["rows"][0]["bits_per_weight"].get<double>(), 2.25, 1e-12);
}

TEST_F(StudyCommand, GoesOnOnlyWithTheSettingsOfItsRows) {
  const std::vector<std::string> more{"--rankings", "first", "--most", "1"};
  ASSERT_EQ(Run("layers", more).exit, 0);
  const std::vector<std::pair<std::string, std::vector<std::string>>> others{
      {"/settings/damping", {"--damping", "0.1"}},
      {"/settings/windows", {"--windows", "3"}},
      {"/settings/length", {"--lengths", "32"}},
      {"/settings/widths", {"--widths", "3,4"}},
      {"/settings/group_size", {"--group-size", "64"}},
      {"/settings/texts", {"--texts", Path("two.txt")}},
      {"/settings/calibration", {"--calibration", Path("two.txt")}}};
  const std::string before = ReadText(folder / "out/study.json");

  for (const auto& [place, words] : others) {
    std::vector<std::string> changed = more;
    changed.insert(changed.end(), words.begin(), words.end());
    const Outcome outcome = Run("layers", changed);
    EXPECT_EQ(outcome.exit, 3) << place;
    EXPECT_THAT(outcome.err, HasSubstr(place));
  }
  const Outcome another = Run("backend");
  EXPECT_EQ(another.exit, 3);
  EXPECT_THAT(another.err, HasSubstr("/study"));
  EXPECT_EQ(ReadText(folder / "out/study.json"), before);
  // More of the same is no other setting.
  EXPECT_EQ(Run("layers", {"--rankings", "first,last", "--most", "1"}).exit, 0);
  EXPECT_THAT(Keys(), ElementsAre("no layer raised", "first 1", "last 1"));
}

TEST_F(StudyCommand, RefusesACalibrationTextThatWasChanged) {
  ASSERT_EQ(Run("layers", {"--rankings", "first", "--most", "1"}).exit, 0);
  WriteText(folder / "notes.txt", Prose(4, 1200));

  const Outcome outcome = Run("layers", {"--rankings", "first", "--most", "1"});

  EXPECT_EQ(outcome.exit, 3);
  EXPECT_THAT(outcome.err, HasSubstr("/settings/calibration"));
}

TEST_F(StudyCommand, RefusesRowsThatNoStudyWrites) {
  const std::vector<std::string> more{"--rankings", "first", "--most", "1"};
  ASSERT_EQ(Run("layers", more).exit, 0);
  const Record good = Study();
  const auto fails = [&](const std::string& place, const std::function<void(Record&)>& edit) {
    WriteText(folder / "out/study.json", good.dump());
    Change(edit);
    const Outcome outcome = Run("layers", more);
    EXPECT_EQ(outcome.exit, 3) << place << outcome.out;
    EXPECT_THAT(outcome.err, HasSubstr(place));
  };

  fails("/kind", [](Record& s) { s["kind"] = "plan"; });
  fails("/settings", [](Record& s) { s["settings"] = 3; });
  fails("/rows", [](Record& s) { s["rows"] = Record::object(); });
  fails("/rows/1", [](Record& s) { s["rows"][1] = 4; });
  fails("/rows/1/key", [](Record& s) { s["rows"][1]["key"] = s["rows"][0]["key"]; });
  fails("/rows/1/perplexity", [](Record& s) { s["rows"][1].erase("perplexity"); });
  fails("/rows/0/perplexity/one.txt",
        [](Record& s) { s["rows"][0]["perplexity"]["one.txt"] = "low"; });
  fails("/base/perplexity", [](Record& s) { s["base"]["perplexity"] = Record::array(); });
  WriteText(folder / "out/study.json", "[]");
  EXPECT_EQ(Run("layers", more).exit, 3);
}

TEST_F(StudyCommand, SaysWhatIsWrongWithItsWords) {
  EXPECT_EQ(Run("corelation").exit, 2);
  EXPECT_EQ(Run("layers", {"--rankings", "best"}).exit, 2);
  EXPECT_EQ(Run("backend", {"--methods", "awk"}).exit, 2);
  fs::create_directory(folder / "other");
  fs::copy_file(folder / "one.txt", folder / "other/one.txt");
  const Outcome texts = Run("layers", {"--texts", Path("one.txt"), Path("other/one.txt")});
  EXPECT_EQ(texts.exit, 3);
  EXPECT_THAT(texts.err, HasSubstr("two texts of one name"));
  const Outcome calibration =
      Run("calibration", {"--calibration", Path("one.txt"), Path("other/one.txt")});
  EXPECT_EQ(calibration.exit, 3);
  EXPECT_THAT(calibration.err, HasSubstr("two texts of one name"));
}

}  // namespace
}  // namespace lieq
