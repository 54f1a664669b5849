#include "lieq/text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <string>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"
#include "lieq/text/byte_level.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

// Words longer than this are rarely met twice, and a text of them alone must not fill the memory.
constexpr std::size_t kLongestSeen = 64;      // bytes
constexpr std::size_t kMostSeen = 1u << 18u;  // words

// Up to here, looking through all positions for the lowest rank is faster than keeping a heap.
constexpr std::size_t kLongestScanned = 48;  // symbols

void RefuseText(const JsonObject& model, std::string_view key) {
  if (const std::string text = model.String(key, ""); !text.empty()) {
    throw Error({.what = "BPE option is not supported",
                 .where = model.Where(key),
                 .expected = "null or \"\"",
                 .found = "'" + Printable(text) + "'"});
  }
}

/// The model, whose options are supported.
const JsonObject& Checked(const JsonObject& model, bool byte_level) {
  if (const std::string type = model.String("type", "BPE"); type != "BPE") {
    throw Error({.what = "tokenizer model is not supported",
                 .where = model.Where("type"),
                 .expected = "BPE",
                 .found = Printable(type)});
  }
  RefuseText(model, "continuing_subword_prefix");
  RefuseText(model, "end_of_word_suffix");
  if (const double dropout = model.Number("dropout", 0.0); dropout != 0.0) {
    throw Error({.what = "BPE dropout is not supported: ids would be random",
                 .where = model.Where("dropout"),
                 .expected = "null or 0",
                 .found = std::to_string(dropout)});
  }
  if (byte_level && model.Boolean("byte_fallback", false)) {
    throw Error({.what = "BPE option is not supported: bytes are the alphabet already",
                 .where = model.Where("byte_fallback"),
                 .expected = "false",
                 .found = "true"});
  }
  return model;
}

/// Written when it is needed: there are a hundred thousand merges.
using MergePlace = std::function<std::string()>;

/// The two parts of a merge: "a b" in older files, ["a", "b"] in newer ones.
std::pair<std::string_view, std::string_view> PartsOfMerge(const Json& merge,
                                                           const MergePlace& place) {
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
             merge[1].is_string()) {
    return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
  }
  throw Error({.what = "not a merge",
               .where = place(),
               .expected = R"("left right" or ["left", "right"])",
               .found = merge.is_string() ? "'" + Printable(merge.get<std::string>()) + "'"
                                          : std::string(merge.type_name())});
}

TokenId IdOfPart(const Vocabulary& vocabulary, std::string_view token, const MergePlace& place) {
  if (const std::optional<TokenId> id = vocabulary.FindInModel(token)) return *id;
  throw Error({.what = "merge of a token that is not in the vocabulary",
               .where = place(),
               .found = "'" + Printable(token) + "'"});
}

}  // namespace

MergeTable::MergeTable(std::size_t merges) : slots_(std::bit_ceil(2 * merges + 2)) {}

std::size_t MergeTable::SlotOf(TokenId left, TokenId right) const noexcept {
  const std::uint64_t key =
      std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = (key * 0x9E3779B97F4A7C15u >> 32) & mask;
  while (slots_[at].left >= 0 && (slots_[at].left != left || slots_[at].right != right)) {
    at = (at + 1) & mask;
  }
  return at;
}

bool MergeTable::Add(TokenId left, TokenId right, Merge merge) {
  Slot& slot = slots_[SlotOf(left, right)];
  if (slot.left >= 0) return false;
  slot = {left, right, merge};
  return true;
}

Merge MergeTable::Find(TokenId left, TokenId right) const noexcept {
  return slots_[SlotOf(left, right)].merge;
}

Bpe::Bpe(const JsonObject& model, const Vocabulary& vocabulary, bool byte_level)
    : alphabet_(Checked(model, byte_level), vocabulary, byte_level),
      merges_(model.Has("merges") ? model.At("merges").size() : 0) {
  if (!byte_level) junctions_.emplace();
  ReadMerges(model, vocabulary, byte_level);

  if (model.Boolean("ignore_merges", false)) {
    for (TokenId id = 0; id < vocabulary.model_size(); ++id) {
      const std::string_view name = vocabulary.Name(id);
      const std::optional<std::string> bytes =
          byte_level ? BytesOfToken(name) : std::optional<std::string>(name);
      if (!bytes) continue;
      whole_words_.Add(*bytes);
      whole_word_ids_.push_back(id);
    }
  }
}

void Bpe::ReadMerges(const JsonObject& model, const Vocabulary& vocabulary, bool byte_level) {
  const Json& merges = model.At("merges");
  if (!merges.is_array()) {
    throw Error({.what = "wrong type of value",
                 .where = model.Where("merges"),
                 .expected = "an array",
                 .found = merges.type_name()});
  }
  if (merges.size() >= static_cast<std::size_t>(Merge::kNone)) {
    throw Error({.what = "too many merges", .where = model.Where("merges")});
  }
  std::int32_t rank = 0;
  const MergePlace place = [&] { return model.Where("merges") + "/" + std::to_string(rank); };
  std::string both;
  for (const Json& merge : merges) {
    const auto [left, right] = PartsOfMerge(merge, place);
    const TokenId left_id = IdOfPart(vocabulary, left, place);
    const TokenId right_id = IdOfPart(vocabulary, right, place);
    both.assign(left).append(right);
    const TokenId merged = IdOfPart(vocabulary, both, place);
    if (!merges_.Add(left_id, right_id, {rank, merged})) {
      throw Error({.what = "merge is given twice",
                   .where = place(),
                   .found = "'" + Printable(left) + "' and '" + Printable(right) + "'"});
    }
    if (!byte_level) junctions_->Add(left, right);
    ++rank;
  }
}

void BpeEncoder::Encode(std::string_view word, std::vector<TokenId>& ids) {
  if (const std::int32_t whole = bpe_->whole_words_.Find(word); whole >= 0) {
    ids.push_back(bpe_->whole_word_ids_[static_cast<std::size_t>(whole)]);
    return;
  }
  if (bpe_->junctions_) return EncodeParts(word, ids);
  EncodePart(word, ids);
}

// Without words the whole of a text is one, which no cache knows. Where no merge ever joins two
// neighbours, what is on both sides is encoded by itself.
void BpeEncoder::EncodeParts(std::string_view word, std::vector<TokenId>& ids) {
  std::size_t begin = 0;
  std::optional<char32_t> before;  // a letter of the alphabet
  for (std::size_t at = 0; at < word.size();) {
    const CodePoint letter = CodePointAt(word, at);
    const bool known = bpe_->alphabet_.Knows(letter.value);
    if (known && before && !bpe_->junctions_->MayJoin(*before, letter.value)) {
      EncodePart(word.substr(begin, at - begin), ids);
      begin = at;
    }
    before = known ? std::optional(letter.value) : std::nullopt;
    at += letter.bytes;
  }
  EncodePart(word.substr(begin), ids);
}

void BpeEncoder::EncodePart(std::string_view word, std::vector<TokenId>& ids) {
  if (word.size() > kLongestSeen) return MergeWord(word, ids);
  if (const std::int32_t found = seen_.Find(word); found >= 0) {
    const auto number = static_cast<std::size_t>(found);
    const std::size_t begin = number == 0 ? 0 : seen_ends_[number - 1];
    for (std::size_t i = begin; i < seen_ends_[number]; ++i) ids.push_back(seen_ids_[i]);
    return;
  }
  const std::size_t first = ids.size();
  MergeWord(word, ids);
  if (seen_.size() == kMostSeen) return;
  seen_.Add(word);
  for (std::size_t i = first; i < ids.size(); ++i) seen_ids_.push_back(ids[i]);
  seen_ends_.push_back(seen_ids_.size());
}

void BpeEncoder::MergeWord(std::string_view word, std::vector<TokenId>& ids) {
  letters_.clear();
  bpe_->alphabet_.Read(word, letters_);
  symbols_.clear();
  for (const TokenId id : letters_) symbols_.push_back({.id = id});
  for (std::size_t i = 0; i + 1 < symbols_.size(); ++i) {
    symbols_[i].merge = bpe_->merges_.Find(symbols_[i].id, symbols_[i + 1].id);
  }
  if (symbols_.size() <= kLongestScanned) {
    MergeShort();
  } else {
    MergeLong();
  }
  for (const Symbol& symbol : symbols_) ids.push_back(symbol.id);
}

void BpeEncoder::MergeShort() {
  const auto rank = [](const Symbol& symbol) { return symbol.merge.rank; };
  while (!symbols_.empty()) {
    const auto best = std::ranges::min_element(symbols_, {}, rank);  // the first of equals
    if (rank(*best) == Merge::kNone) return;
    best->id = best->merge.merged;
    const auto next = symbols_.erase(best + 1);
    best->merge = next == symbols_.end() ? Merge{} : bpe_->merges_.Find(best->id, next->id);
    if (best != symbols_.begin()) {
      const auto previous = best - 1;
      previous->merge = bpe_->merges_.Find(previous->id, best->id);
    }
  }
}

// A heap of candidates over a doubly linked list: n log n, so that a megabyte of one letter is
// nothing special. A candidate is stale once its position holds another rank; ranks name pairs.
void BpeEncoder::MergeLong() {
  constexpr auto kSmallestFirst = std::greater<>{};
  const std::size_t end = symbols_.size();
  links_.resize(end);
  heap_.clear();
  for (std::size_t i = 0; i < end; ++i) {
    links_[i] = {i - 1, i + 1};  // the first one's left is never followed
    if (symbols_[i].merge.rank != Merge::kNone) heap_.emplace_back(symbols_[i].merge.rank, i);
  }
  std::ranges::make_heap(heap_, kSmallestFirst);

  const auto update = [&](std::size_t at) {
    const std::size_t right = links_[at].right;
    symbols_[at].merge =
        right == end ? Merge{} : bpe_->merges_.Find(symbols_[at].id, symbols_[right].id);
    if (symbols_[at].merge.rank == Merge::kNone) return;
    heap_.emplace_back(symbols_[at].merge.rank, at);
    std::ranges::push_heap(heap_, kSmallestFirst);
  };

  while (!heap_.empty()) {
    std::ranges::pop_heap(heap_, kSmallestFirst);
    const auto [rank, at] = heap_.back();
    heap_.pop_back();
    if (symbols_[at].merge.rank != rank) continue;
    const std::size_t gone = links_[at].right;
    symbols_[at].id = symbols_[at].merge.merged;
    symbols_[gone].merge = {};
    links_[at].right = links_[gone].right;
    if (links_[at].right != end) links_[links_[at].right].left = at;
    update(at);
    if (at != 0) update(links_[at].left);
  }

  std::size_t kept = 0;
  for (std::size_t at = 0; at < end; at = links_[at].right) symbols_[kept++] = symbols_[at];
  symbols_.resize(kept);
}

}  // namespace lieq
