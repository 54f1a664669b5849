#include "lieq/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "lieq/report/assets.h"
#include "tests/report/fixtures.h"
#include "tests/report/markup.h"

namespace lieq {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string Render(const std::vector<ReportInput>& inputs) {
  return RenderReport(inputs);
}

/// The part of a page from a section's heading to the next.
std::string Section(const std::string& page, const std::string& id) {
  const auto begin = page.find("<section id=\"" + id + "\"");
  if (begin == page.npos) return {};
  return page.substr(begin, page.find("</section>", begin) - begin);
}

std::string PageOf(Record record) {
  return Render({{"run", "x.json", std::move(record)}});
}

TEST(Report, ShowsEverySectionForWhichRecordsAreThere) {
  const std::string page = Render(AllRecords());

  for (const char* id : {"glance", "perplexity", "sizes", "layers", "diagnostics", "prediction",
                         "sensitivity", "errors", "sweeps", "studies", "cost", "settings"}) {
    EXPECT_FALSE(Section(page, id).empty()) << id;
    EXPECT_EQ(CountOf(page, "href=\"#" + std::string(id) + "\""), 1u) << id;
  }
  EXPECT_EQ(Unbalanced(page), "");
  EXPECT_EQ(BadCoordinate(page), "");
}

TEST(Report, ShowsWhatTrainingMade) {
  Record record = ModelRecord({});
  EXPECT_TRUE(Section(PageOf(record), "tuning").empty());
  record["tuning"] = {
      {"what", "codes"},
      {"ends", {"embedding"}},
      {"steps", 97},
      {"kept_step", 90},
      {"tokens", 400000},
      {"rate", 0.01},
      {"codes", 1000000},
      {"moved_codes", 1234},
      {"held_out_kl_before", 2.0625},
      {"held_out_kl", 0.8844},
      {"calibration", {{"files", {"a.txt", "<b>"}}}},
      {"held_out",
       {{{"window", 4}, {"text", "a.txt"}},
        {{"window", 9}, {"text", "<b>"}},
        {{"window", 7}, {"text", "a.txt"}}}},
      {"checks",
       {{{"step", 0}, {"held_out_kl", 2.0625}}, {{"step", 90}, {"held_out_kl", 0.8844}}}}};
  record["tuning"]["losses"] = std::vector<double>(1000, 1.5);

  const std::string section = Section(PageOf(record), "tuning");

  for (const char* part : {"codes, of embedding too", "2.062", "0.8844", ">97<", ">90<", ">1234<",
                           "1 of &lt;b&gt;, 2 of a.txt", "after step 90", "<svg"}) {
    EXPECT_THAT(section, HasSubstr(part));
  }
  EXPECT_THAT(section, Not(HasSubstr("<b>")));
  EXPECT_EQ(Unbalanced(PageOf(record)), "");
  EXPECT_EQ(BadCoordinate(PageOf(record)), "");
  record["tuning"] = {{"what", "scales"}};
  EXPECT_THAT(Section(PageOf(record), "tuning"), HasSubstr("scales")) << "every key may be missing";
}

TEST(Report, LeavesOutSectionsWithoutRecords) {
  const std::string page = PageOf(RunRecord({}));

  EXPECT_EQ(CountOf(page, "<section"), 1u);
  EXPECT_THAT(Section(page, "cost"), HasSubstr("33 s"));
}

TEST(Report, IsTheSameForTheSameRecords) {
  EXPECT_TRUE(Render(AllRecords()) == Render(AllRecords()));
}

TEST(Report, FetchesNothing) {
  const std::string page = Render(AllRecords());

  for (const char* part : {" src=", "url(", "@import", "http://", "<link", "<img", "<iframe"}) {
    EXPECT_EQ(CountOf(page, part), 0u) << part;
  }
  EXPECT_EQ(CountOf(page, "https://"), 0u);
  EXPECT_EQ(CountOf(page, "default-src &#39;none&#39;"), 1u);
}

TEST(Report, HasTheSameStructureWhateverTheNamesSay) {
  const std::string plain = StructureOf(Render(AllRecords({.name = "plain"})));
  const std::string hostile[] = {
      "</script><script>alert(1)</script>",
      "</title></style><img src=x onerror=alert(1)>",
      "\" onmouseover=\"alert(1)",
      "' x='",
      "<!-- <script>",
      "]]><svg/onload=alert(1)>",
      "&lt;b&gt;&#60;",
      "\x01\x1B[2J\x7F\r\n",
      "\xFF\xFE\xC0\xBC script",
      "\xE2\x80\xAE txt.exe",
      std::string(3'000, '<'),
  };
  for (const std::string& name : hostile) {
    const std::string page = Render(AllRecords({.name = name}));
    EXPECT_TRUE(StructureOf(page) == plain) << name.substr(0, 60);
    EXPECT_EQ(Unbalanced(page), "");
    EXPECT_EQ(CountOf(page, "\x1B"), 0u);
  }
}

TEST(Report, CarriesOneScriptAndNoTextOfARecordInIt) {
  const std::string page = Render(AllRecords({.name = "needle"}));
  const auto begin = page.find("<script>"), end = page.find("</script>");

  EXPECT_EQ(CountOf(page, "<script"), 1u);
  EXPECT_EQ(page.substr(begin + 8, end - begin - 8), ReportScript());
}

class ReportLayers : public testing::TestWithParam<int> {};

TEST_P(ReportLayers, AreAllDrawn) {
  const int layers = GetParam();
  const std::string page = Render(AllRecords({.layers = layers}));
  const auto count = static_cast<std::size_t>(layers);

  EXPECT_EQ(Unbalanced(page), "");
  EXPECT_EQ(BadCoordinate(page), "");
  EXPECT_EQ(CountOf(Section(page, "errors"), "<rect"), 7 * count);
  EXPECT_EQ(CountOf(Section(page, "diagnostics"), "class=\"mark\""), 6 * count);
  EXPECT_EQ(CountOf(Section(page, "sensitivity"), "<rect"), 3 * 4 * count);
  // bits and score of the model; bits by unit and score of the plan; six measurements
  EXPECT_EQ(CountOf(Section(page, "layers"), "<rect"), (2 + 5 + 6) * count);
}

INSTANTIATE_TEST_SUITE_P(Counts, ReportLayers, testing::Values(1, 2, 24, 60));

TEST(Report, DrawsWhateverIsLeftWhereKeysAreMissing) {
  const std::vector<ReportInput> all = AllRecords();
  for (const ReportInput& input : all) {
    for (const auto& [key, value] : input.json.items()) {
      if (key == "kind") continue;
      Record without = input.json;
      without.erase(key);
      const std::string page = PageOf(without);
      EXPECT_EQ(Unbalanced(page), "") << input.file << " without " << key;
      EXPECT_EQ(BadCoordinate(page), "") << input.file << " without " << key;
    }
    EXPECT_EQ(Unbalanced(PageOf({{"kind", input.json["kind"]}})), "");
  }
}

TEST(Report, DrawsRowsWhoseKeysAreMissing) {
  for (const ReportInput& input : AllRecords({.layers = 3})) {
    for (const char* list : {"layers", "units", "rows", "flags", "candidates"}) {
      if (!input.json.contains(list)) continue;
      for (std::size_t i = 0; i < input.json[list].size(); ++i) {
        Record record = input.json;
        record[list][i] = Record::object();
        const std::string page = PageOf(record);
        EXPECT_EQ(Unbalanced(page), "") << input.file << " " << list << " " << i;
        EXPECT_EQ(BadCoordinate(page), "") << input.file << " " << list << " " << i;
      }
    }
  }
}

TEST(Report, DrawsValuesThatAreNotNumbersAsMissing) {
  Record record = DiagnosticsRecord({});
  for (auto& layer : record["layers"]) {
    layer["compactness"] = std::numeric_limits<double>::quiet_NaN();
  }
  record["layers"][1]["perplexity_drop"] = std::numeric_limits<double>::infinity();
  record["layers"][2]["largest_activation"] = 1.7e308;
  record["layers"][3]["largest_activation"] = -1.7e308;

  const std::string page = PageOf(record);

  EXPECT_EQ(BadCoordinate(page), "");
  EXPECT_EQ(CountOf(Section(page, "diagnostics"), "<svg"), 5u);  // compactness has none
  EXPECT_THAT(Section(page, "layers"), HasSubstr("layer 1: not measured"));
}

TEST(Glance, SaysBitsBytesCompressionAndPerplexity) {
  const std::string glance = Section(Render(AllRecords()), "glance");

  for (const char* text :
       {"2.38", "2.62", "4.27 MB", "source 13.9 MB", "3.25×", "6.74× by codes alone (eq. 10", "32",
        "wiki.txt · 26 before; gap 0.208"}) {
    EXPECT_THAT(glance, HasSubstr(text));
  }
}

TEST(Glance, SaysTheBytesOfTheContainerThatGridsWereChosenFor) {
  Record model = ModelRecord({.name = "x"});
  EXPECT_THAT(Section(Render({{"a", "lieq.json", model}}), "glance"), Not(HasSubstr("As gguf")));
  model["for"] = {{"container", "gguf"}, {"bytes", 3210000}};
  const std::string glance = Section(Render({{"a", "lieq.json", model}}), "glance");

  EXPECT_THAT(glance, HasSubstr("As gguf"));
  EXPECT_THAT(glance, HasSubstr("3.21 MB"));
}

TEST(Glance, ComparesSeveralModels) {
  const std::string page = Render({{"a", "lieq.json", ModelRecord({.name = "x"})},
                                   {"b", "lieq.json", ModelRecord({.name = "y"})}});

  EXPECT_EQ(CountOf(page, "<h1>x, y</h1>"), 1u);
  EXPECT_EQ(CountOf(page, "<title>x, y · LieQ report</title>"), 1u);
  EXPECT_THAT(Section(page, "glance"), HasSubstr("<h3>Models</h3>"));
}

TEST(Prediction, SaysSpearmansRhoAndWhatItMeans) {
  Record diagnostics = DiagnosticsRecord({});
  for (int i = 0; i < 6; ++i) {
    diagnostics["layers"][static_cast<std::size_t>(i)]["perplexity_drop"] = 10.0 + i;
    diagnostics["layers"][static_cast<std::size_t>(i)]["compactness"] = 0.1 * i;
    diagnostics["layers"][static_cast<std::size_t>(i)]["top_k_energy"] = -0.1 * i;
  }
  const std::string section = Section(PageOf(diagnostics), "prediction");

  EXPECT_THAT(section, HasSubstr("ρ 1.00"));
  EXPECT_THAT(section, HasSubstr("ρ −1.00"));
  EXPECT_THAT(section, HasSubstr("badge doubt"));
  EXPECT_THAT(section, HasSubstr("do not trust this ranking here"));
}

TEST(Prediction, SaysNoRhoOfTwoLayers) {
  Record diagnostics = DiagnosticsRecord({});
  for (std::size_t i = 0; i < 6; ++i) {
    Record& drop = diagnostics["layers"][i]["perplexity_drop"];
    drop = i == 0 ? Record(10.5) : i == 1 ? Record(11.5) : Record();
  }
  const std::string section = Section(PageOf(diagnostics), "prediction");

  EXPECT_THAT(section, HasSubstr("compactness"));
  EXPECT_THAT(section, Not(HasSubstr("ρ ")));
}

TEST(Prediction, ComparesOnlyRecordsOfOneModel) {
  Record other = SensitivitiesRecord({});
  other["model_hash"] = "another";
  const std::vector<ReportInput> inputs{{"a", "diagnostics.json", DiagnosticsRecord({})},
                                        {"b", "sensitivities.json", other}};

  EXPECT_THAT(Section(Render(inputs), "prediction"), Not(HasSubstr("→ damage")));
}

TEST(Sweeps, HaveASeriesForEachRankingAndTheLineOf16Bits) {
  const std::string section = Section(PageOf(SweepRecord({.layers = 6})), "sweeps");

  EXPECT_EQ(CountOf(section, "class=\"mark\""), 14u);
  EXPECT_THAT(section, HasSubstr("16 bits: 24.64"));
  EXPECT_THAT(section, HasSubstr("class=\"flags\""));
}

TEST(Studies, ShowTheirRowsAndFlags) {
  const std::string section = Section(PageOf(CorrelationRecord({})), "studies");

  EXPECT_THAT(section, HasSubstr("rho is 0.32, below 0.7: do not trust it."));
  EXPECT_THAT(section, HasSubstr("<td class=\"number\">0.32</td>"));
}

}  // namespace
}  // namespace lieq
