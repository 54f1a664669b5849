#include "lieq/diagnose/diagnosis_json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/model/config.h"

namespace lieq {
namespace {

/// Any finite double, of any size and sign.
double AnyDouble(Rng& rng) {
  return rng.Normal() * std::exp(rng.Normal() * 100);
}

Diagnosis Measured(std::uint64_t seed, bool spectra = true, bool drop = true) {
  Rng rng(seed);
  Diagnosis diagnosis{.layers = std::vector<LayerDiagnosis>(1 + rng.Below(30)),
                      .model_hash = "0123456789abcdef",
                      .context = 1024};
  if (spectra) {
    diagnosis.calibration_hash = "cafe";
    diagnosis.spectrum_windows = 4;
    diagnosis.twins = 4;
    diagnosis.top_fraction = 0.1;
    diagnosis.seed = rng.Bits();
    diagnosis.calibration_files = {"wiki.txt", "books.jsonl.gz"};
    diagnosis.settings = {.projections = static_cast<Projections>(rng.Below(2)),
                          .heads = static_cast<Heads>(rng.Below(2)),
                          .energies = static_cast<Energies>(rng.Below(2))};
    diagnosis.stability = Stability{.text_hash = "f00d",
                                    .text_files = {"code.txt"},
                                    .kendall = {{"compactness", 0.25}, {"energy", -1}}};
  }
  if (drop) {
    diagnosis.text_files = {"test.raw"};
    diagnosis.text_hash = "beef";
    diagnosis.base_perplexity = std::fabs(AnyDouble(rng)) + 1;
    diagnosis.drop_windows = 3;
  }
  for (LayerDiagnosis& layer : diagnosis.layers) {
    if (spectra) {
      layer.compactness = AnyDouble(rng);
      layer.top_k_energy = AnyDouble(rng);
      layer.block_influence = AnyDouble(rng);
      layer.largest_activation = AnyDouble(rng);
      if (rng.Below(4) > 0) layer.activation_ratio = AnyDouble(rng);
      const int sites = diagnosis.settings.projections == Projections::kAll ? kSites : 3;
      for (int site = 0; site < sites; ++site) {
        layer.site_compactness.push_back(AnyDouble(rng));
        layer.site_top_k_energy.push_back(AnyDouble(rng));
      }
    }
    if (drop) {
      layer.nll_drop = AnyDouble(rng);
      layer.window_nll_drop = {AnyDouble(rng), AnyDouble(rng), AnyDouble(rng)};
      layer.solo_damage = AnyDouble(rng);
      layer.context_damage = AnyDouble(rng);
      if (rng.Below(4) > 0) layer.perplexity_drop = AnyDouble(rng);
    }
  }
  return diagnosis;
}

void ExpectEqual(const Diagnosis& a, const Diagnosis& b) {
  EXPECT_EQ(a.model_hash, b.model_hash);
  EXPECT_EQ(a.calibration_hash, b.calibration_hash);
  EXPECT_EQ(a.context, b.context);
  EXPECT_EQ(a.spectrum_windows, b.spectrum_windows);
  EXPECT_EQ(a.twins, b.twins);
  EXPECT_EQ(a.top_fraction, b.top_fraction);
  EXPECT_EQ(a.seed, b.seed);
  EXPECT_EQ(a.base_perplexity, b.base_perplexity);
  EXPECT_EQ(a.drop_windows, b.drop_windows);
  EXPECT_EQ(a.text_hash, b.text_hash);
  EXPECT_EQ(a.text_files, b.text_files);
  EXPECT_EQ(a.calibration_files, b.calibration_files);
  EXPECT_EQ(a.settings, b.settings);
  ASSERT_EQ(a.stability.has_value(), b.stability.has_value());
  if (a.stability) {
    EXPECT_EQ(a.stability->text_hash, b.stability->text_hash);
    EXPECT_EQ(a.stability->text_files, b.stability->text_files);
    EXPECT_EQ(a.stability->kendall, b.stability->kendall);
  }
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    EXPECT_EQ(a.layers[i].perplexity_drop, b.layers[i].perplexity_drop);
    EXPECT_EQ(a.layers[i].nll_drop, b.layers[i].nll_drop);
    EXPECT_EQ(a.layers[i].compactness, b.layers[i].compactness);
    EXPECT_EQ(a.layers[i].top_k_energy, b.layers[i].top_k_energy);
    EXPECT_EQ(a.layers[i].block_influence, b.layers[i].block_influence);
    EXPECT_EQ(a.layers[i].largest_activation, b.layers[i].largest_activation);
    EXPECT_EQ(a.layers[i].activation_ratio, b.layers[i].activation_ratio);
    EXPECT_EQ(a.layers[i].solo_damage, b.layers[i].solo_damage);
    EXPECT_EQ(a.layers[i].context_damage, b.layers[i].context_damage);
    EXPECT_EQ(a.layers[i].window_nll_drop, b.layers[i].window_nll_drop);
    EXPECT_EQ(a.layers[i].site_compactness, b.layers[i].site_compactness);
    EXPECT_EQ(a.layers[i].site_top_k_energy, b.layers[i].site_top_k_energy);
  }
}

Diagnosis ThroughText(const Diagnosis& diagnosis) {
  return DiagnosisFromJson(ParseJson(ToJson(diagnosis).dump(2), "diagnostics.json"),
                           "diagnostics.json");
}

class DiagnosisJsonProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed
INSTANTIATE_TEST_SUITE_P(Seeds, DiagnosisJsonProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{50}));

TEST_P(DiagnosisJsonProperty, ComesBackToTheLastBit) {
  for (const bool spectra : {false, true}) {
    for (const bool drop : {false, true}) {
      const Diagnosis diagnosis = Measured(GetParam(), spectra, drop);

      ExpectEqual(ThroughText(diagnosis), diagnosis);
    }
  }
}

TEST(DiagnosisJson, HoldsTheNumbersAtTheEndsOfTheirRange) {
  Diagnosis diagnosis = Measured(1);
  diagnosis.seed = std::numeric_limits<std::uint64_t>::max();
  diagnosis.layers[0].compactness = std::numeric_limits<double>::denorm_min();
  diagnosis.layers[0].top_k_energy = -std::numeric_limits<double>::max();
  diagnosis.layers[0].nll_drop = 0.1 + 0.2;

  ExpectEqual(ThroughText(diagnosis), diagnosis);
}

TEST(DiagnosisJson, LeavesOutWhatWasNotMeasured) {
  const Record json = ToJson(Measured(1, true, false));

  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["kind"], "diagnostics");
  EXPECT_FALSE(json.contains("base_perplexity"));
  EXPECT_FALSE(json.contains("drop_windows"));
  EXPECT_FALSE(json["layers"][0].contains("nll_drop"));
  EXPECT_FALSE(json["layers"][0].contains("perplexity_drop"));
  EXPECT_TRUE(json["layers"][0].contains("compactness"));
}

TEST(DiagnosisJson, OfWeightsAloneNamesNoText) {
  Diagnosis diagnosis = Measured(1, true, false);
  diagnosis.context = diagnosis.spectrum_windows = 0;
  diagnosis.calibration_hash.clear();
  diagnosis.calibration_files.clear();
  diagnosis.settings.inputs = SpectrumInputs::kWeights;

  EXPECT_FALSE(ToJson(diagnosis).contains("context"));
  EXPECT_FALSE(ToJson(diagnosis).contains("calibration_hash"));
  ExpectEqual(ThroughText(diagnosis), diagnosis);
}

TEST(DiagnosisJson, OfBeforeThereWereSettingsHasTheDefaults) {
  Diagnosis diagnosis = Measured(1);
  diagnosis.settings = {};
  for (LayerDiagnosis& layer : diagnosis.layers) {
    layer.site_compactness.resize(kSites);
    layer.site_top_k_energy.resize(kSites);
  }
  Json json = ParseJson(ToJson(diagnosis).dump(), "diagnostics.json");
  json.erase("settings");

  EXPECT_EQ(DiagnosisFromJson(json, "diagnostics.json").settings, SpectrumSettings{});
}

TEST(DiagnosisJson, LeavesKeysOfProgramsAlone) {
  Json json = ParseJson(ToJson(Measured(1)).dump(), "diagnostics.json");
  json["made_by"] = "lieq 9";

  EXPECT_NO_THROW((void)DiagnosisFromJson(json, "diagnostics.json"));
}

struct Hostile {
  const char* name;
  std::function<void(Json&)> edit;
  const char* where;
  const char* expected;
  const char* found;
};
class DiagnosisJsonRefuses : public testing::TestWithParam<Hostile> {};

TEST_P(DiagnosisJsonRefuses, AndSaysWhereAndWhy) {
  const Hostile& hostile = GetParam();
  Diagnosis diagnosis = Measured(1);
  diagnosis.settings = {};
  diagnosis.layers.front().site_compactness.resize(kSites);
  diagnosis.layers.front().site_top_k_energy.resize(kSites);
  diagnosis.layers.resize(1);
  diagnosis.layers.resize(3, diagnosis.layers.front());
  Json json = ParseJson(ToJson(diagnosis).dump(), "d.json");
  hostile.edit(json);
  try {
    (void)DiagnosisFromJson(json, "d.json");
    FAIL() << "no Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.problem().where, hostile.where);
    EXPECT_EQ(error.problem().expected, hostile.expected);
    EXPECT_EQ(error.problem().found, hostile.found);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, DiagnosisJsonRefuses,
    testing::Values(
        Hostile{"schema", [](Json& j) { j["schema"] = 9; }, "d.json: /schema",
                "1, the one this version reads", "9"},
        Hostile{"kind", [](Json& j) { j["kind"] = "plan"; }, "d.json: /kind", "\"diagnostics\"",
                "\"plan\""},
        Hostile{"no_kind", [](Json& j) { j.erase("kind"); }, "d.json: /kind", "a string",
                "nothing"},
        Hostile{"context_zero", [](Json& j) { j["context"] = 0; }, "d.json: /context", "at least 1",
                "0"},
        Hostile{"context_missing", [](Json& j) { j.erase("context"); }, "d.json: /context",
                "a whole number", "nothing"},
        Hostile{"windows", [](Json& j) { j["spectrum_windows"] = -4; }, "d.json: /spectrum_windows",
                "at least 1", "-4"},
        Hostile{"twins", [](Json& j) { j["twins"] = 0; }, "d.json: /twins", "at least 1", "0"},
        Hostile{"twins_many", [](Json& j) { j["twins"] = 5000000000; }, "d.json: /twins",
                "1 to 1024", "5000000000"},
        Hostile{"fraction", [](Json& j) { j["top_fraction"] = 1.5; }, "d.json: /top_fraction",
                "above 0, at most 1", "1.5"},
        Hostile{"seed", [](Json& j) { j["seed"] = -1; }, "d.json: /seed", "at least 0", "-1"},
        Hostile{"seed_text", [](Json& j) { j["seed"] = "1"; }, "d.json: /seed", "a whole number",
                "\"1\""},
        Hostile{"drop_windows", [](Json& j) { j["drop_windows"] = 0; }, "d.json: /drop_windows",
                "at least 1", "0"},
        Hostile{"base", [](Json& j) { j["base_perplexity"] = -2; }, "d.json: /base_perplexity",
                "above 0", "-2"},
        Hostile{"hash", [](Json& j) { j["model_hash"] = 7; }, "d.json: /model_hash", "a string",
                "7"},
        Hostile{"no_layers", [](Json& j) { j.erase("layers"); }, "d.json: /layers", "", ""},
        Hostile{"empty", [](Json& j) { j["layers"] = Json::array(); }, "d.json: /layers",
                "an array of 1 to 4096 layers", "[]"},
        Hostile{"layers_text", [](Json& j) { j["layers"] = "all"; }, "d.json: /layers",
                "an array of 1 to 4096 layers", "\"all\""},
        Hostile{"row", [](Json& j) { j["layers"][1] = Json::array(); }, "d.json: /layers/1", "",
                "array"},
        Hostile{"order", [](Json& j) { j["layers"][1]["layer"] = 2; }, "d.json: /layers/1/layer",
                "1: layers in order, each once", "2"},
        Hostile{"no_index", [](Json& j) { j["layers"][1].erase("layer"); },
                "d.json: /layers/1/layer", "a whole number", "nothing"},
        Hostile{"value_text", [](Json& j) { j["layers"][2]["compactness"] = "low"; },
                "d.json: /layers/2/compactness", "a number", "\"low\""},
        Hostile{
            "value_infinite",
            [](Json& j) { j["layers"][2]["nll_drop"] = std::numeric_limits<double>::infinity(); },
            "d.json: /layers/2/nll_drop", "a finite number", "null"},
        Hostile{"value_lacking", [](Json& j) { j["layers"][2].erase("top_k_energy"); },
                "d.json: /layers/2/top_k_energy", "a number, as in layer 0", "nothing"},
        Hostile{"value_extra",
                [](Json& j) {
                  for (auto& row : j["layers"]) row.erase("nll_drop");
                  j["layers"][1]["nll_drop"] = 3;
                },
                "d.json: /layers/1/nll_drop", "nothing, as in layer 0", "a number"},
        Hostile{"row_key", [](Json& j) { j["layers"][2]["compactnes"] = 1; },
                "d.json: /layers/2/compactnes",
                "layer, window_nll_drop, perplexity_drop, nll_drop, compactness, top_k_energy, "
                "block_influence, largest_activation, activation_ratio, solo_damage, "
                "context_damage, site_compactness, site_top_k_energy",
                ""},
        Hostile{"site_lacking", [](Json& j) { j["layers"][2]["site_compactness"].erase("gate"); },
                "d.json: /layers/2/site_compactness/gate", "a number", "nothing"},
        Hostile{"site_few",
                [](Json& j) {
                  j["settings"]["projections"] = "qkv";
                  j["layers"][0]["site_compactness"] = {{"q", 1}, {"k", 1}, {"v", 1}, {"o", 1}};
                },
                "d.json: /layers/0/site_compactness", "q, k and v",
                "{\"k\":1,\"o\":1,\"q\":1,\"v\":1}"},
        Hostile{"setting", [](Json& j) { j["settings"]["heads"] = "half"; },
                "d.json: /settings/heads", "per-head or whole", "\"half\""},
        Hostile{"setting_lacking", [](Json& j) { j["settings"].erase("inputs"); },
                "d.json: /settings/inputs", "a string", "nothing"},
        Hostile{"window_drops", [](Json& j) { j["layers"][1]["window_nll_drop"] = {1, 2}; },
                "d.json: /layers/1/window_nll_drop",
                "3 finite numbers, one a window (drop_windows)", "[1,2]"},
        Hostile{"tau", [](Json& j) { j["stability"]["kendall_tau"]["energy"] = 2; },
                "d.json: /stability/kendall_tau/energy", "-1 to 1", "2"},
        Hostile{"names", [](Json& j) { j["calibration_files"] = "a.txt"; },
                "d.json: /calibration_files", "an array of names", "\"a.txt\""},
        Hostile{"site_extra", [](Json& j) { j["layers"][2]["site_compactness"] = 1; },
                "d.json: /layers/2/site_compactness", "", "number"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(DiagnosisJson, RefusesWhatIsNoObject) {
  for (const char* text : {"[]", "3", "null", "\"diagnostics\""}) {
    EXPECT_THROW((void)DiagnosisFromJson(ParseJson(text, "d.json"), "d.json"), Error);
  }
}

}  // namespace
}  // namespace lieq
