// --for: budgets count the bytes of the container that the model is meant for.
#include <gtest/gtest.h>

#include <algorithm>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

constexpr std::array<const char*, 4> kUnitNames{"qkv", "o", "gate_up", "down"};
constexpr std::array<const char*, 4> kGridKeys{"bits", "group_size", "offset", "grid"};

Words And(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

class ForContainer : public testing::Test {
 protected:
  ForContainer() { MakeTinyModel(folder / "model", {.layers = 2, .hidden = 256, .heads = 8}); }

  std::string Path(const std::string& name) const { return (folder / name).string(); }
  Outcome Lieq(const Words& words) { return RunLieq(folder.path(), words); }
  void Run(const Words& words) {
    const Outcome outcome = Lieq(words);
    ASSERT_EQ(outcome.exit, 0) << testing::PrintToString(words) << outcome.err;
  }
  Words Command(const std::string& command, const std::string& out, const Words& more) const {
    return And({command, Path("model"), "-o", Path(out), "--samples", "4", "--context", "64",
                "--damage-windows", "2", "--damage-context", "64", "--method", "rtn", "-q"},
               more);
  }
  Words Quantize(const std::string& out, const Words& more) const {
    return And({"quantize", Path("model"), "-o", Path(out), "--method", "rtn", "-q"}, more);
  }
  /// Bytes of the weight files of an export of `model`.
  std::uint64_t Exported(const std::string& model, const std::string& container) {
    const std::string out = container == "gguf" ? "out.gguf" : "exported";
    Run({"export", Path(model), "--to", container, "-o", Path(out), "-q", "--force"});
    return fs::file_size(container == "gguf" ? folder / out : folder / out / "model.safetensors");
  }
  /// What a dry run says of a plan in the container.
  Json Foreseen(const Json& plan, const std::string& container) {
    WriteText(folder / "probe.json", plan.dump());
    const Outcome dry = Lieq(And(Quantize("probe", {"--plan", Path("probe.json")}),
                                 {"--for", container, "--dry-run", "--json"}));
    EXPECT_EQ(dry.exit, 0) << dry.err;
    return dry.exit == 0 ? ParseJson(dry.out, "stdout")["for"] : Json();
  }
  /// The grid of a candidate by the keys of a layer.
  static Json GridOf(const Json& candidate) {
    const char* otherwise = candidate.value("symmetric", true) ? "symmetric" : "integer";
    return {{"bits", candidate["bits"]},
            {"group_size", candidate["group_size"]},
            {"offset", candidate.value("offset", otherwise)},
            {"grid", candidate.value("k_quant", false)
                         ? "q" + std::to_string(candidate["bits"].get<int>()) + "_k"
                         : "affine"}};
  }
  static Json GridOf(const Json& layer, const std::string& unit) {
    Json grid{{"grid", "affine"}};
    for (const char* key : kGridKeys) {
      if (layer.contains(key)) grid[key] = layer[key].is_object() ? layer[key][unit] : layer[key];
    }
    return grid;
  }
  /// The plan with another grid for one unit.
  static Json WithGrid(const Json& plan, std::size_t layer, const std::string& unit,
                       const Json& candidate) {
    Json changed = plan;
    Json& row = changed["layers"][layer];
    for (const char* key : kGridKeys) {
      Json of_units = Json::object();
      for (const char* each : kUnitNames) of_units[each] = GridOf(plan["layers"][layer], each)[key];
      of_units[unit] = GridOf(candidate)[key];
      row[key] = of_units;
    }
    return changed;
  }
  /// Expects that no unit could have a candidate that loses no more.
  void ExpectNothingMoreFits(const Json& plan, const std::string& container, std::uint64_t size) {
    int tried = 0;
    for (std::size_t layer = 0; layer < plan["layers"].size(); ++layer) {
      for (const char* unit : kUnitNames) {
        const Json& row = plan["layers"][layer];
        const Json& damage = row["damage"][unit];
        const auto now = std::ranges::find(plan["candidates"], GridOf(row, unit),
                                           [](const Json& candidate) { return GridOf(candidate); });
        ASSERT_NE(now, plan["candidates"].end()) << row;
        const std::size_t chosen = static_cast<std::size_t>(now - plan["candidates"].begin());
        for (std::size_t c = 0; c < plan["candidates"].size(); ++c) {
          if (c == chosen || damage[c].is_null() || damage[c] > damage[chosen]) continue;
          ++tried;
          const Json& candidate = plan["candidates"][c];
          EXPECT_GT(Foreseen(WithGrid(plan, layer, unit, candidate), container)["bytes"], size)
              << container << ": " << unit << " of layer " << layer << " could have " << candidate;
        }
      }
    }
    EXPECT_GT(tried, 0);
  }

  TempFolder folder;
};

TEST_F(ForContainer, TheFileIsNeverLargerThanAskedAndNoUnitMoreWouldFit) {
  for (const std::string container : {"gguf", "mlx", "gptq"}) {
    const std::string s = container + ".json";
    Run(Command("sensitivity", s, {"--for", container, "--codes", Path(container + "-codes")}));
    const Words budget{"--for",   container, "--codes",         Path(container + "-codes"),
                       "--check", "0",       "--sensitivities", Path(s),
                       "--size"};
    const std::string refusal = Lieq(Command("plan", "plan.json", And(budget, {"1000"}))).err;
    const std::string words = "at least ";
    ASSERT_NE(refusal.find(words), std::string::npos) << refusal;
    EXPECT_NE(refusal.find(" as " + container), std::string::npos) << refusal;
    const std::uint64_t least = std::stoull(refusal.substr(refusal.find(words) + words.size()));
    for (const std::uint64_t more : {0u, 150'000u}) {
      const std::uint64_t size = least + more;
      Run(Command("plan", "plan.json", And(budget, {std::to_string(size)})));
      Run(Quantize("out", {"--plan", Path("plan.json"), "--for", container, "--force"}));
      const Json plan = ReadJson(folder / "plan.json"), result = ReadJson(folder / "out/lieq.json");
      const std::uint64_t written = Exported("out", container);

      EXPECT_LE(written, size) << container;
      EXPECT_EQ(plan["for"]["container"], container);
      EXPECT_LE(plan["for"]["bytes"], size);
      EXPECT_EQ(result["for"], plan["for"]);
      EXPECT_EQ(result["bytes"], fs::file_size(folder / "out/model.safetensors"));
      if (container == "mlx") {  // of half offsets a letter in the header for each tensor
        EXPECT_GE(plan["for"]["bytes"], written);
        EXPECT_LE(plan["for"]["bytes"], written + 60);
      } else {
        EXPECT_EQ(plan["for"]["bytes"], written);
      }
      ExpectNothingMoreFits(plan, container, size);
    }
    EXPECT_EQ(Lieq(Command("plan", "p.json", And(budget, {std::to_string(least - 1)}))).exit, 3);
  }
}

TEST_F(ForContainer, BitsAWeightAreOfItsFileToo) {
  MakeTinyModel(folder / "model", {.layers = 1, .hidden = 256, .heads = 8});
  Run(Command("quantize", "out", {"--bpw", "9", "--for", "gguf", "--check", "0"}));

  const double bytes = static_cast<double>(Exported("out", "gguf"));
  const Json result = ReadJson(folder / "out/lieq.json");
  EXPECT_LE(result["for"]["file_bits_per_weight"], 9);
  EXPECT_GT(result["for"]["file_bits_per_weight"], 8.5);
  EXPECT_EQ(result["for"]["bytes"].get<double>(), bytes);
  EXPECT_NEAR(result["for"]["file_bits_per_weight"].get<double>() / bytes,
              result["file_bits_per_weight"].get<double>() / result["bytes"].get<double>(), 1e-12);
  const std::string card = ReadText(folder / "out/README.md");
  EXPECT_NE(card.find("| bytes as gguf | " + std::to_string(result["for"]["bytes"].get<long>())),
            std::string::npos)
      << card;
}

TEST_F(ForContainer, ADryRunTellsTheExactBytesBeforehand) {
  for (const std::string container : {"gguf", "mlx", "gptq"}) {
    for (const Words& budget :
         {Words{"--uniform", "4"}, Words{"--bits", "2.5", "--ranking", "first"},
          Words{"--high-layers", "2", "--ranking", "last"}}) {
      const Words words = And(Quantize("out", budget), {"--for", container, "--force"});
      const Outcome dry = Lieq(And(words, {"--dry-run", "--json"}));
      ASSERT_EQ(dry.exit, 0) << dry.err;
      const Json said = ParseJson(dry.out, "stdout");
      const Outcome plain = Lieq(And(words, {"--dry-run"}));
      EXPECT_NE(plain.out.find("as " + container), std::string::npos) << plain.out;
      Run(words);

      EXPECT_EQ(said["for"]["bytes_are"], "exact");
      EXPECT_EQ(said["for"]["bytes"], Exported("out", container)) << container;
      EXPECT_EQ(said["bytes"], fs::file_size(folder / "out/model.safetensors"));
    }
  }
}

TEST_F(ForContainer, RankedLayersUseUpTheBytesOfTheContainer) {
  const Words ranked{"--ranking", "first", "--for", "gguf"};
  const auto plan = [&](const char* option, std::uint64_t value) {
    Run(Command("plan", "plan.json", And(ranked, {option, std::to_string(value)})));
    return ReadJson(folder / "plan.json");
  };
  const auto high = [](const Json& of) {
    return std::ranges::count(of["layers"], Json(4),
                              [](const Json& layer) { return layer["bits"]; });
  };
  const std::uint64_t two = plan("--high-layers", 2)["for"]["bytes"];

  EXPECT_EQ(high(plan("--size", two)), 2);
  EXPECT_EQ(high(plan("--size", two - 1)), 1);
  EXPECT_EQ(plan("--size", two)["for"]["bytes"], two);
}

TEST_F(ForContainer, AFileKeepsItsBytesWhateverItIsCalledAndTellsWhatItIs) {
  Run(Quantize("out", {"--uniform", "4", "--for", "gguf"}));
  fs::rename(folder / "out", folder / "a-much-longer-name-than-it-had");
  const std::uint64_t bytes = Exported("a-much-longer-name-than-it-had", "gguf");

  const Json result = ReadJson(folder / "a-much-longer-name-than-it-had/lieq.json");
  EXPECT_EQ(result["for"]["bytes"], bytes);
  const Outcome inspected = Lieq({"inspect", Path("out.gguf"), "--json"});
  EXPECT_EQ(inspected.exit, 0) << inspected.err;
  EXPECT_EQ(ParseJson(inspected.out, "stdout")["bytes"], bytes);
  const Outcome differs =
      Lieq({"plan", "diff", Path("out.gguf"), Path("a-much-longer-name-than-it-had")});
  EXPECT_EQ(differs.exit, 0) << differs.err;
  // A file of a file is as large.
  Run({"export", Path("out.gguf"), "--to", "gguf", "-o", Path("again.gguf"), "-q"});
  EXPECT_EQ(fs::file_size(folder / "again.gguf"), bytes);
}

TEST_F(ForContainer, WhatTheContainerHasNoPlaceForIsRefusedAtTheStart) {
  const auto fails = [&](const std::string& expected, const Words& more) {
    const Outcome outcome = Lieq(Quantize("out", more));
    EXPECT_EQ(outcome.exit, 3) << outcome.out;
    EXPECT_NE(outcome.err.find(expected), std::string::npos) << outcome.err;
    EXPECT_FALSE(fs::exists(folder / "out"));
  };
  fails("16-bit floats", {"--uniform", "4", "--embedding-bits", "8", "--for", "gptq"});
  fails("gguf, embedding", {"--uniform", "4", "--embedding-bits", "3", "--for", "gguf"});
  // llama.cpp knows a llama3 rope in a llama alone.
  MakeTinyModel(folder / "model", {.llama3_rope = true});
  fails("--for gguf: llama3 rope", {"--uniform", "4", "--for", "gguf"});
}

TEST_F(ForContainer, WithoutItNothingIsSaidOfOtherContainers) {
  for (const Words& more : {Words{}, Words{"--for", "any"}, Words{"--for", "compressed-tensors"}}) {
    Run(And(Quantize("out", {"--uniform", "4", "--force"}), more));
    EXPECT_FALSE(ReadJson(folder / "out/lieq.json").contains("for"));
    EXPECT_FALSE(ReadJson(folder / "out/plan.json").contains("for"));
    // Nothing is filled up in its GGUF file.
    const std::uint64_t plain = Exported("out", "gguf");
    Run(Quantize("counted", {"--uniform", "4", "--for", "gguf", "--force"}));
    EXPECT_LT(plain, Exported("counted", "gguf"));
  }
}

}  // namespace
}  // namespace lieq
