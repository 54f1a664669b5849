// Byte-pair encoding of one word: start with its letters, and while some neighbours may be merged,
// merge the pair of lowest rank, the leftmost of equals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/io/json.h"
#include "lieq/text/alphabet.h"
#include "lieq/text/byte_map.h"
#include "lieq/text/junctions.h"
#include "lieq/text/vocabulary.h"

namespace lieq {

/// What a pair of neighbours becomes.
struct Merge {
  std::int32_t rank = kNone;
  TokenId merged = 0;

  static constexpr std::int32_t kNone = INT32_MAX;  // the pair stays apart; after every other rank
};

/// Merges by pair of ids: one flat table, since a look-up per pair of neighbours is the inner loop.
class MergeTable {
 public:
  explicit MergeTable(std::size_t merges);
  /// False where the pair has a merge already.
  [[nodiscard]] bool Add(TokenId left, TokenId right, Merge merge);
  [[nodiscard]] Merge Find(TokenId left, TokenId right) const noexcept;

 private:
  struct Slot {
    TokenId left = -1;  // -1: free
    TokenId right = -1;
    Merge merge;
  };
  [[nodiscard]] std::size_t SlotOf(TokenId left, TokenId right) const noexcept;

  std::vector<Slot> slots_;  // a power of two of them, at most half taken
};

/// The model as the file gives it. Immutable, so that threads share it.
class Bpe {
 public:
  /// model       the object at /model of tokenizer.json, whose vocabulary is `vocabulary`
  /// byte_level  whether words are written in the byte-level alphabet
  /// Throws Error: not BPE, options that are not supported, merges of unknown tokens or given
  /// twice.
  Bpe(const JsonObject& model, const Vocabulary& vocabulary, bool byte_level);

  [[nodiscard]] const Alphabet& alphabet() const noexcept { return alphabet_; }

 private:
  friend class BpeEncoder;

  void ReadMerges(const JsonObject& model, const Vocabulary& vocabulary, bool byte_level);

  Alphabet alphabet_;
  MergeTable merges_;
  std::optional<Junctions> junctions_;  // without the byte-level alphabet
  // With "ignore_merges", a word that is a token is that token, whether or not merges lead to it.
  ByteMap whole_words_;
  std::vector<TokenId> whole_word_ids_;
};

/// Encodes the words of one text, remembering those it has seen. Not shared between threads.
class BpeEncoder {
 public:
  explicit BpeEncoder(const Bpe& bpe) : bpe_(&bpe) {}

  /// Appends the ids of `word`: any bytes, or valid UTF-8 without the byte-level alphabet; none of
  /// them for a letter that has no token.
  void Encode(std::string_view word, std::vector<TokenId>& ids);

 private:
  // What a position holds: a token and what it and its right neighbour become.
  struct Symbol {
    TokenId id = 0;
    Merge merge;
  };
  struct Link {
    std::size_t left = 0;
    std::size_t right = 0;
  };

  void EncodeParts(std::string_view word, std::vector<TokenId>& ids);
  void EncodePart(std::string_view part, std::vector<TokenId>& ids);
  void MergeWord(std::string_view word, std::vector<TokenId>& ids);
  void MergeShort();
  void MergeLong();

  const Bpe* bpe_;
  ByteMap seen_;
  std::vector<std::size_t> seen_ends_;  // of each seen word's ids in seen_ids_
  std::vector<TokenId> seen_ids_;
  std::vector<TokenId> letters_;  // scratch of MergeWord, as are the next three
  std::vector<Symbol> symbols_;
  std::vector<Link> links_;
  std::vector<std::pair<std::int32_t, std::size_t>> heap_;  // (rank, position), smallest first
};

}  // namespace lieq
