// Options of the grids that weights are rounded to.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"

namespace lieq {
namespace {

std::vector<std::string> OffsetNames() {
  std::vector<std::string> names;
  for (const Offset offset : kAllOffsets) names.emplace_back(Name(offset));
  return names;
}

std::vector<std::string> GridNames() {
  return {"affine", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "k-quant"};
}

constexpr std::array kGridRows{
    OptionRow{.names = "--for",
              .value = "CONTAINER",
              .commands = kSensitivity | kPlan | kQuantize,
              .help = "grids that a container holds",  // the names follow: Options()
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.grids.target = &FindTarget(v);
                    a.run.quant.half_scales = a.run.grids.target->half_scales;
                  },
              .first = kPlan | kQuantize,
              .choices = [] { return NamesIn(Targets()); }},
    OptionRow{
        .names = "--group-size",
        .value = "G",
        .commands = kSensitivity | kPlan | kQuantize | kStudy,
        .help = "input channels that share a scale, where the plan does not say: a multiple of 16 "
                "up to 256, or row; many engines know 32, 64 and 128 alone (docs/serving.md)",
        .set = SetGroupSize,
        .first = kQuantize,
        .preset = [](const Arguments& a) { return Shown(a.run.grids.group_size); }},
    OptionRow{.names = "--offset",
              .value = "KIND",
              .commands = kSensitivity | kPlan | kQuantize | kStudy,
              .help = "where zero lies among the codes: symmetric (at the middle one), half "
                      "(between the middle two), integer (a zero-point for each group) or float (a "
                      "minimum for each group); engines load the first and the third",
              .set = [](Arguments& a, const std::string& v) { SetOffset(a, ParseOffset(v)); },
              .preset = [](const Arguments& a) { return Shown(a.run.grids.offset); },
              .choices = [] { return OffsetNames(); }},
    OptionRow{.names = "--grid",
              .value = "KIND",
              .commands = kSensitivity | kPlan | kQuantize,
              .help =
                  "affine (default: by --group-size and --offset), q2_k, q3_k, q4_k, q5_k or q6_k "
                  "(that grid of llama.cpp in every layer), or k-quant (the one of each layer's "
                  "width)",
              .set = SetGrid,
              .choices = [] { return GridNames(); }},
    OptionRow{
        .names = "--candidates",
        .value = "LIST",
        .commands = kSensitivity | kPlan | kQuantize,
        .help = "grids to choose from, BITS:GROUP, BITS:GROUP:OFFSET or q2_k to q6_k, and "
                "commas between them (default: 2:128,2:64,2:32,3:128,4:128; 2:64,3:128,4:128,4:32 "
                "where the budget leaves the layers more than 3.6 bits a weight, above 5 also "
                "8:128; 64 for 128 where that does not divide every row; with --for those of "
                "the container; with --grid K-quants)",
        .set = SetCandidates},
    OptionRow{.names = "--set",
              .value = "REGEX=GRID",
              .commands = kPlan | kQuantize,
              .help = "modules whose names match get this grid whatever else decides (w2g64, w4, "
                      "w2g32:half, q4_k; 16 for embedding or head); may be given several times, "
                      "the last that matches wins",
              .many = true,
              .set = AddRule},
    OptionRow{.names = "--keep",
              .value = "REGEX",
              .commands = kPlan | kQuantize,
              .help = "embedding or head, whichever match, stay at 16 bits",
              .many = true,
              .set = [](Arguments& a,
                        const std::string& v) { a.run.grids.rules.push_back({.pattern = v}); }},
};

}  // namespace

std::span<const OptionRow> GridOptions() noexcept {
  return kGridRows;
}

}  // namespace lieq
