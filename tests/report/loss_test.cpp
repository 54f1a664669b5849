// Which evaluation is of which model, and the figure of size against loss.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lieq/report/matching.h"
#include "lieq/report/report.h"
#include "tests/report/fixtures.h"
#include "tests/report/markup.h"
#include "tests/support/error_of.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

ReportInput Model(const std::string& run, const std::string& hash, std::int64_t bytes = 1'000'000) {
  Record record = ModelRecord({.name = "base"});
  record["settings"] = {{"method", "gptq"}, {"model", "hash of the source"}};
  record["bytes"] = bytes;
  return {run, "lieq.json", record, hash};
}

/// An evaluation that lies in the folder `run`, of a model called `name`.
ReportInput Score(const std::string& run, const std::string& name, const std::string& hash,
                  double perplexity) {
  Record record = EvaluationRecord(name, "wiki.txt", perplexity);
  if (!hash.empty()) record["model_hash"] = hash;
  return {run, "eval.json", record};
}

std::string Section(const std::string& page, const std::string& id) {
  const auto begin = page.find("<section id=\"" + id + "\"");
  if (begin == page.npos) return {};
  return page.substr(begin, page.find("</section>", begin) - begin);
}

TEST(Matching, GoesByTheHashWhateverNamesAndFoldersSay) {
  // Each evaluation lies in the folder of the other model, and has its name.
  const std::vector<ReportInput> inputs{Model("a", "hash a"), Model("b", "hash b"),
                                        Score("a", "a", "hash b", 40),
                                        Score("b", "b", "hash a", 30)};
  const Records records = ReadRecords(inputs);

  EXPECT_FALSE(IsOf(records.evaluations[0], records.models[0]));
  EXPECT_TRUE(IsOf(records.evaluations[0], records.models[1]));
  EXPECT_TRUE(IsOf(records.evaluations[1], records.models[0]));
  EXPECT_FALSE(IsOf(records.evaluations[1], records.models[1]));
}

TEST(Matching, DoesNotTakeAnEvaluationOfWhatWasThereBefore) {
  const std::vector<ReportInput> inputs{Model("a", "now"), Score("a", "a", "before", 40)};
  const Records records = ReadRecords(inputs);

  EXPECT_FALSE(IsOf(records.evaluations[0], records.models[0]));
}

TEST(Matching, KnowsTheSourceByItsHash) {
  const std::vector<ReportInput> inputs{
      Model("a", "hash a"), Score("a", "renamed", "hash of the source", 20),
      Score("a", "base", "another model of that name", 99), Score("a", "a", "hash a", 40)};
  const Records records = ReadRecords(inputs);

  EXPECT_TRUE(IsOfSource(records.evaluations[0], records.models[0]));
  EXPECT_FALSE(IsOfSource(records.evaluations[1], records.models[0]));
  EXPECT_FALSE(IsOfSource(records.evaluations[2], records.models[0]));
  EXPECT_EQ(SourcePerplexity(records, records.models[0], records.evaluations[2]), 20);
}

TEST(Matching, GoesByNamesWhereAHashIsMissing) {
  for (const auto& [of_model, of_evaluation] :
       {std::pair("", ""), std::pair("hash", ""), std::pair("", "hash")}) {
    const std::vector<ReportInput> inputs{
        Model("a", of_model), Score("else", "a", of_evaluation, 4), Score("a", "base", "", 2)};
    const Records records = ReadRecords(inputs);

    EXPECT_TRUE(IsOf(records.evaluations[0], records.models[0]));
    EXPECT_FALSE(IsOf(records.evaluations[1], records.models[0]));
    EXPECT_TRUE(IsOfSource(records.evaluations[1], records.models[0]));
  }
}

TEST(Matching, TakesTheReferenceOfAnEvaluationForItsSource) {
  ReportInput score = Score("a", "a", "", 40);
  score.json["reference"] = {{"model", "/x/base"}, {"perplexity", 20}, {"mean_kl", 0.5}};
  const std::vector<ReportInput> inputs{Model("a", ""), score};
  const Records records = ReadRecords(inputs);

  EXPECT_NEAR(*GapToSource(records, records.models[0], records.evaluations[0]), std::log(2.0),
              1e-12);
}

TEST(Matching, ComparesNoOtherConventionOrStride) {
  for (const auto& [key, value] : {std::pair<const char*, Record>("convention", "llama.cpp"),
                                   {"stride", 512},
                                   {"windows", 4},
                                   {"context", 512},
                                   {"text_hash", "another"}}) {
    ReportInput source = Score("a", "base", "", 20);
    source.json[key] = value;
    const std::vector<ReportInput> inputs{Model("a", ""), source, Score("a", "a", "", 40)};
    const Records records = ReadRecords(inputs);

    EXPECT_EQ(SourcePerplexity(records, records.models[0], records.evaluations[1]), std::nullopt)
        << key;
  }
}

/// Models of rising size and falling perplexity, with divergences where `kl`.
std::vector<ReportInput> Ladder(int count, bool kl) {
  std::vector<ReportInput> inputs;
  for (int i = 0; i < count; ++i) {
    const std::string run = "q" + std::to_string(i);
    inputs.push_back(Model(run, "", 50'000'000 + i * 10'000'000));
    inputs.push_back(Score(run, run, "", 40.0 - i));
    if (!kl) continue;
    inputs.back().json["reference"] = {
        {"model", "/x/base"}, {"perplexity", 20}, {"mean_kl", 0.5 / (i + 1)}};
  }
  return inputs;
}

TEST(Loss, HasAMarkForEachModelAndMeasure) {
  for (const int count : {2, 3, 9}) {
    const auto marks = static_cast<std::size_t>(count);
    const std::string one = Section(RenderReport(Ladder(count, false)), "loss");
    const std::string two = Section(RenderReport(Ladder(count, true)), "loss");

    EXPECT_EQ(CountOf(one, "class=\"mark\""), marks);
    EXPECT_EQ(CountOf(two, "class=\"mark\""), 2 * marks);
    EXPECT_THAT(two, AllOf(HasSubstr("q1: 60 MB, perplexity 39"), HasSubstr("source: 20")));
  }
}

TEST(Loss, IsNotThereForOneModel) {
  EXPECT_EQ(Section(RenderReport(Ladder(1, true)), "loss"), "");
}

TEST(Loss, TakesFilesWhoseMakingIsNotKnown) {
  std::vector<ReportInput> inputs = Ladder(2, false);
  inputs.push_back(Score("other.json", "other.gguf", "its hash", 33));
  inputs.back().json["bytes"] = 55'000'000;

  EXPECT_THAT(Section(RenderReport(inputs), "loss"), HasSubstr("other.gguf: 55 MB, perplexity 33"));
}

TEST(Loss, KeepsOtherTextsAndOtherSourcesApart) {
  std::vector<ReportInput> inputs = Ladder(4, false);
  inputs[1].json["text_hash"] = inputs[3].json["text_hash"] = "another text";

  EXPECT_EQ(CountOf(Section(RenderReport(inputs), "loss"), "<figure"), 2u);
}

TEST(LossPicture, IsAnSvgOfItsOwnWithTheSameMarks) {
  const std::string picture = RenderLossPicture(Ladder(3, true));

  EXPECT_TRUE(picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_EQ(CountOf(picture, "class=\"mark\""), 6u);
  EXPECT_LT(picture.find("<metadata>LieQ report</metadata>"), 1000u);  // what made it
  EXPECT_THAT(picture, AllOf(HasSubstr("base: file size against loss"), HasSubstr("<style>"),
                             HasSubstr("prefers-color-scheme: dark"), Not(HasSubstr("<script"))));
  EXPECT_EQ(Unbalanced(picture), "");
  EXPECT_EQ(BadCoordinate(picture), "");
  EXPECT_EQ(picture, RenderLossPicture(Ladder(3, true)));
}

TEST(LossPicture, HasNoMarkupOutOfNames) {
  for (const std::string name : {"</svg><script>alert(1)</script>", "\" onload=\"alert(1)",
                                 "]]>&lt;", "\x01\x1B[2J", "\xFF\xFE"}) {
    std::vector<ReportInput> inputs = Ladder(2, true);
    for (ReportInput& input : inputs) {
      if (input.file == "lieq.json") {
        input.json["base_model"] = name;
        input.json["settings"]["method"] = name;
      } else {
        input.json["text"] = name;
      }
    }
    const std::string picture = RenderLossPicture(inputs);

    EXPECT_TRUE(StructureOf(picture) == StructureOf(RenderLossPicture(Ladder(2, true)))) << name;
    EXPECT_EQ(Unbalanced(picture), "");
  }
}

TEST(LossPicture, DrawsHugeAndTinyValues) {
  for (const double value : {5e-324, 1.7e308, -1.7e308, 0.0}) {
    std::vector<ReportInput> inputs = Ladder(3, true);
    inputs[1].json["perplexity"] = value;
    inputs[3].json["reference"]["mean_kl"] = value;
    inputs[4].json["bytes"] = 1.7e308;

    EXPECT_EQ(BadCoordinate(RenderLossPicture(inputs)), "") << value;
    EXPECT_EQ(BadCoordinate(RenderReport(inputs)), "") << value;
  }
}

TEST(LossPicture, SaysWhatIsMissing) {
  EXPECT_THAT(ErrorOf([] { return RenderLossPicture(Ladder(1, true)); }),
              AllOf(HasSubstr("two models"), HasSubstr("1 evaluations, 1 models"),
                    HasSubstr("lieq evaluate OUT --text TEXT")));
}

TEST(Evaluations, SayHowToMeasureWhereNothingWas) {
  const std::string page = RenderReport(std::vector{Model("my run", "")});

  EXPECT_THAT(Section(page, "perplexity"),
              AllOf(HasSubstr("was measured"), HasSubstr("<span class=\"word\">--reference</span>"),
                    HasSubstr("eval.json")));
  EXPECT_THAT(Section(RenderReport(AllRecords()), "perplexity"), Not(HasSubstr("Not evaluated")));
}

TEST(Sizes, SayWhatBecameOfEmbeddingAndHead) {
  const auto note = [](std::int64_t head, Record embedding_bits, Record head_bits) {
    ReportInput model = Model("a", "");
    model.json["size_by_part"] = {
        {"codes", 50}, {"scales", 10}, {"embedding", 40}, {"head", head}, {"other", 0}};
    if (!embedding_bits.is_null()) model.json["settings"]["embedding_bits"] = embedding_bits;
    if (!head_bits.is_null()) model.json["settings"]["head_bits"] = head_bits;
    return Section(RenderReport(std::vector{model}), "sizes");
  };

  EXPECT_THAT(note(0, nullptr, nullptr),
              HasSubstr("which is the head too (tied), has the width of the source: 40 %"));
  EXPECT_THAT(note(0, 8, nullptr), HasSubstr("(tied), was rounded to 8 bits: 40 %"));
  EXPECT_THAT(note(0, 16, nullptr), HasSubstr("(tied), has the width of the source"));
  EXPECT_THAT(note(60, nullptr, 4), AllOf(HasSubstr("The embedding has the width of the source"),
                                          HasSubstr("the head, a matrix of its own, was rounded to "
                                                    "4 bits: together 62 %")));
}

TEST(Scales, AreOneForAQuantityOverAllModels) {
  // The errors of one model are a hundredth of the other's: with a scale each they look the same.
  ReportInput coarse = Model("coarse", ""), fine = Model("fine", "");
  for (Record& layer : fine.json["layers"]) {
    for (Record& linear : layer["linears"]) {
      linear["relative_error"] = linear["relative_error"].get<double>() / 100;
    }
  }
  const std::string both = Section(RenderReport(std::vector{coarse, fine}), "errors");
  const std::string alone = Section(RenderReport(std::vector{fine}), "errors");
  const std::string of_fine = both.substr(both.find("Relative error · fine"));

  EXPECT_GT(CountOf(alone, "\"cell h9\""), 0u);
  EXPECT_EQ(CountOf(of_fine, "\"cell h9\""), 0u);
  EXPECT_GT(CountOf(of_fine, "\"cell h0\""), 0u);
  const auto ends = [](const std::string& text) {
    const auto key = text.find("heat-key");
    return text.substr(key, text.find("</figcaption>", key) - key);
  };
  EXPECT_EQ(ends(both), ends(of_fine));
}

TEST(Titles, NameTheModel) {
  const std::string page = RenderReport(std::vector{Model("base-2.25", "")});

  EXPECT_THAT(page, AllOf(HasSubstr("<title>base · LieQ report</title>"),
                          HasSubstr("Relative error · base-2.25"),
                          HasSubstr("Bits of the quantized model · base-2.25")));
}

TEST(Tables, SayThatTheyScroll) {
  const auto summary = [](int layers) {
    return Section(RenderReport(AllRecords({.layers = layers})), "errors");
  };
  EXPECT_THAT(summary(60), HasSubstr("60 rows: scroll inside the table"));
  EXPECT_THAT(summary(6), Not(HasSubstr("scroll inside")));
}

}  // namespace
}  // namespace lieq
