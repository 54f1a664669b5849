// The tokenizer on hostile input. The first byte picks what the rest is:
//   0  a tokenizer.json as it stands
//   1  changes to a valid one: which value, and what replaces it
//   2  a text for a small tokenizer, in NFC or not, encoded and decoded again
//   3  as 1, to one over characters
//   4  as 2, for one over characters; whole, in plain spans, and in pieces

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "lieq/base/error.h"
#include "lieq/io/json.h"
#include "lieq/text/byte_level.h"
#include "lieq/text/text_stream.h"
#include "lieq/text/tokenizer.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

constexpr std::string_view kProbe =
    "The 12 caf\u00e9s<s> e\u0301\u0327 \n\n <|x|>'s\xff \U0001FAE8";

/// Uses each part of the format that is supported; few enough tokens that a change hits something.
Json SmallDocument() {
  return ParseJson(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 8, "content": "<s>", "single_word": false, "lstrip": true, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 9, "content": "<|x|>", "rstrip": true, "normalized": true, "special": false}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "(?i:'s)|\\p{L}+|\\s+(?!\\S)|\\s+"},
       "behavior": "Isolated", "invert": false},
      {"type": "Digits", "individual_digits": true},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}]},
    "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
       "special_tokens": {"<s>": {"ids": [8]}}}]},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "dropout": null, "unk_token": "T", "fuse_unk": false,
      "byte_fallback": false, "ignore_merges": true, "continuing_subword_prefix": "",
      "vocab": {"T": 0, "h": 1, "e": 2, "Th": 3, "The": 4, "\u0120": 5, "\u00c3": 6, "ee": 7},
      "merges": ["T h", ["Th", "e"], "e e"]}})",
                   "small tokenizer");
}

/// The same of tokenizers over characters.
Json SmallCharacterDocument() {
  return ParseJson(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 0, "content": "<s>", "single_word": true, "lstrip": true, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 11, "content": "a b", "rstrip": true, "normalized": true, "special": false}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
      {"type": "NFC"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"String": "a"}, "behavior": "MergedWithPrevious",
       "invert": false},
      {"type": "Split", "pattern": {"Regex": "\n+"}, "behavior": "MergedWithNext",
       "invert": true},
      {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": true}]},
    "post_processor": null,
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
      "byte_fallback": true, "ignore_merges": true,
      "vocab": {"<s>": 0, "<unk>": 1, "<0x0A>": 2, "<0xC3>": 3, "<0xA9>": 4, "\u2581": 5, "a": 6,
                "b": 7, "\u2581a": 8, "ab": 9, "\u2581ab": 10},
      "merges": ["\u2581 a", ["a", "b"], "\u2581a b"]}})",
                   "small tokenizer over characters");
}

void Probe(const Tokenizer& tokenizer) {
  const std::vector<TokenId> ids = tokenizer.Encode(kProbe, true);
  (void)tokenizer.Decode(ids, true);
}

void ReadDocument(std::string_view text) {
  Probe(Tokenizer::Parse(text, "fuzz"));
}

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

Json Replacement(const Json& document, const std::vector<Json::json_pointer>& places,
                 FuzzInput& input) {
  switch (input.Below(6)) {
    case 0:
      return nullptr;
    case 1:
      return input.Below(2) == 0;
    case 2:
      return static_cast<std::int8_t>(input.Byte());
    case 3: {
      std::string bytes;
      for (std::uint32_t left = input.Below(24); left > 0; --left) {
        bytes += static_cast<char>(input.Byte());
      }
      std::string storage;
      return std::string(ToValidUtf8(bytes, storage));
    }
    case 4:
      return input.Byte() * 1e18;
    default:
      return document[places[input.Byte() % places.size()]];  // from another place
  }
}

void ReadChangedDocument(FuzzInput& input, Json document) {
  for (int change = 0; change < 4 && !input.empty(); ++change) {
    std::vector<Json::json_pointer> places;
    AddPlaces(document, Json::json_pointer(), places);
    const Json replacement = Replacement(document, places, input);
    document[places[input.Byte() % places.size()]] = replacement;
  }
  ReadDocument(document.dump());
}

/// All bytes, so that nothing is dropped, and merges that overlap.
Tokenizer SmallTokenizer(bool nfc) {
  Json document = SmallDocument();
  if (!nfc) document["normalizer"] = nullptr;
  for (Json& token : document["added_tokens"]) {
    token["lstrip"] = token["rstrip"] = false;  // else white space is lost
  }
  Json& vocab = document["model"]["vocab"];
  vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocab[CharacterOfByte(static_cast<unsigned char>(byte))] = byte;
  }
  document["model"]["merges"] = {"a a", "aa a", "a aa", "a b", "ab ab", "b a", "T h", "\u0120 a"};
  for (const Json& merge : document["model"]["merges"]) {
    std::string merged = merge.get<std::string>();
    merged.erase(merged.find(' '), 1);
    const std::size_t next = vocab.size();
    if (!vocab.contains(merged)) vocab[merged] = next;
  }
  document["added_tokens"][0]["id"] = vocab.size();
  document["added_tokens"][1]["id"] = vocab.size() + 1;
  document["post_processor"]["processors"][1]["special_tokens"]["<s>"]["ids"] = {vocab.size()};
  return Tokenizer::Parse(document.dump(), "small tokenizer");
}

void EncodeText(std::string_view bytes) {
  static const Tokenizer plain = SmallTokenizer(false);
  static const Tokenizer normalizing = SmallTokenizer(true);
  std::string storage;
  const std::string_view text = ToValidUtf8(bytes, storage);

  const std::vector<TokenId> ids = plain.Encode(bytes);
  if (plain.Decode(ids) != text) std::abort();

  const std::vector<TokenId> normalized = normalizing.Encode(bytes);
  if (normalizing.Encode(normalizing.Decode(normalized)) != normalized) std::abort();
}

/// All bytes, no strips, spaces kept.
Tokenizer SmallCharacterTokenizer() {
  Json document = SmallCharacterDocument();
  document["normalizer"] = document["normalizer"]["normalizers"][2];
  document["pre_tokenizer"] = nullptr;
  document["decoder"]["decoders"].erase(3);
  Json& vocab = document["model"]["vocab"];
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const std::string name = std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">";
    const std::size_t next = vocab.size();
    if (!vocab.contains(name)) vocab[name] = next;
  }
  for (const char* name : {"<", "s", ">", "<s"}) vocab.emplace(name, vocab.size());
  document["model"]["merges"].push_back("< s");
  document["model"]["merges"].push_back("<s >");
  document["added_tokens"] = {document["added_tokens"][0]};
  document["added_tokens"][0]["lstrip"] = false;
  return Tokenizer::Parse(document.dump(), "small tokenizer over characters");
}

void EncodeCharacters(std::string_view bytes) {
  static const Tokenizer tokenizer = SmallCharacterTokenizer();
  std::string storage;
  const std::string text(ToValidUtf8(bytes, storage));
  std::string spaces = text;  // a mark that stands in a text becomes a space
  constexpr std::string_view kMark = "\u2581";
  for (std::size_t at = 0; (at = spaces.find(kMark, at)) != std::string::npos; ++at) {
    spaces.replace(at, kMark.size(), " ");
  }
  const std::vector<TokenId> ids = tokenizer.Encode(bytes);
  if (tokenizer.Decode(ids) != spaces) std::abort();
  TextStream stream(tokenizer);
  std::string streamed;
  for (const TokenId id : ids) streamed += stream.Add(id);
  if (streamed + stream.Finish() != spaces) std::abort();

  const std::vector<PlainSpan> plain{{.begin = 0, .end = text.size()}};
  const PlacedTokens placed = tokenizer.EncodePlaced(text, plain);
  if (tokenizer.Decode(placed.ids) != spaces) std::abort();
  if (std::ranges::count(placed.ids, 0) > 0) std::abort();  // "<s>", which is text
  if (!std::ranges::is_sorted(placed.begins) || placed.begins.size() != placed.ids.size() ||
      (!placed.begins.empty() && placed.begins.back() >= text.size())) {
    std::abort();
  }
}

}  // namespace
}  // namespace lieq

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lieq::FuzzInput input(data, size);
  const std::uint32_t mode = input.Below(5);
  try {
    if (mode == 0) {
      lieq::ReadDocument(input.Text());
    } else if (mode == 1) {
      lieq::ReadChangedDocument(input, lieq::SmallDocument());
    } else if (mode == 3) {
      lieq::ReadChangedDocument(input, lieq::SmallCharacterDocument());
    } else if (mode == 4) {
      lieq::EncodeCharacters(input.Text());
    } else {
      lieq::EncodeText(input.Text());
    }
  } catch (const lieq::Error&) {
    return 0;  // what a hostile input is meant to give
  }
  return 0;
}
