// The head of model cards: what is read of others', and that ours are good YAML whatever was read.
#include "lieq/pipeline/front_matter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "lieq/base/files.h"
#include "lieq/base/rng.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/model_card.h"
#include "lieq/pipeline/origin.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;

/// The string that a scalar of ours is, by the strictest reading: a word of letters, digits and
/// ./_- that is no other type, or a JSON string of printable characters. Empty with a failure.
std::string StrictScalar(const std::string& text) {
  if (text.starts_with('"')) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto c = static_cast<unsigned char>(text[i]);
      const bool c1 = c == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0;
      EXPECT_FALSE(c < 0x20 || c == 0x7F || c1) << "a control character in " << text;
    }
    return ParseJson(text, "a scalar").get<std::string>();
  }
  static const std::set<std::string> kTypes{"yes", "no", "on", "off", "true", "false", "null"};
  std::string lower = text;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  EXPECT_FALSE(text.empty() || kTypes.contains(lower)) << text;
  EXPECT_EQ(text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                   "0123456789./_-"),
            std::string::npos)
      << text;
  EXPECT_TRUE(std::isalnum(static_cast<unsigned char>(text[0]))) << text;
  return text;
}

using Head = std::vector<std::pair<std::string, std::vector<std::string>>>;

/// The head of one of our cards, read strictly.
Head StrictHead(const std::string& card) {
  Head head;
  std::istringstream lines(card);
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(line, "---");
  while (std::getline(lines, line) && line != "---") {
    if (line.starts_with("- ")) {
      EXPECT_FALSE(head.empty());
      head.back().second.push_back(StrictScalar(line.substr(2)));
      continue;
    }
    const auto colon = line.find(':');
    EXPECT_EQ(line.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), colon) << line;
    head.emplace_back(line.substr(0, colon), std::vector<std::string>());
    if (colon + 1 == line.size()) continue;
    EXPECT_EQ(line[colon + 1], ' ') << line;
    head.back().second.push_back(StrictScalar(line.substr(colon + 2)));
  }
  EXPECT_EQ(line, "---") << "the head is not closed";
  return head;
}

std::vector<std::string> At(const Head& head, const std::string& key) {
  std::vector<std::string> values;
  for (const auto& [name, all] : head) {
    if (name == key) values.insert(values.end(), all.begin(), all.end());
  }
  return values;
}

TEST(FrontMatter, ReadsScalarsAndListsAndNothingElse) {
  EXPECT_THAT(
      FrontMatter("---\nlicense: apache-2.0\nlanguage:\n- en\n- 'de'\n# a remark\n"
                  "tags: [a, \"b c\"]\nextra_gated_fields:\n  Name: text\npipeline_tag: x\r\n"
                  "---\n# Title\nkey: value\n"),
      ElementsAre(Pair("license", ElementsAre("apache-2.0")),
                  Pair("language", ElementsAre("en", "de")), Pair("tags", ElementsAre("a", "b c")),
                  Pair("extra_gated_fields", IsEmpty()), Pair("pipeline_tag", ElementsAre("x"))));
  EXPECT_THAT(FrontMatter("# Title\n---\nlicense: mit\n---\n"), IsEmpty());
  EXPECT_THAT(FrontMatter("---\nlicense: mit\n"), IsEmpty());
  EXPECT_THAT(FrontMatter(""), IsEmpty());
}

TEST(FrontMatter, UnderstandsQuotesRemarksAndMargins) {
  EXPECT_THAT(
      FrontMatter("\xEF\xBB\xBF---\na: mit # ours\nb: 'it''s'  # so\nc: \"a \\\"b\\\"\"\n"
                  "d:\n  - x\n  - \"y, z\"\ne: ['p, q', r]\nf: http://x.y/#z\n---\n"),
      ElementsAre(Pair("a", ElementsAre("mit")), Pair("b", ElementsAre("it's")),
                  Pair("c", ElementsAre("a \"b\"")), Pair("d", ElementsAre("x", "y, z")),
                  Pair("e", ElementsAre("p, q", "r")), Pair("f", ElementsAre("http://x.y/#z"))));
}

TEST(FrontMatter, CopiesNothingThatItCannotRead) {
  for (const std::string value : {"|\n  a\n  b",
                                  "&anchor x",
                                  "*alias",
                                  "!!str x",
                                  "{a: b}",
                                  "[a, [b]]",
                                  "[a, {b: c}]",
                                  "\"open",
                                  "'open",
                                  "\"a\" b",
                                  "\"\\x41\"",
                                  "first\n  second",
                                  "a: b",
                                  "\n  - a\n    b: c",
                                  "\n- a\n  - b",
                                  "\n- x: y",
                                  "\n  sub:\n  - en",
                                  "~",
                                  "null",
                                  "% x",
                                  "@x",
                                  "\xFF\xFE",
                                  "a\x01z",
                                  "a\u2028z",
                                  "- x"}) {
    const auto read = FrontMatter("---\nlicense: " + value + "\nlanguage: en\n---\n");

    ASSERT_EQ(read.size(), 2u) << value;
    EXPECT_THAT(read[0].second, IsEmpty()) << value;
    EXPECT_THAT(read[1].second, ElementsAre("en")) << value;
  }
  EXPECT_THAT(FrontMatter("---\nno key\n- x\n  y\n: z\na b: c\nkey:value\n---\n"), IsEmpty());
  const std::string huge(5000, 'x');
  EXPECT_THAT(FrontMatter("---\nlicense: " + huge + "\n---\n"),
              ElementsAre(Pair("license", IsEmpty())));
}

TEST(YamlString, IsTheSameStringToEveryReader) {
  for (const std::string plain : {"apache-2.0", "Org/Model_1.5", "en"}) {
    EXPECT_EQ(YamlString(plain), plain);
  }
  for (const std::string value :
       {"",       "no",     "Yes",    "OFF", "TRUE", "null", "y",    "1.5", "1e3",  "3-bit",
        "a: b",   "a #b",   "- a",    "'",   "\"",   "\\",   "a\nb", "\t",  "\x7F", "\u0085",
        "\u2028", "\uFEFF", "\uFFFE", "é",   "😀",   "---",  "...",  "{x}", "a b "}) {
    EXPECT_EQ(StrictScalar(YamlString(value)), value);
    EXPECT_EQ(YamlString(value).front(), '"') << value;
  }
  EXPECT_EQ(YamlString("a\xFFz"), "\"a\uFFFDz\"");
}

TEST(YamlString, KeepsWhateverIsReadOfMutatedHeads) {
  const std::vector<std::string> pieces{
      "license", ":",  " ",   "\n", "- ", "[",    "]",    ",", "'",  "\"",   "\\",  "#",  "en",
      "|",       "&a", "---", "\t", "é",  "\xFF", "\r\n", "{", "  ", "null", "1.5", ": ", " #"};
  int read = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    Rng rng(seed);
    std::string head = "---\n";
    for (int line = 0; line < 6; ++line) {
      if (rng.Below(3) > 0) head += "key: ";
      for (std::uint32_t i = rng.Below(5); i > 0; --i) {
        head += pieces[rng.Below(static_cast<std::uint32_t>(pieces.size()))];
      }
      head += "\n";
    }
    for (const auto& [key, values] : FrontMatter(head + "---\n")) {
      for (const std::string& value : values) {
        ++read;
        EXPECT_EQ(StrictScalar(YamlString(value)), value) << "seed " << seed;
        EXPECT_EQ(value.find_first_of("\n\r\xFF"), std::string::npos) << "seed " << seed;
      }
    }
  }
  EXPECT_GT(read, 1000);
}

/// The card of a tiny result whose source has `readme`.
class SourceCard : public testing::Test {
 protected:
  SourceCard() { MakeTinyModel(folder / "model"); }

  std::string Card(const std::string& readme) {
    WriteText(folder / "model/README.md", readme);
    const ModelFolder source = OpenModel(folder / "model");
    const Record record{{"code_bits_per_weight", 2},
                        {"bits_per_weight", 2.25},
                        {"origin", ToJson(OriginOf(source))}};
    // A record is written before its card: it must be text.
    EXPECT_NO_THROW((void)record.dump());
    return ModelCard({.record = record,
                      .container = "compressed-tensors",
                      .engines = {"vLLM"},
                      .config = source.weights.config,
                      .files = {{"model.safetensors", 1000}}});
  }

  TempFolder folder;
};

TEST_F(SourceCard, TakesWhatTheHubReads) {
  const Head head = StrictHead(
      Card("---\nlicense: other\nlicense_name: \"house: ours\"\nlicense_link: LICENSE\n"
           "language: [en, no]\nbase_model: Org/Parent\npipeline_tag: text-generation\n---\n"));

  EXPECT_THAT(At(head, "license"), ElementsAre("other"));
  EXPECT_THAT(At(head, "license_name"), ElementsAre("house: ours"));
  EXPECT_THAT(At(head, "license_link"), ElementsAre("LICENSE"));
  EXPECT_THAT(At(head, "language"), ElementsAre("en", "no"));
  EXPECT_THAT(At(head, "base_model"), IsEmpty()) << "that is what the source was made from";
  EXPECT_THAT(At(head, "base_model_relation"), ElementsAre("quantized"));
  EXPECT_THAT(At(head, "library_name"), ElementsAre("transformers"));
  EXPECT_THAT(At(head, "pipeline_tag"), ElementsAre("text-generation"));
  EXPECT_THAT(At(head, "tags"), ElementsAre("lieq", "compressed-tensors", "2-bit"));
}

TEST_F(SourceCard, IsGoodYamlWhateverTheSourceSays) {
  Rng rng(7, 0);
  std::string noise = "---\n";
  for (int i = 0; i < 3000; ++i) noise += static_cast<char>(rng.Bits() & 0xFF);
  const std::vector<std::string> hostile{
      "",
      "---",
      "---\nlicense: mit",
      "license: mit\n---\n",
      noise,
      noise + "\n---\n",
      "---\nlicense: \"a\\n---\\nb\"\nlanguage: 'x\n---\n",
      "---\nlicense: |\n  mit\n  ---\n---\n",
      "---\nlanguage:\n- en\n- !!python/object:os.system [ls]\n---\n",
      "---\nlicense: mit\nlicense: [a, b]\nlicense_name: \xC3\x28\n---\n",
      "---\nlicense: " + std::string(3 << 20, 'x') + "\n---\n",
      "---\n" + std::string(200000, '-') + "\n---\n",
      "---\nlicense: '| <script> `x` *'\nlicense_link: \"javascript:x\"\n---\n"};
  for (const std::string& readme : hostile) {
    const std::string card = Card(readme);

    const Head head = StrictHead(card);
    EXPECT_THAT(At(head, "tags"), ElementsAre("lieq", "compressed-tensors", "2-bit"))
        << readme.substr(0, 100);
    EXPECT_LT(card.size(), 10000u);
  }
}

TEST_F(SourceCard, EscapesNamesInItsText) {
  std::filesystem::rename(folder / "model", folder / "a|b\n# c `d` <e>");
  const ModelFolder source = OpenModel(folder / "a|b\n# c `d` <e>");
  const Record record{{"code_bits_per_weight", 2},
                      {"bits_per_weight", 2.25},
                      {"command", "lieq quantize 'a\n```'"},
                      {"origin", ToJson(OriginOf(source))}};

  const std::string card = ModelCard({.record = record,
                                      .container = "gguf",
                                      .engines = {"llama.cpp"},
                                      .config = source.weights.config,
                                      .files = {{"it's | a file.gguf", 1000}}});

  EXPECT_THAT(At(StrictHead(card), "tags"), ElementsAre("lieq", "gguf", "2-bit"));
  EXPECT_THAT(card, HasSubstr("# a\\|b \\# c \\`d\\` \\<e\\>, 2.25 bits"));
  EXPECT_THAT(card, HasSubstr("| it's \\| a file.gguf | 1000 |"));
  EXPECT_THAT(card, HasSubstr("llama-server -m 'it'\\''s | a file.gguf'"));
  EXPECT_THAT(card, HasSubstr("    lieq quantize 'a ```'\n"));
  EXPECT_THAT(card, HasSubstr("add `base_model: ORG/NAME`"));
  EXPECT_THAT(card, Not(HasSubstr("\n# c")));
}

}  // namespace
}  // namespace lieq
