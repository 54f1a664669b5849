// GGUF's tokenizer "llama": scores to merges and back.

#include "lieq/container/gguf_sentencepiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "lieq/base/files.h"
#include "lieq/base/rng.h"
#include "lieq/container/exporters.h"
#include "lieq/container/gguf_tokenizer.h"
#include "lieq/text/tokenizer.h"
#include "tests/support/error_of.h"
#include "tests/support/raw_gguf.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::Contains;
using testing::HasSubstr;

struct Token {
  std::string name;
  float score = 0;
  std::int32_t type = 1;
};

/// <unk>, <s>, </s>, the bytes, and `more`.
std::vector<Token> WithBytes(const std::vector<Token>& more) {
  std::vector<Token> tokens{{"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}};
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (unsigned byte = 0; byte < 256; ++byte) {
    tokens.push_back({std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">", 0, 6});
  }
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

GgufTokenizer Read(const std::vector<Token>& tokens, std::vector<RawGguf::Key> more = {}) {
  std::string names, scores, types;
  for (const Token& token : tokens) {
    names += RawGguf::String(token.name);
    scores += RawGguf::Number(std::bit_cast<std::uint32_t>(token.score));
    types += RawGguf::Number(token.type);
  }
  RawGguf file;
  file.keys = {{"tokenizer.ggml.model", 8, RawGguf::String("llama")},
               {"tokenizer.ggml.tokens", 9, RawGguf::Array(8, tokens.size(), names)},
               {"tokenizer.ggml.scores", 9, RawGguf::Array(6, tokens.size(), scores)},
               {"tokenizer.ggml.token_type", 9, RawGguf::Array(5, tokens.size(), types)}};
  file.keys.insert(file.keys.end(), more.begin(), more.end());
  const std::string bytes = file.Render();
  return TokenizerFromKeys(ParseGguf(std::as_bytes(std::span(bytes)), "m.gguf").keys);
}

/// llama.cpp's way: of all neighbours that are a token together, the one of the highest score, the
/// leftmost of equals, becomes one.
std::vector<std::string> MergeByScores(const std::vector<Token>& tokens, const std::string& text) {
  std::vector<std::string> parts;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0u) != 0x80u) parts.emplace_back();
    parts.back() += c;
  }
  while (true) {
    std::size_t best = parts.size();
    float score = -std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto token = std::ranges::find(tokens, parts[i] + parts[i + 1], &Token::name);
      if (token == tokens.end() || (best < parts.size() && token->score <= score)) continue;
      best = i;
      score = token->score;
    }
    if (best == parts.size()) return parts;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

class SentencePieceProperty : public testing::TestWithParam<std::uint64_t> {};  // the seed

TEST_P(SentencePieceProperty, MergesAsTheScoresSay) {
  Rng rng(GetParam());
  std::vector<Token> more{{"\u2581"}, {"a"}, {"b"}, {"c"}};
  for (int i = 0; i < 25; ++i) {
    const auto draw = [&] { return more[rng.Below(static_cast<std::uint32_t>(more.size()))].name; };
    const std::string name = draw() + draw();
    if (name.size() > 15 || std::ranges::count(more, name, &Token::name) > 0) continue;
    more.push_back({name, -static_cast<float>(i) - 1});
  }
  const std::vector<Token> tokens = WithBytes(more);
  const GgufTokenizer read =
      Read(tokens, {{"tokenizer.ggml.add_space_prefix", 7, std::string(1, 0)}});
  ASSERT_FALSE(read.problem);
  const Tokenizer tokenizer = Tokenizer::Parse(read.json, "m.gguf");

  for (int trial = 0; trial < 50; ++trial) {
    std::string text, marked;
    for (std::uint32_t left = 1 + rng.Below(20); left > 0; --left) {
      const char letter = " abc"[rng.Below(4)];
      text += letter;
      marked += letter == ' ' ? std::string("\u2581") : std::string(1, letter);
    }
    std::vector<std::string> names;
    for (const TokenId id : tokenizer.Encode(text)) names.emplace_back(tokenizer.Name(id));
    EXPECT_EQ(names, MergeByScores(tokens, marked)) << text;
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, SentencePieceProperty,
                         testing::Range(std::uint64_t{0}, std::uint64_t{20}));

TEST(SentencePiece, HasLlamaCppsDefaults) {
  const GgufTokenizer read = Read(WithBytes({{"\u2581", -3},
                                             {"a", -4},
                                             {"\u2581"
                                              "a",
                                              -1}}));
  ASSERT_FALSE(read.problem);
  const Tokenizer tokenizer = Tokenizer::Parse(read.json, "m.gguf");

  const std::vector<TokenId> ids{1, tokenizer
                                        .Find("\u2581"
                                              "a")
                                        .value()};
  EXPECT_EQ(tokenizer.Encode("a", true), ids);  // BOS, and a space before the text
  EXPECT_EQ(tokenizer.Decode({ids[1], ids[1]}), "a a");
  EXPECT_EQ(tokenizer.Encode("\n"), (std::vector<TokenId>{259, 3 + '\n'}));
}

TEST(SentencePiece, SaysWhatIsWrongWithItsKeys) {
  std::vector<Token> tokens = WithBytes({{"a", std::numeric_limits<float>::quiet_NaN()}});
  EXPECT_THAT(Read(tokens).problem->found, HasSubstr("NaN"));
  EXPECT_THAT(Read(WithBytes({{"a"}, {"a"}})).problem->what, HasSubstr("two tokens of one name"));
  EXPECT_THAT(
      Read(tokens, {{"tokenizer.ggml.bos_token_id", 4, RawGguf::Number(9000)}}).problem->where,
      HasSubstr("scores"));
  EXPECT_THAT(Read(WithBytes({}), {{"tokenizer.ggml.bos_token_id", 4, RawGguf::Number(9000)}})
                  .problem->found,
              "9000");
}

/// A tiny llama with a tokenizer over characters, made of scores.
class WithSentencePiece : public testing::Test {
 protected:
  void Make(const std::function<void(Json&)>& change = {}, bool prefix = true) {
    const std::vector<Token> tokens = WithBytes({{"\u2581", -9},
                                                 {"a", -8},
                                                 {"b", -7},
                                                 {"ab", -1},
                                                 {"\u2581"
                                                  "a",
                                                  -2},
                                                 {"\u2581"
                                                  "ab",
                                                  -3},
                                                 {"\u2581\u2581", -4},
                                                 {"\u2581\u2581\u2581", -4}});
    Json document = Json::parse(
        Read(tokens, {{"tokenizer.ggml.add_space_prefix", 7, std::string(1, prefix ? 1 : 0)}})
            .json);
    if (change) change(document);
    std::filesystem::remove_all(folder_ / "model");
    MakeTinyModel(folder_ / "model", {.architecture = "LlamaForCausalLM",
                                      .layers = 1,
                                      .vocab = static_cast<Index>(tokens.size())});
    WriteText(folder_ / "model" / "tokenizer.json", document.dump());
    WriteText(folder_ / "model" / "tokenizer_config.json", "{}");
  }
  std::vector<std::string> Write() {
    std::vector<std::string> notes;
    FindExporter("gguf").write(OpenModel(folder_ / "model"), folder_ / "m.gguf",
                               {.note = [&](const std::string& text) { notes.push_back(text); }});
    return notes;
  }
  TempFolder folder_;
};

TEST_F(WithSentencePiece, ComesBackFromAFileTheSame) {
  for (const bool prefix : {true, false}) {
    Make({}, prefix);
    Write();
    const ModelFolder model = OpenModel(folder_ / "m.gguf");
    ASSERT_FALSE(model.tokenizer_problem);
    const Json read = Json::parse(model.tokenizer);
    const Json made = ReadJson(folder_ / "model" / "tokenizer.json");
    for (const char* key : {"model", "normalizer", "pre_tokenizer", "decoder", "added_tokens"}) {
      EXPECT_EQ(read[key], made[key]) << key;
    }
    std::filesystem::remove(folder_ / "m.gguf");
  }
}

TEST_F(WithSentencePiece, SaysWhereLlamaCppPutsMoreSpaces) {
  Make([](Json& document) {
    document["normalizer"] = nullptr;
    document["pre_tokenizer"] = {{"type", "Metaspace"},
                                 {"replacement", kSpaceMark},
                                 {"prepend_scheme", "first"},
                                 {"split", false}};
  });
  EXPECT_THAT(Write(), Contains(HasSubstr("llama.cpp puts a space before every part")));
}

TEST_F(WithSentencePiece, IsRefusedWhereScoresCannotSayIt) {
  struct Case {
    std::function<void(Json&)> change;
    std::string expected;
  };
  const std::vector<Case> cases{
      {[](Json& json) { json["model"]["merges"].erase(0); }, "merges do not"},
      {[](Json& json) { json["model"]["ignore_merges"] = true; }, "ignore_merges"},
      {[](Json& json) { json["model"]["byte_fallback"] = false; }, "byte_fallback"},
      {[](Json& json) { json["normalizer"] = nullptr; }, "/normalizer"},
      {[](Json& json) {
         json["pre_tokenizer"] = {{"type", "Digits"}, {"individual_digits", true}};
       },
       "/pre_tokenizer"},
      {[](Json& json) {
         Json& merges = json["model"]["merges"];  // those of two tokens, in turns
         Json last = merges[2];
         merges.erase(2);
         merges.push_back(last);
       },
       "take turns"}};
  for (const Case& each : cases) {
    Make(each.change);
    EXPECT_THAT(ErrorOf([&] { Write(); }), HasSubstr(each.expected));
  }
}

TEST_F(WithSentencePiece, DoesNotLetItsNamePromiseTokens) {
  Make();
  ModelFolder model = OpenModel(folder_ / "model");
  EXPECT_EQ(NameThatLoads("llama", model), "llama");
  EXPECT_EQ(NameThatLoads("My-Phi3-phi-3", model), "My-Phi_3-phi_3");  // there is no <|endoftext|>
  Make([](Json& document) {
    document["model"]["vocab"].erase("b");
    document["model"]["vocab"]["<|endoftext|>"] = 261;
  });
  EXPECT_EQ(NameThatLoads("Phi-3-mini", OpenModel(folder_ / "model")), "Phi-3-mini");
}

}  // namespace
}  // namespace lieq
