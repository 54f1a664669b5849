// Records as the program writes them (docs/records.md), small, for a model of any number of layers.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "lieq/report/records.h"

namespace lieq {

/// `name` stands wherever a record has a text of the user's.
struct FixtureSpec {
  int layers = 6;
  std::string name = "qwen3-tiny";

  /// As one word of a command line.
  [[nodiscard]] std::string word() const {
    std::string word = name;
    std::ranges::replace(word, ' ', '_');
    return word;
  }
  /// As a folder may be called.
  [[nodiscard]] std::string folder() const {
    std::string folder = name;
    std::ranges::replace(folder, '/', '|');
    return folder;
  }
};

inline Record ModelRecord(const FixtureSpec& spec) {
  Record layers = Record::array();
  for (int i = 0; i < spec.layers; ++i) {
    Record linears = Record::object();
    for (const std::string_view site : kReportLinears) {
      linears[std::string(site)] = {{"relative_error", 0.01 + 0.001 * i},
                                    {"error", 1.0},
                                    {"signal", 100.0},
                                    {"clamped", 0.05}};
    }
    Record row{{"layer", i}, {"bits", i == 1 ? 4 : 2}, {"score", 0.4 + 0.01 * i}};
    row["linears"] = std::move(linears);
    layers.push_back(std::move(row));
  }
  Record record{
      {"schema", 1},
      {"kind", "quantized model"},
      {"program", "lieq 0.1.0 (abc)"},
      {"base_model", spec.folder()},
      {"architecture", spec.name},
      {"command", "lieq quantize " + spec.word()},
      {"settings", {{"method", "gptq"}, {spec.name, spec.name}, {"widths", {2, 4}}}},
      {"ranking", "compactness"},
      {"requested_bits", 2.25},
      {"code_bits_per_weight", 2.375},
      {"bits_per_weight", 2.625},
      {"bytes", 4274608},
      {"source_bytes", 13910696},
      {"compression_ratio", {{"codes_only", 6.737}, {"true_bytes", 3.254}}},
      {"calibration", {{"files", {spec.name}}, {"hash", "25"}, {"tokens", 16384}}},
      {"size_by_part",
       {{"codes", 2000000}, {"scales", 250000}, {"embedding", 2000000}, {"other", 24608}}}};
  record["layers"] = std::move(layers);
  return record;
}

inline Record RunRecord(const FixtureSpec& spec) {
  return {{"schema", 1},       {"kind", "run"},      {"finished", "2026-11-24T16:51:11Z"},
          {"command", "lieq"}, {"seconds", 33.16},   {"peak_bytes", 207646720},
          {"threads", 2},      {"device", spec.name}};
}

inline Record DiagnosticsRecord(const FixtureSpec& spec) {
  Record record{{"schema", 1},
                {"kind", "diagnostics"},
                {"model_hash", "1e35"},
                {"settings", {{"projections", "all"}, {"heads", "per-head"}}},
                {"calibration_files", {spec.name}},
                {"text_files", {spec.name}},
                {"context", 1024},
                {"spectrum_windows", 4},
                {"drop_windows", 8},
                {"base_perplexity", 26.093},
                {"stability",
                 {{"text_hash", "ab"},
                  {"text_files", {spec.name}},
                  {"kendall_tau", {{"compactness", 0.91}, {"block-influence", 0.7}}}}}};
  for (int i = 0; i < spec.layers; ++i) {
    record["layers"].push_back({{"layer", i},
                                {"perplexity_drop", i == 0 ? 3823.5 : 11.0 + i},
                                {"nll_drop", i == 0 ? 4.99 : 0.35 + 0.01 * i},
                                {"compactness", 0.45 + 0.02 * ((i * 5) % 7)},
                                {"top_k_energy", 0.15 + 0.01 * ((i * 3) % 5)},
                                {"block_influence", 1.0 / (i + 1)},
                                {"largest_activation", 20.0 + 1000 * i},
                                {"activation_ratio", 40.0 + 900 * i}});
  }
  return record;
}

inline Record SensitivitiesRecord(const FixtureSpec& spec) {
  Record record{{"schema", 1},
                {"kind", "sensitivities"},
                {"model_hash", "1e35"},
                {"mode", "solo"},
                {"granularity", "group"},
                {"method", "gptq"},
                {"windows", 8},
                {"context", 512},
                {"candidates",
                 {{{"bits", 2}, {"group_size", 64}, {"symmetric", true}},
                  {{"bits", 4}, {"group_size", "row"}, {"symmetric", false}}}},
                {"base_nll", 3.2},
                {"base_kl", 0},
                {"forward_passes", 24.5},
                {"seconds", 120.5},
                {"units", Record::array()}};
  for (int i = 0; i < spec.layers; ++i) {
    double share = 0.1;
    for (const std::string_view unit : kReportUnits) {
      const double rise = share * std::exp(-0.3 * i);
      record["units"].push_back(
          {{"layer", i},
           {"unit", unit},
           {"weights", 1000},
           {"loss", {0.1 * share, nullptr}},
           {"measured", {{{"candidate", 0}, {"nll_rise", rise - 0.001}, {"kl", rise}}}},
           {"predicted_kl", {0.9 * rise, nullptr}}});
      share += 0.05;
    }
  }
  return record;
}

inline Record PlanRecord(const FixtureSpec& spec) {
  Record record{{"schema", 1},
                {"kind", "plan"},
                {"ranking", spec.name},
                {"allocation", "optimal"},
                {"granularity", "group"},
                {"requested", {{"bpw", 2.5}}},
                {"code_bits", 2.25},
                {"bits_per_weight", 2.5},
                {"bytes", 4000000},
                {"compression_ratio", {{"codes_only", 7.1}, {"true_bytes", 3.2}}},
                {"embedding_bits", 16},
                {"head_bits", 16},
                {"predicted_kl", 0.0125}};
  for (int i = 0; i < spec.layers; ++i) {
    record["layers"].push_back(
        {{"layer", i},
         {"bits", {{"qkv", 4}, {"o", 3}, {"gate_up", 2}, {"down", 8}}},
         {"group_size", {{"qkv", 64}, {"o", 32}, {"gate_up", 64}, {"down", 64}}},
         {"score", 0.1 * i}});
  }
  return record;
}

inline Record EvaluationRecord(const std::string& model, const std::string& text,
                               double perplexity) {
  return {{"schema", 1},      {"kind", "evaluation"},   {"model", "/somewhere/" + model},
          {"text", text},     {"text_hash", "43"},      {"perplexity", perplexity},
          {"mean_nll", 3.47}, {"standard_error", 0.1},  {"tokens_scored", 8184},
          {"windows", 8},     {"context", 1024},        {"window_nll", {3.4, 3.5}},
          {"seconds", 1.9},   {"peak_bytes", 15905996}, {"device", "cpu"},
          {"threads", 2}};
}

inline Record SweepRecord(const FixtureSpec& spec) {
  Record record{{"schema", 1},
                {"kind", "study"},
                {"study", "layers"},
                {"model", spec.name},
                {"base", {{"perplexity", {{spec.name, 24.645}}}}},
                {"flags", {{{"flag", spec.name}, {"text", spec.name}}}},
                {"rows", Record::array()}};
  for (const char* ranking : {"compactness", "first"}) {
    for (int high = 0; high <= spec.layers; ++high) {
      const double bits = 2.25 + 2.0 * high / spec.layers;
      record["rows"].push_back({{"ranking", ranking},
                                {"high_layers", high},
                                {"layers", {0, 1}},
                                {"code_bits", bits - 0.25},
                                {"bits_per_weight", bits},
                                {"bytes", 1000000},
                                {"assembled", true},
                                {"perplexity", {{spec.name, 32 - 2 * bits}}},
                                {"gap", {{spec.name, 0.2}}}});
    }
  }
  return record;
}

inline Record CorrelationRecord(const FixtureSpec& spec) {
  return {{"schema", 1},
          {"kind", "study"},
          {"study", "correlation"},
          {"model", spec.name},
          {"flags",
           {{{"flag", "cheap-ranking"}, {"text", "rho is 0.32, below 0.7: do not trust it."}}}},
          {"rows",
           {{{"text", spec.name},
             {"context", 1024},
             {"score", "compactness"},
             {"against", "solo"},
             {"rho", 0.32},
             {"low", -0.1},
             {"high", 0.6}}}}};
}

/// One record of every kind.
inline std::vector<ReportInput> AllRecords(const FixtureSpec& spec = {}) {
  const std::string run = spec.folder() + "-2.25";
  return {{run, "lieq.json", ModelRecord(spec)},
          {run, "run.json", RunRecord(spec)},
          {run, "diagnostics.json", DiagnosticsRecord(spec)},
          {run, "sensitivities.json", SensitivitiesRecord(spec)},
          {run, "plan.json", PlanRecord(spec)},
          {"layers", "study.json", SweepRecord(spec)},
          {"correlation", "study.json", CorrelationRecord(spec)},
          {run, "eval-float.json", EvaluationRecord(spec.folder(), "wiki.txt", 26.0)},
          {run, "eval.json", EvaluationRecord(run, "wiki.txt", 32.0)}};
}

}  // namespace lieq
