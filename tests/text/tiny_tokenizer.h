// A tokenizer.json small enough to be changed by hand: the 256 bytes and a few merges.
#pragma once

#include <string>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/text/byte_level.h"
#include "lieq/text/tokenizer.h"

namespace lieq {

/// Ids 0 to 255 are the bytes, 256 on the results of `merges` ("t h").
inline Json TinyTokenizer(const std::vector<std::string>& merges = {"t h", "th e"}) {
  Json document = ParseJson(R"({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {}, "merges": []}})",
                            "tiny tokenizer");
  Json& model = document["model"];
  for (int byte = 0; byte < 256; ++byte) {
    model["vocab"][CharacterOfByte(static_cast<unsigned char>(byte))] = byte;
  }
  for (const std::string& merge : merges) {
    model["merges"].push_back(merge);
    std::string merged = merge;
    merged.erase(merged.find(' '), 1);
    const std::size_t next = model["vocab"].size();
    if (!model["vocab"].contains(merged)) model["vocab"][merged] = next;
  }
  return document;
}

inline Json AddedTokenJson(int id, const std::string& content) {
  return {{"id", id}, {"content", content}, {"normalized", false}, {"special", true}};
}

inline Tokenizer ParseTokenizer(const Json& document) {
  return Tokenizer::Parse(document.dump(), "tiny.json");
}

}  // namespace lieq
