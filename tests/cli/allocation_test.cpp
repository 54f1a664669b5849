// sensitivity, and plan and quantize under ceilings, as a user runs them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 4> kUnitNames{"qkv", "o", "gate_up", "down"};

class Allocation : public testing::Test {
 protected:
  // Groups of 128 divide all rows but those of down.
  Allocation() { MakeTinyModel(folder / "model", {.layers = 3, .intermediate = 192}); }

  Outcome Lieq(std::vector<std::string> words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  /// A command of a second or so.
  std::vector<std::string> Command(const std::string& command, const std::string& out,
                                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{
        command, Path("model"),      "-o", Path(out),          "--samples", "4", "--context",
        "64",    "--damage-windows", "2",  "--damage-context", "64",        "-q"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void Run(const std::vector<std::string>& words) {
    const Outcome outcome = Lieq(words);
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
  }
  /// Expects a wrong input: exit code 3, and words that say what is wrong.
  void Fails(const std::string& expected, const std::vector<std::string>& words) {
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 3) << expected << outcome.out;
    EXPECT_NE(outcome.err.find(expected), std::string::npos) << outcome.err;
  }
  std::uint64_t WeightBytes(const std::string& out) const {
    return fs::file_size(folder / out / "model.safetensors");
  }
  std::uint64_t BytesOfPlan(const Json& plan) {
    WriteText(folder / "probe.json", plan.dump());
    const Outcome dry = Lieq({"quantize", Path("model"), "-o", Path("probe"), "--plan",
                              Path("probe.json"), "--group-size", "64", "--dry-run", "--json"});
    EXPECT_EQ(dry.exit, 0) << dry.err;
    return ParseJson(dry.out, "stdout")["bytes"].get<std::uint64_t>();
  }
  /// Files of a folder and when they were written.
  std::map<std::string, fs::file_time_type> Times(const std::string& name) const {
    std::map<std::string, fs::file_time_type> times;
    if (!fs::exists(folder / name)) return times;
    for (const auto& entry : fs::directory_iterator(folder / name)) {
      const std::string file = entry.path().filename().string();
      if (file.ends_with(".safetensors")) times[file] = entry.last_write_time();
    }
    return times;
  }

  TempFolder folder;
};

std::string LayersOf(const Json& plan) {
  return plan["layers"].dump();
}

TEST_F(Allocation, AQuarterOfTheBytesIsMeantWhereNothingIsSaid) {
  Run(Command("plan", "default.json", {"--method", "rtn", "--check", "0"}));
  const Json plan = ReadJson(folder / "default.json");
  EXPECT_EQ(plan["allocation"], "optimal");
  EXPECT_EQ(plan["requested"].dump(), R"({"bpw":4.0})");
  EXPECT_LE(plan["file_bits_per_weight"], 4.0);

  // What names a ranking or an end means the paper's plan.
  for (const std::vector<std::string>& more : {std::vector<std::string>{"--ranking", "first"},
                                               std::vector<std::string>{"--ranking", "compactness"},
                                               std::vector<std::string>{"--widths", "2,8"},
                                               std::vector<std::string>{"--rounding", "paper"},
                                               std::vector<std::string>{"--embedding-bits", "8"}}) {
    Run(Command("plan", "named.json", more));
    const Json named = ReadJson(folder / "named.json");
    EXPECT_EQ(named["allocation"], "top-m") << more.front();
    EXPECT_EQ(named["requested"]["bits"], 2.25) << more.front();
  }
}

TEST_F(Allocation, CandidatesLieAroundWhatTheBudgetLeavesTheLayers) {
  const auto labels = [&](const std::vector<std::string>& budget) {
    std::vector<std::string> words{"--method", "rtn", "--check", "0"};
    words.insert(words.end(), budget.begin(), budget.end());
    Run(Command("plan", "plan.json", words));
    std::string text;
    const Json plan = ReadJson(folder / "plan.json");  // outlives what is read of it
    for (const Json& grid : plan["candidates"]) {
      text += (text.empty() ? "" : " ") + grid["bits"].dump() + ":" + grid["group_size"].dump();
    }
    return text;
  };
  // 64 divides all rows of the model, 128 not all.
  EXPECT_EQ(labels({"--bpw", "3"}), "2:64 2:32 3:64 4:64");
  EXPECT_EQ(labels({"--bpw", "4"}), "2:64 3:64 4:64 4:32");
  EXPECT_EQ(labels({"--bpw", "6"}), "2:64 3:64 4:64 4:32 8:64");
  // An embedding of 16 bits takes from them.
  EXPECT_EQ(labels({"--bpw", "4.5", "--embedding-bits", "16"}), "2:64 2:32 3:64 4:64");
}

TEST_F(Allocation, CandidatesOfTheDefaultMethodAreRoundedByGptq) {
  const auto method = [&](const std::vector<std::string>& more) {
    Run(Command("sensitivity", "s.json", more));
    return ReadJson(folder / "s.json")["method"].get<std::string>();
  };
  EXPECT_EQ(method({"--codes", Path("c1")}), "gptq");
  EXPECT_EQ(method({"--codes", Path("c2"), "--method", "rtn"}), "rtn");
  EXPECT_EQ(method({"--codes", Path("c3"), "--damage-method", "weighted"}), "weighted");
}

TEST_F(Allocation, PlansFromAFileOfSensitivitiesAsFromItsOwnMeasurement) {
  Run(Command("sensitivity", "s.json"));
  Run(Command("plan", "file.json",
              {"--allocation", "optimal", "--bpw", "2.7", "--sensitivities", Path("s.json"),
               "--codes", Path("s.json.codes")}));
  Run(Command("plan", "own.json", {"--allocation", "optimal", "--bpw", "2.7"}));

  const Json s = ReadJson(folder / "s.json"), plan = ReadJson(folder / "file.json");
  EXPECT_EQ(s["kind"], "sensitivities");
  EXPECT_EQ(s["mode"], "solo");
  EXPECT_EQ(s["candidates"].size(), 4u);
  ASSERT_EQ(s["units"].size(), 12u);
  for (const Json& unit : s["units"]) {
    ASSERT_EQ(unit["measured"].size(), 1u);
    EXPECT_EQ(unit["measured"][0]["window_nll_rise"].size(), 2u);
    EXPECT_GT(unit["measured"][0]["kl"], 0.0);
    const std::size_t c = unit["measured"][0]["candidate"];
    EXPECT_EQ(unit["loss"][c], *std::ranges::max_element(unit["loss"]))
        << "the one that costs most";
    EXPECT_EQ(unit["predicted_kl"].size(), 4u);
  }
  EXPECT_DOUBLE_EQ(s["forward_passes"], (3 + 4 * (3 + 2 + 1)) / 3.0);

  EXPECT_EQ(LayersOf(plan), LayersOf(ReadJson(folder / "own.json")));
  EXPECT_EQ(plan["allocation"], "optimal");
  EXPECT_EQ(plan["granularity"], "group");
  EXPECT_EQ(plan["ranking"], "solo");
  EXPECT_EQ(plan["requested"].dump(), R"({"bpw":2.7})");
  EXPECT_LE(plan["file_bits_per_weight"], 2.7);
  EXPECT_GT(plan["file_bits_per_weight"], 2.5);
  ASSERT_EQ(plan["checks"].size(), 4u);
  EXPECT_EQ(plan["checks"][0]["predicted_kl"], plan["predicted_kl"]);
  EXPECT_GT(plan["checks"][0]["kl"], 0.0);
  EXPECT_EQ(plan["layers"][0]["damage"]["qkv"], s["units"][0]["predicted_kl"]);
}

TEST_F(Allocation, ABudgetAloneIsSpentByMeasuredDamageOnGridsOfTheContainer) {
  for (const auto& [target, offsets] :
       {std::pair<std::string, std::set<std::string>>{"any", {"half", "float", "symmetric"}},
        {"mlx", {"half", "float", "symmetric"}},
        {"compressed-tensors", {"symmetric", "integer"}},
        {"gguf", {"symmetric"}}}) {
    Run(Command("plan", target + ".json", {"--bpw", "3.5", "--for", target, "--check", "0"}));

    const Json plan = ReadJson(folder / (target + ".json"));
    EXPECT_EQ(plan["allocation"], "optimal");
    EXPECT_LE((plan.contains("for") ? plan["for"] : plan)["file_bits_per_weight"], 3.5);
    std::set<std::string> found;
    for (const Json& grid : plan["candidates"]) {
      found.insert(grid.value("offset", grid["symmetric"] ? "symmetric" : "integer"));
    }
    EXPECT_EQ(found, offsets) << target;
  }

  Run(Command("quantize", "out", {"--plan", Path("any.json"), "--for", "mlx"}));
  const Json result = ReadJson(folder / "out" / "lieq.json"), plan = ReadJson(folder / "any.json");
  for (std::size_t layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(result["layers"][layer]["offset"], plan["layers"][layer]["offset"]);
  }
  EXPECT_EQ(Lieq({"inspect", Path("out")}).exit, 0);
}

TEST_F(Allocation, RefusesGridsThatTheContainerDoesNotHold) {
  Fails("--for gptq, layer 0, q",
        Command("quantize", "out", {"--uniform", "2", "--offset", "half", "--for", "gptq"}));
  Fails("2:64:float", Command("plan", "plan.json",
                              {"--bpw", "2.7", "--for", "compressed-tensors", "--candidates",
                               "2:64,2:64:float"}));
  EXPECT_EQ(Lieq(Command("plan", "plan.json", {"--bpw", "2.7", "--for", "onnx"})).exit, 2);
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST_F(Allocation, MixesOffsetsThatTheCandidatesName) {
  Run(Command("plan", "plan.json",
              {"--bpw", "2.6", "--candidates", "2:64:half,2:32:half,2:64:float", "--check", "0"}));

  const Json plan = ReadJson(folder / "plan.json");
  ASSERT_EQ(plan["candidates"].size(), 3u);
  EXPECT_EQ(plan["candidates"][2]["offset"], "float");
  for (const Json& layer : plan["layers"])
    EXPECT_EQ(layer.dump().find("symmetric"), std::string::npos);
}

TEST_F(Allocation, MeasuresEveryCandidateWhereAsked) {
  Run(Command("sensitivity", "s.json", {"--measure-all", "--candidates", "2:128,2:64,3:64"}));

  const Json s = ReadJson(folder / "s.json");
  for (std::size_t u = 0; u < 12; ++u) {
    const bool down = u % 4 == 3;
    EXPECT_EQ(s["units"][u]["loss"][0].is_null(), down);
    ASSERT_EQ(s["units"][u]["measured"].size(), down ? 2u : 3u);
    for (const Json& measured : s["units"][u]["measured"]) {
      EXPECT_EQ(s["units"][u]["predicted_kl"][measured["candidate"].get<std::size_t>()],
                measured["kl"]);
    }
  }
}

TEST_F(Allocation, MeasuresInAContextAndPlansFromIt) {
  Run(Command("sensitivity", "s.json", {"--mode", "context"}));
  Run(Command("plan", "plan.json",
              {"--allocation", "optimal", "--bpw", "4.1", "--sensitivities", Path("s.json"),
               "--codes", Path("s.json.codes"), "--check", "1"}));
  // The plan as the base of another measurement.
  Run(Command("sensitivity", "t.json",
              {"--mode", "context", "--base", Path("plan.json"), "--codes", Path("s.json.codes")}));

  const Json s = ReadJson(folder / "s.json"), plan = ReadJson(folder / "plan.json");
  const Json t = ReadJson(folder / "t.json");
  EXPECT_EQ(s["mode"], "context");
  EXPECT_EQ(s["base"], Json(12, 0)) << "2 bits in groups of 64 cost least";
  EXPECT_GT(s["base_kl"], 0.0);
  EXPECT_EQ(plan["ranking"], "context");
  EXPECT_EQ(plan["embedding_bits"], 16) << "ends are measured alone, not in a context";
  EXPECT_LE(plan["file_bits_per_weight"], 4.1);
  EXPECT_LT(plan["predicted_kl"], s["base_kl"]);
  // A model of the same grids, put together twice.
  EXPECT_EQ(t["base_kl"], plan["checks"][0]["kl"]);
}

TEST_F(Allocation, OneCandidateLeavesNothingToMeasureInAContext) {
  Run(Command("sensitivity", "s.json", {"--mode", "context", "--candidates", "2:128,2:64"}));

  const Json s = ReadJson(folder / "s.json");
  EXPECT_EQ(s["units"][3]["measured"].size(), 0u) << "down has 2:64 alone";
  Run(Command("plan", "plan.json",
              {"--allocation", "optimal", "--bpw", "3.7", "--sensitivities", Path("s.json"),
               "--check", "0"}));
}

TEST_F(Allocation, QuantizesWithinACeilingOnBits) {
  for (const char* bpw : {"2.5", "2.75", "3.5"}) {
    Run(Command("quantize", "out",
                {"--allocation", "optimal", "--bpw", bpw, "--codes", Path("codes"), "--force"}));
    const Json inspected = ParseJson(Lieq({"inspect", Path("out"), "--json"}).out, "stdout");
    const Json result = ReadJson(folder / "out/lieq.json");
    EXPECT_LE(result["file_bits_per_weight"], std::stod(bpw));
    EXPECT_GT(result["file_bits_per_weight"], std::stod(bpw) - 0.2);
    EXPECT_EQ(result["bytes"], WeightBytes("out"));
    EXPECT_EQ(result["bits_per_weight"], inspected["bits_per_weight"]);
    EXPECT_EQ(result["settings"]["bpw"], std::stod(bpw));
    EXPECT_FALSE(result["settings"].contains("assembled"));
  }
}

TEST_F(Allocation, ByLayerGivesALayerOneGrid) {
  Run(Command("plan", "plan.json",
              {"--allocation", "optimal", "--bpw", "2.75", "--granularity", "layer"}));

  const Json plan = ReadJson(folder / "plan.json");
  EXPECT_EQ(plan["granularity"], "layer");
  EXPECT_LE(plan["file_bits_per_weight"], 2.75);
  for (const Json& layer : plan["layers"]) {
    EXPECT_TRUE(layer["bits"].is_number());
    EXPECT_TRUE(layer["group_size"].is_number());
  }
}

TEST_F(Allocation, PlansAsQuantizeDoesForAnyNumberOfThreads) {
  const std::vector<std::string> budget{"--allocation", "optimal", "--bpw", "2.7"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), budget.begin(), budget.end());
    return more;
  };
  Run(Command("plan", "plan.json", with({"--threads", "2"})));
  Run(Command("quantize", "out1", with({"--threads", "1"})));
  Run(Command("quantize", "out3", with({"--threads", "3"})));
  Run(Command("quantize", "planned", {"--plan", Path("plan.json")}));

  EXPECT_EQ(Contents(folder / "out1"), Contents(folder / "out3"));
  EXPECT_EQ(ReadText(folder / "out1/model.safetensors"),
            ReadText(folder / "planned/model.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "out1.run"));
  EXPECT_FALSE(fs::exists(folder / "out1.codes"));
}

TEST_F(Allocation, RefiningKeepsTheCeilingAndDoesNoHarm) {
  const std::vector<std::string> budget{"--allocation", "optimal", "--bpw",   "2.7",
                                        "--codes",      Path("c"), "--check", "1"};
  Run(Command("plan", "plain.json", budget));
  std::vector<std::string> more = budget;
  more.insert(more.end(), {"--refine", "12"});
  Run(Command("plan", "refined.json", more));

  const Json plain = ReadJson(folder / "plain.json"), refined = ReadJson(folder / "refined.json");
  EXPECT_LE(refined["file_bits_per_weight"], 2.7);
  EXPECT_LE(refined["checks"][0]["kl"], plain["checks"][0]["kl"]);
}

TEST_F(Allocation, TheFileIsNeverLargerThanAskedAndNoUnitMoreWouldFit) {
  Run(Command("sensitivity", "s.json"));
  const std::string refusal = Lieq(Command("plan", "plan.json",
                                           {"--allocation", "optimal", "--size", "1000",
                                            "--sensitivities", Path("s.json")}))
                                  .err;
  const std::string words = "at least ";
  ASSERT_NE(refusal.find(words), std::string::npos) << refusal;
  const std::uint64_t least = std::stoull(refusal.substr(refusal.find(words) + words.size()));
  for (const std::uint64_t more : {0u, 1u, 5'000u, 12'345u, 40'000u}) {
    const std::uint64_t size = least + more;
    Run(Command("plan", "plan.json",
                {"--allocation", "optimal", "--size", std::to_string(size), "--sensitivities",
                 Path("s.json"), "--codes", Path("s.json.codes"), "--check", "0"}));
    const Json plan = ReadJson(folder / "plan.json");
    Run(Command("quantize", "out", {"--plan", Path("plan.json"), "--force"}));

    EXPECT_EQ(plan["bytes"], WeightBytes("out"));
    EXPECT_LE(WeightBytes("out"), size);
    EXPECT_EQ(plan["requested"]["size"], size);
    for (std::size_t layer = 0; layer < 3; ++layer) {
      for (const char* unit : kUnitNames) {
        const auto of_unit = [&](const Json& value) {
          return value.is_object() ? value[unit] : value;
        };
        const Json& row = plan["layers"][layer];
        const Json bits = of_unit(row["bits"]), group = of_unit(row["group_size"]);
        std::size_t now = 0;
        while (plan["candidates"][now]["bits"] != bits ||
               plan["candidates"][now]["group_size"] != group) {
          ++now;
        }
        for (std::size_t c = 0; c < plan["candidates"].size(); ++c) {
          if (c == now || row["damage"][unit][c] > row["damage"][unit][now]) continue;
          Json raised = plan;
          for (const char* key : {"bits", "group_size"}) {
            Json& of_layer = raised["layers"][layer][key];
            if (!of_layer.is_object()) {
              const Json one = of_layer;
              of_layer = {{"qkv", one}, {"o", one}, {"gate_up", one}, {"down", one}};
            }
            of_layer[unit] = plan["candidates"][c][key];
          }
          EXPECT_GT(BytesOfPlan(raised), size)
              << unit << " of layer " << layer << " could have had candidate " << c << " of "
              << plan["candidates"].dump();
        }
      }
    }
  }
  Fails("at least " + std::to_string(least),
        Command("plan", "plan.json",
                {"--allocation", "optimal", "--size", std::to_string(least - 1), "--sensitivities",
                 Path("s.json"), "--codes", Path("s.json.codes")}));
}

TEST_F(Allocation, TheEndsAreChosenUnderTheBudget) {
  const auto plan = [&](const std::string& bpw, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"--bpw", bpw, "--codes", Path("c"), "--check", "1"};
    words.insert(words.end(), more.begin(), more.end());
    Run(Command("plan", "plan.json", words));
    return ReadJson(folder / "plan.json");
  };
  const Json narrow = plan("2.6"), wide = plan("14");
  ASSERT_EQ(narrow["ends"].size(), 1u) << "a tied model has one matrix";
  EXPECT_EQ(narrow["ends"][0]["end"], "embedding");
  EXPECT_EQ(narrow["ends"][0]["candidates"].size(), 9u);
  EXPECT_EQ(narrow["ends"][0]["kl"][0], 0.0) << "floats lose nothing";
  EXPECT_GT(narrow["ends"][0]["kl"][7], narrow["ends"][0]["kl"][2]) << "2 bits more than 4";
  EXPECT_LT(narrow["embedding_bits"], 8);
  EXPECT_EQ(wide["embedding_bits"], 16);
  EXPECT_EQ(plan("4", {"--embedding-bits", "8"})["embedding_bits"], 8) << "said is said";
  EXPECT_FALSE(plan("4", {"--embedding-bits", "8"}).contains("ends"));
  // gptq has no quantized ends; the others hold what was chosen.
  Fails("at least", Command("plan", "p.json", {"--bpw", "2.6", "--for", "gptq"}));

  // The plan says the ends, and the model has them, whatever --group-size is.
  WriteText(folder / "narrow.json", narrow.dump());
  Run(Command("quantize", "out", {"--plan", Path("narrow.json")}));
  Run(Command("quantize", "again", {"--bpw", "2.6", "--codes", Path("c"), "--check", "1"}));
  const Json result = ReadJson(folder / "out/lieq.json"),
             own = ReadJson(folder / "again/lieq.json");
  EXPECT_EQ(result["embedding_bits"], narrow["embedding_bits"]);
  EXPECT_EQ(result["ends_group_size"], narrow["ends_group_size"]);
  EXPECT_EQ(result["bytes"], narrow["bytes"]);
  EXPECT_EQ(WeightBytes("out"), narrow["bytes"]);
  EXPECT_EQ(ReadText(folder / "out/model.safetensors"),
            ReadText(folder / "again/model.safetensors"));
  EXPECT_EQ(own["file_bits_per_weight"], narrow["file_bits_per_weight"]);
}

TEST_F(Allocation, RankedLayersStayWithinACeilingAndUseItUp) {
  const std::vector<std::string> ranked{"--ranking", "first", "--group-size", "64"};
  const auto plan = [&](const char* option, const std::string& value) {
    std::vector<std::string> more{option, value};
    more.insert(more.end(), ranked.begin(), ranked.end());
    Run(Command("plan", "plan.json", more));
    return ReadJson(folder / "plan.json");
  };
  const std::uint64_t none = plan("--high-layers", "0")["bytes"];
  const std::uint64_t one = plan("--high-layers", "1")["bytes"];
  const std::uint64_t two = plan("--high-layers", "2")["bytes"];
  ASSERT_LT(none, one);
  const auto high = [](const Json& of) {
    return std::ranges::count(of["layers"], Json(4),
                              [](const Json& layer) { return layer["bits"]; });
  };
  // Headers of the files differ by some bytes with the layer that is raised.
  EXPECT_EQ(high(plan("--size", std::to_string(none))), 0);
  EXPECT_EQ(high(plan("--size", std::to_string(one - 100))), 0);
  EXPECT_EQ(high(plan("--size", std::to_string(one))), 1);
  EXPECT_EQ(high(plan("--size", std::to_string(two - 100))), 1);
  EXPECT_EQ(high(plan("--size", std::to_string(two))), 2);
  EXPECT_EQ(plan("--size", std::to_string(two))["layers"][0]["bits"], 4) << "the first layers";
  // The same in bits for each of the model's weights.
  const Json of_two = plan("--high-layers", "2");
  const double bits = of_two["file_bits_per_weight"].get<double>() / static_cast<double>(two);
  const auto bpw = [&](std::uint64_t bytes) {
    return std::to_string(bits * static_cast<double>(bytes));
  };
  EXPECT_EQ(high(plan("--bpw", bpw(none + 10))), 0);
  EXPECT_EQ(high(plan("--bpw", bpw(one - 100))), 0);
  EXPECT_EQ(high(plan("--bpw", bpw(one + 10))), 1);
  EXPECT_EQ(high(plan("--bpw", bpw(two + 10))), 2);
  EXPECT_EQ(high(plan("--bpw", "16")), 3);
  Fails("at least " + std::to_string(none),
        Command("plan", "plan.json",
                {"--ranking", "first", "--group-size", "64", "--size", std::to_string(none - 1)}));
  Fails("--high-layers",
        Command("plan", "plan.json", {"--ranking", "first", "--high-layers", "4"}));
  Fails("--bpw", Command("plan", "plan.json",
                         {"--ranking", "first", "--group-size", "64", "--bpw", "2.24"}));

  Run(Command("quantize", "out",
              {"--ranking", "first", "--group-size", "64", "--size", std::to_string(two)}));
  EXPECT_EQ(WeightBytes("out"), two);
}

TEST_F(Allocation, PutsAModelTogetherFromCodes) {
  const std::vector<std::string> more{"--allocation", "optimal", "--bpw",   "2.7", "--assemble",
                                      "--codes",      Path("c"), "--check", "0"};
  Run(Command("quantize", "out", more));
  const auto times = Times("c");
  EXPECT_EQ(times.size(), 3u * 4u + 8u) << "layers, and the embedding";

  const Json result = ReadJson(folder / "out/lieq.json");
  EXPECT_EQ(result["settings"]["assembled"], true);
  EXPECT_LE(result["file_bits_per_weight"], 2.7);
  EXPECT_NE(result["command"].get<std::string>().find("--assemble"), std::string::npos);
  EXPECT_GT(result["layers"][2]["linears"]["down"]["relative_error"], 0.0);
  EXPECT_EQ(Lieq({"inspect", Path("out")}).exit, 0);
  WriteText(folder / "text", std::string(3000, 'a') + std::string(3000, 'b'));
  Run({"evaluate", Path("out"), "--text", Path("text"), "--context", "128", "--samples", "2"});

  // Codes that are there are used, whatever is asked of them; other widths are added.
  Run(Command("quantize", "other",
              {"--uniform", "3", "--group-size", "64", "--assemble", "--codes", Path("c")}));
  EXPECT_EQ(Times("c"), times);
  EXPECT_EQ(ReadJson(folder / "other/lieq.json")["code_bits_per_weight"], 3.0);
  Run(Command("quantize", "more",
              {"--uniform", "8", "--group-size", "32", "--assemble", "--codes", Path("c")}));
  for (const auto& [file, time] : times) EXPECT_EQ(Times("c")[file], time) << file;
  EXPECT_EQ(Times("c").size(), times.size() + 3);
  // Quantized in sequence, the same plan is another model.
  Run(Command("quantize", "in-sequence", {"--uniform", "3", "--group-size", "64"}));
  EXPECT_EQ(WeightBytes("in-sequence"), WeightBytes("other"));
  EXPECT_NE(ReadText(folder / "in-sequence/model.safetensors"),
            ReadText(folder / "other/model.safetensors"));
}

TEST_F(Allocation, AnInterruptedSweepUsesTheCodesThatAreThere) {
  MakeTinyModel(folder / "model", {.layers = 4});
  const std::vector<std::string> words = Command("sensitivity", "s.json", {"--method", "gptq"});
  // settings.json and 7 files of codes: two of the second layer.
  const Outcome killed = RunInterrupted(folder.path(), "KILL", "file:25", words);
  ASSERT_EQ(killed.exit, 128 + SIGKILL) << killed.err;
  const std::map<std::string, fs::file_time_type> before = Times("s.json.codes");
  ASSERT_EQ(before.size(), 7u);
  EXPECT_FALSE(fs::exists(folder / "s.json"));

  Run(words);

  const auto after = Times("s.json.codes");
  EXPECT_EQ(after.size(), 4u * 5u + 8u);
  for (const auto& [file, time] : before) EXPECT_EQ(after.at(file), time) << file;
  Run(Command("sensitivity", "whole.json", {"--method", "gptq"}));
  Json resumed = ReadJson(folder / "s.json"), whole = ReadJson(folder / "whole.json");
  resumed.erase("seconds");
  whole.erase("seconds");
  EXPECT_EQ(resumed, whole);
  for (const auto& [file, time] : after) {
    EXPECT_EQ(ReadText(folder / "s.json.codes" / file),
              ReadText(folder / "whole.json.codes" / file));
  }
}

TEST_F(Allocation, OptionsThatContradictEachOtherAreUsageErrors) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{"--bpw", "2.5", "--size", "1M"}, "--bpw and --size contradict"},
      {{"--bits", "2.5", "--bpw", "2.5"}, "--bits and --bpw contradict"},
      {{"--size", "1M", "--high-layers", "2"}, "--size and --high-layers contradict"},
      {{"--high-layers", "2", "--uniform", "2"}, "--high-layers and --uniform contradict"},
      {{"--allocation", "optimal"}, "needs --bpw B or --size"},
      {{"--allocation", "optimal", "--bits", "2.5"}, "needs --bpw B or --size"},
      {{"--allocation", "uniform", "--bpw", "2.5"}, "needs --uniform"},
      {{"--allocation", "top-m", "--uniform", "2"}, "contradict"},
      {{"--allocation", "best"}, "top-m, optimal or uniform"},
      {{"--granularity", "row"}, "group or layer"},
      {{"--candidates", "2"}, "BITS:GROUP"},
      {{"--candidates", "2:64,2:64"}, "twice"},
      {{"--candidates", "2:40"}, "--candidates"},
      {{"--bpw", "none"}, "--bpw"},
      {{"--size", "-5"}, "--size"},
      {{"--size", "5X"}, "--size"},
      {{"--size", "1000000000000G"}, "--size"}};
  for (const char* command : {"plan", "quantize"}) {
    for (const auto& [more, expected] : cases) {
      const Outcome outcome = Lieq(Command(command, "out", more));
      EXPECT_EQ(outcome.exit, 2) << command << ", " << expected << outcome.out;
      EXPECT_NE(outcome.err.find(expected), std::string::npos) << outcome.err;
    }
  }
  EXPECT_EQ(Lieq(Command("quantize", "out", {"--bpw", "2.5", "--plan", "plan.json"})).exit, 2);
  EXPECT_EQ(Lieq(Command("quantize", "out", {"--bits", "2.5", "--assemble"})).exit, 2);
  EXPECT_EQ(Lieq(Command("sensitivity", "out", {"--mode", "both"})).exit, 2);
  EXPECT_FALSE(fs::exists(folder / "out"));
  EXPECT_FALSE(fs::exists(folder / "out.codes"));
}

TEST_F(Allocation, SaysWhatIsWrongWithItsInputs) {
  const std::vector<std::string> optimal{"--allocation", "optimal", "--bpw", "2.7"};
  const auto plan = [&](std::vector<std::string> more) {
    more.insert(more.end(), optimal.begin(), optimal.end());
    return Command("plan", "plan.json", more);
  };
  Run(Command("sensitivity", "s.json"));
  const std::string text = ReadText(folder / "s.json");

  Fails("at least 2.4666 bits a weight",
        Command("plan", "plan.json", {"--allocation", "optimal", "--bpw", "2.1"}));
  Fails("divide no row", plan({"--candidates", "2:64,2:256"}));
  Fails("no candidate fits a unit", plan({"--candidates", "2:128,4:128"}));
  Fails("codes of other settings", plan({"--codes", Path("s.json.codes"), "--clip", "none"}));
  MakeTinyModel(folder / "narrow",
                {.layers = 3, .hidden = 96, .intermediate = 192, .heads = 3, .kv_heads = 1});
  std::vector<std::string> other = plan({"--sensitivities", Path("s.json")});
  other[1] = Path("narrow");
  other[3] = Path("other.json");
  Fails("/loss/", other);
  Fails("one of 16, 32, 64, row",
        Command("plan", "plan.json", {"--bits", "2.5", "--group-size", "128"}));
  MakeTinyModel(folder / "short", {.layers = 2});
  other[1] = Path("short");
  other[3] = Path("short.json");
  Fails("expected: 2 layers", other);
  WriteText(folder / "s.json", text.substr(0, text.size() / 2));
  Fails("s.json", plan({"--sensitivities", Path("s.json")}));
  Run(Command("plan", "wide.json", {"--uniform", "2"}));
  Json wide = ReadJson(folder / "wide.json");
  for (Json& layer : wide["layers"]) layer["group_size"] = 128;
  WriteText(folder / "wide.json", wide.dump());
  const auto base = [&](const std::string& candidates) {
    return Command("sensitivity", "t.json",
                   {"--mode", "context", "--base", Path("wide.json"), "--candidates", candidates});
  };
  Fails("wide.json: /layers/0/group_size", base("2:64,4:64"));
  for (Json& layer : wide["layers"]) layer["group_size"] = 32;
  WriteText(folder / "wide.json", wide.dump());
  Fails("not among the candidates", base("2:64,4:64"));
  for (Json& layer : wide["layers"]) {  // where --group-size decides
    layer.erase("group_size");
    layer.erase("offset");
  }
  WriteText(folder / "wide.json", wide.dump());
  std::vector<std::string> wider = base("2:128,2:64");
  wider.insert(wider.end(), {"--group-size", "128"});
  Fails("--group-size: group size does not divide", wider);
  Run(Command("quantize", "out", {"--uniform", "2", "--group-size", "64"}));
  std::vector<std::string> quantized = Command("sensitivity", "t.json");
  quantized[1] = Path("out");
  Fails("quantized already", quantized);
  EXPECT_FALSE(fs::exists(folder / "plan.json"));
  EXPECT_FALSE(fs::exists(folder / "t.json"));
}

}  // namespace
}  // namespace lieq
