#include "lieq/cli/option_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "lieq/plan/grid_names.h"
#include "lieq/quantize/options.h"
#include "lieq/transform/transforms.h"

namespace lieq {

int ParseWidth(std::string_view option, const std::string& text) {
  const int bits = Parse<int>(option, text, 2, 8, "2, 3, 4, 5, 6 or 8");
  if (!IsWidth(bits)) {
    throw UsageError(std::string(option) + ": expected 2, 3, 4, 5, 6 or 8, found '" + text + "'");
  }
  return bits;
}

int ParseEndBits(std::string_view option, const std::string& text) {
  const int bits = Parse<int>(option, text, 2, 16, "16, 8, 6, 5, 4, 3 or 2");
  if (bits != 16 && !IsWidth(bits)) {
    throw UsageError(std::string(option) + ": expected 16, 8, 6, 5, 4, 3 or 2, found '" + text +
                     "'");
  }
  return bits;
}

void SetWidths(Arguments& arguments, const std::string& text) {
  const auto comma = text.find(',');
  if (comma == std::string::npos) {
    throw UsageError("--widths: expected LOW,HIGH such as 2,4, found '" + text + "'");
  }
  arguments.run.budget.low = ParseWidth("--widths", text.substr(0, comma));
  arguments.run.budget.high = ParseWidth("--widths", text.substr(comma + 1));
  if (arguments.run.budget.low >= arguments.run.budget.high) {
    throw UsageError("--widths: expected the lower width first, found '" + text + "'");
  }
  arguments.says_ranking = true;
}

std::vector<std::string> SplitAtCommas(std::string_view text) {
  std::vector<std::string> parts;
  for (auto comma = text.find(','); comma != std::string_view::npos; comma = text.find(',')) {
    parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(comma + 1);
  }
  parts.emplace_back(text);
  return parts;
}

Strength ParseStrength(std::string_view option, const std::string& text) {
  const std::vector<std::string> parts = SplitAtCommas(text);
  if (parts.size() > 2) {
    throw UsageError(std::string(option) + ": expected one number or two, found '" + text + "'");
  }
  const auto number = [&](const std::string& part) {
    return Parse<double>(option, part, 0.0, 1.0, "0 to 1");
  };
  return {number(parts.front()), number(parts.back())};
}

void SetTextFields(Arguments& arguments, const std::string& text) {
  arguments.run.reading.fields = SplitAtCommas(text);
  for (const std::string& field : arguments.run.reading.fields) {
    if (!field.empty()) continue;
    throw UsageError("--text-field: expected NAME[,NAME...], found '" + text + "'");
  }
}

void SetChatFields(Arguments& arguments, const std::string& text) {
  for (const std::string& turn : SplitAtCommas(text)) {
    const std::size_t sign = turn.find('=');
    if (sign == std::string::npos || sign == 0 || sign + 1 == turn.size()) {
      throw UsageError(
          "--chat-fields: expected ROLE=NAME[,ROLE=NAME...] such as "
          "user=instruction,assistant=output, found '" +
          text + "'");
    }
    arguments.run.reading.turns.emplace_back(turn.substr(0, sign), turn.substr(sign + 1));
  }
}

void SetLineEnds(Arguments& arguments, const std::string& text) {
  if (text != "lf" && text != "keep") {
    throw UsageError("--line-ends: expected lf or keep, found '" + text + "'");
  }
  arguments.run.reading.line_ends = text == "keep" ? LineEnds::kKeep : LineEnds::kLf;
}

void SetRankingWeights(Arguments& arguments, const std::string& text) {
  constexpr std::string_view kExpected = "three numbers from 0 to 1e6 such as 1,1,2, not all 0";
  const std::vector<std::string> parts = SplitAtCommas(text);
  double sum = 0;
  for (std::size_t i = 0; i < 3 && parts.size() == 3; ++i) {
    arguments.run.ranking.weights[i] =
        Parse<double>("--ranking-weights", parts[i], 0.0, 1e6, kExpected);
    sum += arguments.run.ranking.weights[i];
  }
  if (sum > 0) return;
  throw UsageError("--ranking-weights: expected " + std::string(kExpected) + ", found '" + text +
                   "'");
}

Index ParseGroup(std::string_view option, const std::string& text) {
  if (text == "row") return 0;
  const std::string expected =
      fmt::format("a multiple of {0} up to {1}, or row", kGroupStep, kLargestGroup);
  const Index size = Parse<Index>(option, text, kGroupStep, kLargestGroup, expected);
  if (size % kGroupStep != 0) {
    throw UsageError(std::string(option) + ": expected " + expected + ", found '" + text + "'");
  }
  return size;
}

void SetGrid(Arguments& arguments, const std::string& text) {
  arguments.run.grids.k_quant = text != "affine";
  arguments.grid_bits.reset();
  if (text == "affine" || text == "k-quant") return;
  const KQuant* row = FindKQuant(text);
  if (row != nullptr) {
    arguments.grid_bits = row->grid.bits;
    return;
  }
  throw UsageError("--grid: expected affine, " + KQuantNames() + " or k-quant, found '" + text +
                   "'");
}

void SetArithmetic(Arguments& arguments, const std::string& text) {
  if (text != "float32" && text != "bf16" && text != "auto") {
    throw UsageError("--arithmetic: expected float32, bf16 or auto, found '" + text + "'");
  }
  arguments.says_arithmetic = true;
  arguments.machine.probes_arithmetic = text == "auto";
  arguments.machine.arithmetic = text == "bf16" ? Arithmetic::kBf16 : Arithmetic::kFloat32;
}

void SetActivations(Arguments& arguments, const std::string& text) {
  const auto found = std::ranges::find(kActivationNames, text);  // one of the row's choices
  arguments.machine.activations = static_cast<Activations>(found - kActivationNames.begin());
  arguments.says_activations = true;
}

void SetKvCache(Arguments& arguments, const std::string& text) {
  const auto found = std::ranges::find(kCacheTypeNames, text);  // one of the row's choices
  arguments.machine.keys_and_values = static_cast<CacheType>(found - kCacheTypeNames.begin());
  arguments.says_kv_cache = true;
}

void SetTransforms(Arguments& arguments, const std::string& text) {
  arguments.run.transforms = SplitAtCommas(text);
  (void)ResolveTransforms(arguments.run.transforms);
}

void SetGroupSize(Arguments& arguments, const std::string& text) {
  arguments.run.grids.group_size = ParseGroup("--group-size", text);
  arguments.run.grids.says_group_size = true;
}

namespace {

struct Suffix {
  std::string_view name;
  double value;
};

std::int64_t ParseScaled(std::string_view option, const std::string& text,
                         std::span<const Suffix> suffixes, const std::string& expected) {
  const auto letter = text.find_first_not_of("0123456789.");
  const std::string suffix = letter == std::string::npos ? "" : text.substr(letter);
  const auto found = std::ranges::find(suffixes, suffix, &Suffix::name);
  if (found == suffixes.end()) {
    throw UsageError(std::string(option) + ": expected " + expected + ", found '" + text + "'");
  }
  constexpr double kMost = 1e15;
  const double number =
      Parse<double>(option, text.substr(0, letter), 0.0, kMost / found->value, expected);
  return static_cast<std::int64_t>(std::floor(number * found->value));
}

}  // namespace

std::int64_t ParseSize(std::string_view option, const std::string& text) {
  constexpr std::array<Suffix, 14> kSuffixes{{{"", 1},
                                              {"B", 1},
                                              {"K", 1e3},
                                              {"KB", 1e3},
                                              {"M", 1e6},
                                              {"MB", 1e6},
                                              {"G", 1e9},
                                              {"GB", 1e9},
                                              {"Ki", 1024.0},
                                              {"KiB", 1024.0},
                                              {"Mi", 1048576.0},
                                              {"MiB", 1048576.0},
                                              {"Gi", 1073741824.0},
                                              {"GiB", 1073741824.0}}};
  return ParseScaled(option, text, kSuffixes, "bytes such as 350M, 1.2G or 400Mi");
}

std::int64_t ParseTokens(std::string_view option, const std::string& text) {
  constexpr std::array<Suffix, 4> kSuffixes{{{"", 1}, {"k", 1e3}, {"K", 1e3}, {"M", 1e6}}};
  return ParseScaled(option, text, kSuffixes, "a number such as 300000, 300k or 2M");
}

namespace {

Candidate ParseCandidate(const std::string& item) {
  if (item.starts_with('w')) {  // a short name
    const std::optional<NamedGrid> named = GridFromName(item);
    if (!named || !named->says_group) {
      throw UsageError("--candidates: expected a grid such as w2g64, found '" + item + "'");
    }
    if (named->grid.group_size != 0) {
      (void)ParseGroup("--candidates", std::to_string(named->grid.group_size));
    }
    return {.grid = named->grid, .says_offset = named->says_offset};
  }
  if (const KQuant* row = FindKQuant(item)) return {.grid = row->grid, .says_offset = true};
  const auto colon = item.find(':');
  if (colon == std::string::npos) {
    throw UsageError(
        "--candidates: expected BITS:GROUP such as 2:64, or 2:64:half, or q2_k, found '" + item +
        "'");
  }
  const auto second = item.find(':', colon + 1);
  Candidate candidate;
  candidate.grid.bits = ParseWidth("--candidates", item.substr(0, colon));
  candidate.grid.group_size =
      ParseGroup("--candidates", item.substr(colon + 1, std::min(second, item.size()) - colon - 1));
  if (second == std::string::npos) return candidate;
  candidate.grid.offset = ParseOffset(item.substr(second + 1));
  candidate.says_offset = true;
  return candidate;
}

}  // namespace

void SetCandidates(Arguments& arguments, const std::string& text) {
  arguments.run.grids.candidates.clear();
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string item = text.substr(begin, end - begin);
    const Candidate candidate = ParseCandidate(item);
    if (std::ranges::find(arguments.run.grids.candidates, candidate) !=
        arguments.run.grids.candidates.end()) {
      throw UsageError("--candidates: '" + item + "' was given twice");
    }
    arguments.run.grids.candidates.push_back(candidate);
    begin = end + 1;
  }
}

void SetUniform(Arguments& arguments, const std::string& text) {
  if (!text.starts_with('w')) {
    arguments.run.budget.uniform = ParseWidth("--uniform", text);
    return;
  }
  const std::optional<NamedGrid> named = GridFromName(text);
  if (!named)
    throw UsageError("--uniform: expected N, or a grid such as w4g64, found '" + text + "'");
  arguments.run.budget.uniform = named->grid.bits;
  if (named->says_group) {
    const Index group = named->grid.group_size;
    SetGroupSize(arguments, group == 0 ? "row" : std::to_string(group));
  }
  if (named->says_offset) SetOffset(arguments, named->grid.offset);
}

void AddRule(Arguments& arguments, const std::string& text) {
  const std::size_t equals = text.rfind('=');
  const std::string expected =
      "--set: expected REGEX=GRID such as 'down_proj=w4g64', 'layers.0.=w4', 'embed=16'";
  if (equals == std::string::npos || equals == 0) {
    throw UsageError(expected + ", found '" + text + "'");
  }
  ModuleRule rule{.pattern = text.substr(0, equals), .grid = {}};
  const std::string grid = text.substr(equals + 1);
  if (grid != "16") {
    const std::optional<NamedGrid> named = GridFromName(grid);
    if (!named) throw UsageError(expected + ", found '" + text + "'");
    if (named->says_group && !named->grid.k_quant && named->grid.group_size != 0) {
      (void)ParseGroup("--set", std::to_string(named->grid.group_size));
    }
    rule.grid = named->grid;
    rule.says_group = named->says_group;
    rule.says_offset = named->says_offset;
  }
  arguments.run.grids.rules.push_back(std::move(rule));
}

void SetOffset(Arguments& arguments, Offset offset) {
  arguments.run.grids.offset = offset;
  arguments.run.grids.says_offset = true;
}

std::vector<Index> ParseList(std::string_view option, const std::string& text, Index least,
                             std::string_view expected) {
  std::vector<Index> values;
  for (const std::string& part : SplitAtCommas(text)) {
    values.push_back(Parse<Index>(option, part, least, kMostTokens, expected));
  }
  return values;
}

}  // namespace lieq
