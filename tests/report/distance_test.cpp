// The section on how far models are from their source.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lieq/report/report.h"
#include "tests/report/fixtures.h"
#include "tests/report/markup.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// An evaluation of `model` with quantiles that are times the mean.
ReportInput Distance(const std::string& model, double mean) {
  Record record = EvaluationRecord(model, "wiki.txt", 30);
  record["reference"] = {{"model", "/x/base"},     {"perplexity", 20},        {"mean_kl", mean},
                         {"median_kl", mean / 2},  {"kl_90", 2 * mean},       {"kl_99", 4 * mean},
                         {"kl_999", 8 * mean},     {"largest_kl", 16 * mean}, {"same_top", 0.875},
                         {"top_5_overlap", 0.8125}};
  return {model, "eval.json", record};
}

std::string Section(const std::string& page) {
  const auto begin = page.find("<section id=\"distance\"");
  return begin == page.npos ? "" : page.substr(begin, page.find("</section>", begin) - begin);
}

TEST(Distances, HaveACurveAndARowForEachModel) {
  const std::string section =
      Section(RenderReport(std::vector{Distance("q2", 0.5), Distance("q4", 0.0625)}));

  EXPECT_EQ(CountOf(section, "class=\"mark\""), 8u);
  EXPECT_THAT(section, AllOf(HasSubstr("q2: 0.1 % of tokens diverge by more than 4 nats"),
                             HasSubstr("from base, on wiki.txt"), HasSubstr(">87.5<"),
                             HasSubstr(">81.25<"), HasSubstr(">8<")));
}

TEST(Distances, OfOtherTextsAreApart) {
  std::vector<ReportInput> inputs{Distance("q2", 0.5), Distance("q4", 0.0625)};
  inputs[1].json["text_hash"] = "another";

  EXPECT_EQ(CountOf(Section(RenderReport(inputs)), "from base, on wiki.txt"), 2u);
}

TEST(Distances, OfEarlierVersionsHaveFewerNumbers) {
  ReportInput old = Distance("q2", 0.5);
  for (const char* key : {"kl_90", "kl_999", "top_5_overlap"}) old.json["reference"].erase(key);
  ReportInput oldest = Distance("q2", 0.5);
  oldest.json["reference"] = {{"model", "base"}, {"perplexity", 20}, {"mean_kl", 0.5}};

  EXPECT_EQ(CountOf(Section(RenderReport(std::vector{old})), "class=\"mark\""), 2u);
  EXPECT_EQ(Section(RenderReport(std::vector{oldest})), "");
}

TEST(Distances, OfHugeAndTinyValuesAreDrawn) {
  for (const double value : {0.0, 5e-324, 1.7e308, -1.7e308}) {
    const std::vector<ReportInput> inputs{Distance("q2", value), Distance("q4", 0.5)};

    EXPECT_EQ(BadCoordinate(RenderReport(inputs)), "") << value;
  }
}

TEST(Answers, OfModelsAndOfTheirSourceOnce) {
  std::vector<ReportInput> inputs;
  for (const std::string model : {"q2", "q4"}) {
    inputs.push_back({model,
                      "eval.json",
                      {{"schema", 1},
                       {"kind", "answers"},
                       {"model", "/x/" + model},
                       {"source", "bundled"},
                       {"prompts", 20},
                       {"empty", 3},
                       {"repeating", 11},
                       {"cut", 12},
                       {"missed_end", 10},
                       {"same", 0},
                       {"reference", {{"model", "y/base"}, {"empty", 0}, {"cut", 2}}}}});
  }
  const std::string page = RenderReport(inputs);
  const std::string section = page.substr(page.find("<section id=\"answers\""));

  EXPECT_EQ(CountOf(section.substr(0, section.find("</section>")), "<tr>"), 4u);
  EXPECT_THAT(section, AllOf(HasSubstr(">11<"), HasSubstr(">q4<"), HasSubstr(">base<")));
}

}  // namespace
}  // namespace lieq
