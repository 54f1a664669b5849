// Options of how many bits the layers get.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"
#include "lieq/pipeline/planning.h"
#include "lieq/plan/exports.h"
#include "lieq/plan/rankings.h"

namespace lieq {
namespace {

constexpr std::array kBudgetRows{
    OptionRow{
        .names = "--bits",
        .value = "B",
        .commands = kPlan | kQuantize | kStudy,
        .help =
            "average code bits, at most: as many of the layers that score highest as that allows "
            "get the higher of two widths",
        .set =
            [](Arguments& a, const std::string& v) {
              a.run.budget.bits =
                  Parse<double>("--bits", v, 1.0, 16.0, "a number of bits, 1 to 16, such as 2.25");
            },
        .first = kPlan | kQuantize},
    OptionRow{.names = "--rounding",
              .value = "RULE",
              .commands = kPlan | kQuantize | kStudy,
              .help = "what --bits makes of a part of a layer: down (never above B) or paper (the "
                      "nearest number of layers, up to half a layer above)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.budget.rounding = v == "paper" ? Rounding::kPaper : Rounding::kDown;
                  },
              .preset = [](const Arguments&) { return Shown(std::string("down")); },
              .choices = [] { return std::vector<std::string>{"down", "paper"}; }},
    OptionRow{.names = "--bpw",
              .value = "B",
              .commands = kPlan | kQuantize,
              .help = "ceiling on the bits of the weight files for each weight: scales, "
                      "zero-points, embedding and head counted, in the container of --for; what is "
                      "meant where nothing says "
                      "the budget (but --bits 2.25 where a ranking, its widths, or the width of an "
                      "end is said)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.budget.bpw = Parse<double>("--bpw", v, 1.0, 33.0,
                                                     "a number of bits, 1 to 33, such as 2.5");
                  },
              .first = kPlan | kQuantize,
              .preset = [](const Arguments&) { return Shown(kDefaultBpw); }},
    OptionRow{.names = "--size",
              .value = "BYTES",
              .commands = kPlan | kQuantize,
              .help =
                  "ceiling on the weight files, embedding and head counted, in the container of "
                  "--for; K, M and G stand for 1000, its square and its cube (Ki, Mi, Gi for 1024)",
              .set = [](Arguments& a,
                        const std::string& v) { a.run.budget.size = ParseSize("--size", v); },
              .first = kPlan | kQuantize},
    OptionRow{
        .names = "--uniform",
        .value = "N",
        .commands = kPlan | kQuantize,
        .help = "N bits in every layer: 2, 3, 4, 5, 6 or 8; or a grid such as w4g64 or w2g32:half",
        .set = SetUniform,
        .first = kPlan | kQuantize,
        .choices = [] { return std::vector<std::string>{"2", "3", "4", "5", "6", "8"}; },
        .open = true},
    OptionRow{.names = "--high-layers",
              .value = "M",
              .commands = kPlan | kQuantize | kStudy,
              .help = "this many layers get the higher width",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.run.budget.high_layers = Parse<Index>("--high-layers", v, 0, 4096,
                                                            "a whole number of layers, 0 to 4096");
                  }},
    OptionRow{.names = "--widths",
              .value = "LOW,HIGH",
              .commands = kPlan | kQuantize | kStudy,
              .help = "the two widths that --bits mixes",
              .set = SetWidths,
              .preset =
                  [](const Arguments& a) {
                    return Shown(std::vector<int>{a.run.budget.low, a.run.budget.high});
                  }},
    OptionRow{
        .names = "--plan",
        .value = "FILE",
        .commands = kPlan | kQuantize | kStudy,
        .help =
            "take the grid of each layer from this plan: a file of `lieq plan`, the lieq.json of "
            "a result, or a quantized model",
        .set = [](Arguments& a, const std::string& v) { a.run.plan = v; },
        .first = kQuantize},
    OptionRow{.names = "--allocation",
              .value = "NAME",
              .commands = kPlan | kQuantize,
              .help = "how the budget is spent: optimal (least predicted damage; the default of "
                      "--bpw and --size where no ranking is named), top-m (layers by the ranking; "
                      "the default otherwise) or uniform (--uniform)",
              .set = [](Arguments& a, const std::string& v) { a.run.budget.allocation = v; },
              .choices = [] { return std::vector<std::string>{"top-m", "optimal", "uniform"}; }},
    OptionRow{
        .names = "--granularity",
        .value = "NAME",
        .commands = kPlan | kQuantize,
        .help = "of optimal plans: group (a grid for each of qkv, o, gate_up and down) or layer "
                "(one for a layer)",
        .set = [](Arguments& a, const std::string& v) { a.run.budget.by_group = v == "group"; },
        .preset =
            [](const Arguments& a) {
              return Shown(std::string(a.run.budget.by_group ? "group" : "layer"));
            },
        .choices = [] { return std::vector<std::string>{"group", "layer"}; }},
    OptionRow{.names = "--ranking",
              .value = "NAME",
              .commands = kPlan | kQuantize | kStudy,
              .help = "what orders the layers for --bits",  // the names follow: Options()
              .set =
                  [](Arguments& a, const std::string& v) {
                    (void)FindRanking(v);
                    a.run.ranking.name = v;
                    a.says_ranking = true;
                  },
              .preset = [](const Arguments& a) { return Shown(a.run.ranking.name); },
              .choices = [] { return NamesIn(Rankings()); }},
    OptionRow{.names = "--ranking-weights",
              .value = "P,C,E",
              .commands = kPlan | kQuantize,
              .help =
                  "of perplexity drop, compactness and energy in the ranking combined (default: "
                  "a third each)",
              .set = SetRankingWeights},
    OptionRow{.names = "--scores",
              .value = "FILE",
              .commands = kPlan | kQuantize,
              .help = "scores of the ranking file: a JSON array, one number a layer, or an object "
                      "with \"scores\"",
              .set = [](Arguments& a, const std::string& v) { a.run.ranking.scores = v; }},
    OptionRow{.names = "--diagnostics",
              .value = "FILE",
              .commands = kPlan,
              .help = "score layers by these measurements instead of making them",
              .set = [](Arguments& a, const std::string& v) { a.run.ranking.diagnostics = v; },
              .first = kPlan},
    OptionRow{
        .names = "--embedding-bits",
        .value = "N",
        .commands = kPlan | kQuantize,
        .help = "width of the embedding, and of the head tied to it: 16, 8, 6, 5, 4, 3 or 2, "
                "symmetric in groups of --group-size, rounded as --method says (default: 16; of "
                "--allocation optimal what the plan chooses)",
        .set =
            [](Arguments& a, const std::string& v) {
              a.run.grids.embedding_bits = ParseEndBits("--embedding-bits", v);
            },
        .choices = [] { return std::vector<std::string>{"16", "8", "6", "5", "4", "3", "2"}; }},
    OptionRow{
        .names = "--head-bits",
        .value = "N",
        .commands = kPlan | kQuantize,
        .help = "width of a head of its own: 16, 8, 6, 5, 4, 3 or 2",
        .set = [](Arguments& a,
                  const std::string& v) { a.run.grids.head_bits = ParseEndBits("--head-bits", v); },
        .preset = [](const Arguments&) { return Shown(16); },
        .choices = [] { return std::vector<std::string>{"16", "8", "6", "5", "4", "3", "2"}; }},
    OptionRow{.names = "--as",
              .value = "KIND",
              .commands = kPlan,
              .help = "write the plan for another quantizer",  // the names follow: Options()
              .set = [](Arguments& a, const std::string& v) { a.plan_as = FindPlanExport(v).name; },
              .first = kPlan,
              .choices = [] { return NamesIn(PlanExports()); }},
};

}  // namespace

std::span<const OptionRow> BudgetOptions() noexcept {
  return kBudgetRows;
}

}  // namespace lieq
