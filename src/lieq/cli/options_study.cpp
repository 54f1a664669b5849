// Options of studies alone.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"
#include "lieq/pipeline/transforming.h"
#include "lieq/plan/rankings.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {
namespace {

constexpr std::array kStudyRows{
    OptionRow{.names = "--texts",
              .value = "FILE",
              .commands = kStudy,
              .help = "texts to measure on; formats as of --calibration",
              .required = true,
              .many = true,
              .set = [](Arguments& a, const std::string& v) { a.study.texts.emplace_back(v); },
              .first = kStudy},
    OptionRow{.names = "--windows",
              .value = "N",
              .commands = kStudy,
              .help = "windows of each text",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.study.windows = Parse<Index>("--windows", v, 1, kMostTokens, "at least 1");
                  },
              .first = kStudy,
              .preset = [](const Arguments& a) { return Shown(a.study.windows); }},
    OptionRow{.names = "--lengths",
              .value = "LIST",
              .commands = kStudy,
              .help = "tokens in a window, commas between them",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.study.lengths =
                        ParseList("--lengths", v, 2, "whole numbers such as 512,1024");
                  },
              .first = kStudy,
              .preset = [](const Arguments& a) { return Shown(a.study.lengths); }},
    OptionRow{.names = "--sizes",
              .value = "LIST",
              .commands = kStudy,
              .help = "calibration: numbers of windows",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.study.sizes = ParseList("--sizes", v, 1, "whole numbers such as 32,128");
                  },
              .preset = [](const Arguments& a) { return Shown(a.study.sizes); }},
    OptionRow{
        .names = "--rankings",
        .value = "LIST",
        .commands = kStudy,
        .help = "layers: rankings to sweep",
        .set = [](Arguments& a, const std::string& v) { a.study.rankings = SplitAtCommas(v); },
        .preset = [](const Arguments& a) { return Shown(a.study.rankings); },
        .choices = [] { return NamesIn(Rankings()); }},
    OptionRow{.names = "--most",
              .value = "M",
              .commands = kStudy,
              .help = "layers: raise 1 to M layers",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.study.most =
                        Parse<Index>("--most", v, 1, 4096, "a whole number of layers, 1 to 4096");
                  },
              .preset = [](const Arguments& a) { return Shown(a.study.most); }},
    OptionRow{.names = "--group-sizes",
              .value = "LIST",
              .commands = kStudy,
              .help = "backend: group sizes; activations: columns that share a scale",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.study.group_sizes.clear();
                    for (const std::string& part : SplitAtCommas(v)) {
                      a.study.group_sizes.push_back(ParseGroup("--group-sizes", part));
                    }
                  },
              .preset = [](const Arguments& a) { return Shown(a.study.group_sizes); }},
    OptionRow{.names = "--act-orders",
              .value = "LIST",
              .commands = kStudy,
              .help = "backend: orders of rounding",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.study.act_orders.clear();
                    for (const std::string& part : SplitAtCommas(v)) {
                      a.study.act_orders.push_back(ParseActOrder(part));
                    }
                  },
              .preset = [](const Arguments& a) { return Shown(a.study.act_orders); },
              .choices = [] { return std::vector<std::string>{"none", "static", "group"}; }},
    OptionRow{.names = "--methods",
              .value = "LIST",
              .commands = kStudy,
              .help = "backend: quantizers",
              .set = [](Arguments& a, const std::string& v) { a.study.methods = SplitAtCommas(v); },
              .preset = [](const Arguments& a) { return Shown(a.study.methods); },
              .choices = [] { return NamesIn(Quantizers()); }},
    OptionRow{.names = "--transforms",
              .value = "LIST",
              .commands = kStudy,
              .help = "backend: none, or transforms joined by +, such as none,rotate,permute+awq",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.study.transform_sets = SplitAtCommas(v);
                    for (const std::string& set : a.study.transform_sets) (void)TransformSet(set);
                  },
              .preset = [](const Arguments& a) { return Shown(a.study.transform_sets); }},
};

}  // namespace

std::span<const OptionRow> StudyOptions() noexcept {
  return kStudyRows;
}

}  // namespace lieq
