// Files that are broken, hostile or of another kind: each gives an Error that says where, none a
// crash or other ids than the reference.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/text/tokenizer.h"
#include "tests/support/error_of.h"
#include "tests/text/tiny_tokenizer.h"

namespace lieq {
namespace {

using testing::HasSubstr;

std::string ErrorFor(const std::string& text) {
  return ErrorOf([&] { return Tokenizer::Parse(text, "hostile.json"); });
}

std::string ErrorAfter(const std::function<void(Json&)>& change) {
  Json document = TinyTokenizer();
  change(document);
  return ErrorFor(document.dump());
}

TEST(HostileTokenizer, TheTinyOneIsFineAsItIs) {
  EXPECT_EQ(ErrorAfter([](Json&) {}), "");
}

TEST(HostileTokenizer, MustBeAnObjectOfJson) {
  EXPECT_THAT(ErrorFor(""), HasSubstr("hostile.json"));
  EXPECT_THAT(ErrorFor("{\"model\": "), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorFor("[]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(ErrorFor("{}"), HasSubstr("key is missing"));
}

TEST(HostileTokenizer, MustExist) {
  EXPECT_THAT(ErrorOf([] { return Tokenizer::Open("/no/such/tokenizer.json"); }),
              HasSubstr("/no/such/tokenizer.json"));
}

struct Change {
  const char* name;
  const char* pointer;   // JSON pointer of what is replaced
  const char* value;     // by what
  const char* expected;  // part of the message
};

constexpr Change kChanges[] = {
    {"unigram", "/model/type", R"("Unigram")", "tokenizer model is not supported"},
    {"empty_vocabulary", "/model/vocab", "{}", "vocabulary is empty"},
    {"negative_id", "/model/vocab/the", "-1", "token id is negative"},
    {"hole", "/model/vocab/the", "258", "holes"},
    {"huge_id", "/model/vocab/the", "9223372036854775807", "holes"},
    {"larger_than_64_bits", "/model/vocab/the", "99999999999999999999", "whole number"},
    {"id_given_twice", "/model/vocab/the", "256", "two tokens have one id"},
    {"id_as_text", "/model/vocab/the", R"("257")", "/model/vocab/the"},
    {"unknown_left", "/model/merges/0", R"("qq h")", "not in the vocabulary"},
    {"unknown_right", "/model/merges/0", R"(["t", "qq"])", "not in the vocabulary"},
    {"unknown_result", "/model/merges/0", R"(["t", "q"])", "'tq'"},
    {"merge_given_twice", "/model/merges/1", R"(["t", "h"])", "merge is given twice"},
    {"merge_of_one", "/model/merges/0", R"("th")", "not a merge"},
    {"merge_of_three", "/model/merges/0", R"("t h e")", "not a merge"},
    {"merge_list_of_three", "/model/merges/0", R"(["t", "h", "e"])", "not a merge"},
    {"merge_of_numbers", "/model/merges/0", "[1, 2]", "not a merge"},
    {"merges_as_text", "/model/merges", R"("t h")", "/model/merges"},
    {"no_merges", "/model/merges", "null", "/model/merges"},
    {"dropout", "/model/dropout", "0.1", "dropout"},
    {"prefix", "/model/continuing_subword_prefix", R"("##")", "continuing_subword_prefix"},
    {"suffix", "/model/end_of_word_suffix", R"("</w>")", "end_of_word_suffix"},
    {"byte_fallback", "/model/byte_fallback", "true", "byte_fallback"},
    {"lowercase", "/normalizer", R"({"type": "Lowercase"})", "Lowercase"},
    {"nfkc", "/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "NFKC"}]})", "NFKC"},
    {"normalizers_as_text", "/normalizer", R"({"type": "Sequence", "normalizers": "NFC"})",
     "/normalizer/normalizers"},
    {"normalizer_as_text", "/normalizer", R"("NFC")", "/normalizer"},
    {"no_pre_tokenizer", "/pre_tokenizer", "null", "not byte-level"},
    {"metaspace", "/pre_tokenizer", R"({"type": "Metaspace"})", "replacement"},
    {"metaspace_of_two", "/pre_tokenizer", R"({"type": "Metaspace", "replacement": "ab"})",
     "replacement"},
    {"metaspace_scheme", "/pre_tokenizer",
     R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})", "last"},
    {"metaspace_against_itself", "/pre_tokenizer",
     R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first",
         "add_prefix_space": false})",
     "against each other"},
    {"metaspace_and_byte_level_decoder", "/pre_tokenizer",
     R"({"type": "Metaspace", "replacement": "_"})", "not byte-level"},
    {"replace_regex", "/normalizer",
     R"({"type": "Replace", "pattern": {"Regex": " +"}, "content": "_"})", "Regex"},
    {"replace_nothing", "/normalizer",
     R"({"type": "Replace", "pattern": {"String": ""}, "content": "_"})", "at least one character"},
    {"replace_without_content", "/normalizer", R"({"type": "Replace", "pattern": {"String": "a"}})",
     "content"},
    {"precompiled", "/normalizer", R"({"type": "Precompiled"})", "Precompiled"},
    {"prefix_space", "/pre_tokenizer/add_prefix_space", "true", "add_prefix_space"},
    {"byte_level_first", "/pre_tokenizer",
     R"({"type": "Sequence", "pretokenizers": [
         {"type": "ByteLevel", "add_prefix_space": false},
         {"type": "Digits", "individual_digits": true}]})",
     "behind ByteLevel"},
    {"removed", "/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": " "}, "behavior": "Removed"})", "Removed"},
    {"split_at_nothing", "/pre_tokenizer",
     R"({"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated"})", "a Regex"},
    {"bad_pattern", "/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"})",
     "not a regular expression"},
    {"other_dialect", "/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "\\h+"}, "behavior": "Isolated"})", "'\\h'"},
    {"matches_nothing", "/pre_tokenizer",
     R"({"type": "Split", "pattern": {"Regex": "a*"}, "behavior": "Isolated"})", "match nothing"},
    {"bert_processor", "/post_processor", R"({"type": "BertProcessing"})", "BertProcessing"},
    {"two_templates", "/post_processor",
     R"({"type": "Sequence", "processors": [
         {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}]},
         {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}]}]})",
     "a second TemplateProcessing"},
    {"template_of_nothing", "/post_processor", R"({"type": "TemplateProcessing", "single": []})",
     "does not hold the text once"},
    {"template_of_b", "/post_processor",
     R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]})", "names another"},
    {"template_of_unknown", "/post_processor",
     R"({"type": "TemplateProcessing", "special_tokens": {},
         "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]})",
     "special_tokens/<s>"},
    {"template_id_too_high", "/post_processor",
     R"({"type": "TemplateProcessing", "special_tokens": {"<s>": {"ids": [258]}},
         "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]})",
     "out of range"},
    {"no_decoder", "/decoder", "null", "decoder"},
    {"metaspace_decoder", "/decoder", R"({"type": "Metaspace"})", "replacement"},
    {"other_decoder", "/decoder", R"({"type": "WordPiece"})", "WordPiece"},
    {"text_decoder", "/decoder", R"({"type": "Fuse"})", "byte-level"},
    {"decoder_order", "/decoder",
     R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteFallback"}]})",
     "ByteFallback"},
    {"strip_without_fuse", "/decoder",
     R"({"type": "Strip", "content": " ", "start": 1, "stop": 0})", "Strip"},
    {"strip_at_the_end", "/decoder",
     R"({"type": "Sequence", "decoders": [
         {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 1}]})",
     "stop 1"},
    {"replace_decoder_regex", "/decoder",
     R"({"type": "Replace", "pattern": {"Regex": "_"}, "content": " "})", "Regex"},
    {"added_as_text", "/added_tokens", R"("<s>")", "/added_tokens"},
    {"added_without_id", "/added_tokens", R"([{"content": "<s>"}])", "/added_tokens/0/id"},
    {"added_without_content", "/added_tokens", R"([{"id": 258}])", "/added_tokens/0/content"},
    {"added_nothing", "/added_tokens", R"([{"id": 258, "content": ""}])", "empty"},
    {"added_leaves_a_hole", "/added_tokens", R"([{"id": 300, "content": "<s>"}])",
     "258, the next one"},
    {"added_negative", "/added_tokens", R"([{"id": -1, "content": "<s>"}])", "out of range"},
    {"added_huge", "/added_tokens", R"([{"id": 4294967296, "content": "<s>"}])", "out of range"},
    {"added_on_another", "/added_tokens", R"([{"id": 257, "content": "<s>"}])",
     "258, the next one"},
    {"added_moves_a_token", "/added_tokens", R"([{"id": 258, "content": "the"}])",
     "257, the id of this token"},
    {"added_twice", "/added_tokens",
     R"([{"id": 258, "content": "<s>"}, {"id": 258, "content": "<s>"}])", "given twice"},
    {"missing_byte_and_unknown_token", "/model",
     R"({"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"})", "unk_token"},
};

class ChangedTokenizer : public testing::TestWithParam<Change> {};

TEST_P(ChangedTokenizer, IsRefusedByName) {
  const auto [name, pointer, value, expected] = GetParam();

  const std::string error = ErrorAfter(
      [&](Json& document) { document[Json::json_pointer(pointer)] = ParseJson(value, name); });

  EXPECT_THAT(error, HasSubstr("hostile.json"));
  EXPECT_THAT(error, HasSubstr(expected));
}
INSTANTIATE_TEST_SUITE_P(Changes, ChangedTokenizer, testing::ValuesIn(kChanges),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(HostileTokenizer, TwoAddedTokensMayNotNormalizeToOne) {
  const std::string error = ErrorAfter([](Json& document) {
    document["normalizer"] = {{"type", "NFC"}};
    document["added_tokens"] = {AddedTokenJson(258, "ế"), AddedTokenJson(259, "e\u0302\u0301")};
    for (Json& token : document["added_tokens"]) token["normalized"] = true;
  });

  EXPECT_THAT(error, HasSubstr("one after normalization"));
}

TEST(HostileTokenizer, NamesInMessagesAreHarmless) {
  const std::string error = ErrorAfter([](Json& document) {
    document["normalizer"] = {{"type", "\x1b[2J" + std::string(100000, 'x')}};
  });

  EXPECT_EQ(error.find('\x1b'), std::string::npos);
  EXPECT_LT(error.size(), 1000u);
}

/// Pointers to `value`, which is at `place`, and to all that is in it.
void AddPlaces(const Json& value, const Json::json_pointer& place,
               std::vector<Json::json_pointer>& places) {
  places.push_back(place);
  if (value.is_object()) {
    for (auto entry = value.begin(); entry != value.end(); ++entry) {
      AddPlaces(*entry, place / entry.key(), places);
    }
  } else if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) AddPlaces(value[i], place / i, places);
  }
}

// Wrong types everywhere: whatever the place, the file is read or refused.
TEST(HostileTokenizer, AnyTypeAnywhereGivesATokenizerOrAnError) {
  Json document = TinyTokenizer();
  document["normalizer"] = {{"type", "NFC"}};
  document["added_tokens"] = {AddedTokenJson(258, "<s>")};
  document["post_processor"] = ParseJson(
      R"({"type": "TemplateProcessing", "special_tokens": {"<s>": {"ids": [258]}},
          "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]})",
      "template");
  document["pre_tokenizer"] = ParseJson(
      R"({"type": "Sequence", "pretokenizers": [
          {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated"},
          {"type": "Digits", "individual_digits": true},
          {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})",
      "pre-tokenizer");
  // Of the 256 bytes a few are enough.
  Json& vocab = document["model"]["vocab"];
  vocab = {{"t", 0}, {"h", 1}, {"e", 2}, {"th", 3}, {"the", 4}, {"Ġ", 5}};
  document["added_tokens"][0]["id"] = 6;
  document["post_processor"]["special_tokens"]["<s>"]["ids"][0] = 6;
  ASSERT_EQ(ErrorFor(document.dump()), "");

  std::vector<Json::json_pointer> places;
  AddPlaces(document, Json::json_pointer(), places);
  int refused = 0;
  for (const Json::json_pointer& place : places) {
    for (const char* const text : {"null", "true", "-1", "7", "1e99", "\"\"", "\"BPE\"", "[]",
                                   "[[]]", "{}", "{\"type\": 1}", "{\"\": null}"}) {
      Json changed = document;
      changed[place] = ParseJson(text, "replacement");
      try {
        (void)Tokenizer::Parse(changed.dump(), "hostile.json").Encode("the 1 <s>", true);
      } catch (const Error&) {
        ++refused;
      }
    }
  }

  EXPECT_GT(refused, 300);
}

TEST(HostileTokenizer, TruncatedAnywhereGivesAnError) {
  const std::string text = TinyTokenizer().dump();
  for (std::size_t part = 0; part < 64; ++part) {
    EXPECT_NE(ErrorFor(text.substr(0, text.size() * part / 64)), "") << part;
  }
}

TEST(HostileTokenizer, AnyByteChangedGivesATokenizerOrAnError) {
  const std::string text = TinyTokenizer().dump();
  Rng rng(1);
  for (int round = 0; round < 500; ++round) {
    std::string changed = text;
    changed[rng.Below(static_cast<std::uint32_t>(text.size()))] = static_cast<char>(rng.Below(256));
    (void)ErrorFor(changed);
  }
}

}  // namespace
}  // namespace lieq
