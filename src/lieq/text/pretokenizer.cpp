#include "lieq/text/pretokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"
#include "lieq/text/normal_form.h"
#include "lieq/text/reference_unicode.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

// github.com/openai/gpt-2, src/encoder.py: what ByteLevel splits by if it is not told otherwise.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Digits asks Rust's standard library, whose Unicode 17 has 13 numbers more than Oniguruma's 16.
constexpr std::string_view kDigit = "[\\p{N}\U00011DE0-\U00011DE9\U00016FF4-\U00016FF6]";

[[noreturn]] void Refuse(std::string what, const JsonObject& step, std::string_view key,
                         std::string expected, std::string_view found) {
  throw Error({.what = std::move(what),
               .where = step.Where(key),
               .expected = std::move(expected),
               .found = Printable(found)});
}

}  // namespace

PreTokenizer::PreTokenizer(const JsonObject& root) {
  if (root.Has("pre_tokenizer")) Read(root.Object("pre_tokenizer"));
}

void PreTokenizer::AddPattern(std::string_view pattern, const std::string& where) {
  cuts_.push_back({.pattern = Pattern(pattern, where), .text = {}});
}

void PreTokenizer::Read(const JsonObject& step) {
  const std::string type = step.String("type");
  if (last_ != Last::kNone) {
    Refuse("pre-tokenizer step behind ByteLevel or Metaspace is not supported", step, "type",
           "those as the last one", type);
  }
  if (type == "Sequence") {
    for (const JsonObject& each : StepsOf(step, "pretokenizers")) Read(each);
  } else if (type == "Split") {
    ReadSplit(step);
  } else if (type == "Digits") {
    const bool each = step.Boolean("individual_digits", false);
    AddPattern(std::string(kDigit) + (each ? "" : "+"), step.Where("type"));
  } else if (type == "ByteLevel") {
    ReadByteLevel(step);
  } else if (type == "Metaspace") {
    ReadMetaspace(step);
  } else {
    Refuse("pre-tokenizer is not supported", step, "type",
           "Sequence, Split, Digits, ByteLevel or Metaspace", type);
  }
}

void PreTokenizer::ReadSplit(const JsonObject& step) {
  struct Row {
    std::string_view name;
    Behavior behavior;
  };
  constexpr std::array kRows{
      Row{"Isolated", Behavior::kIsolated}, Row{"MergedWithPrevious", Behavior::kWithPrevious},
      Row{"MergedWithNext", Behavior::kWithNext}, Row{"Contiguous", Behavior::kContiguous}};
  const std::string behavior = step.String("behavior");
  const auto* row = std::ranges::find(kRows, behavior, &Row::name);
  if (row == kRows.end()) {
    Refuse("split behavior is not supported", step, "behavior",
           "Isolated, MergedWithPrevious, MergedWithNext or Contiguous", behavior);
  }
  const JsonObject pattern = step.Object("pattern");
  Cut cut{.pattern = {}, .text = pattern.String("String", ""), .behavior = row->behavior};
  cut.invert = step.Boolean("invert", false);
  if (pattern.Has("Regex")) {
    cut.pattern.emplace(pattern.String("Regex"), pattern.Where("Regex"));
  } else if (cut.text.empty()) {
    Refuse("split pattern is not supported", step, "pattern", "a Regex, or a String",
           pattern.value().dump());
  }
  cuts_.push_back(std::move(cut));
}

void PreTokenizer::ReadByteLevel(const JsonObject& step) {
  if (step.Boolean("add_prefix_space", true)) {
    Refuse("pre-tokenizer option is not supported", step, "add_prefix_space", "false", "true");
  }
  if (step.Boolean("use_regex", true)) AddPattern(kGpt2Pattern, step.Where("use_regex"));
  last_ = Last::kByteLevel;
}

MetaspaceOptions::MetaspaceOptions(const JsonObject& step)
    : mark(step.String("replacement")), scheme(step.String("prepend_scheme", "always")) {
  if (mark.empty() || CodePointAt(mark, 0).bytes != mark.size()) {
    Refuse("Metaspace does not write a space as a character", step, "replacement", "one character",
           mark);
  }
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    Refuse("option of Metaspace is not supported", step, "prepend_scheme", "always, first or never",
           scheme);
  }
  if (!step.Boolean("add_prefix_space", true)) {  // of older files; the reference wants no other
    if (step.Has("prepend_scheme") && scheme != "never") {
      Refuse("options of Metaspace are against each other", step, "prepend_scheme",
             "never, as add_prefix_space is false", scheme);
    }
    scheme = "never";
  }
}

void PreTokenizer::ReadMetaspace(const JsonObject& step) {
  const MetaspaceOptions options(step);
  metaspace_ = {.mark = options.mark,
                .prepend = options.scheme != "never",
                .first_alone = options.scheme == "first",
                .split = step.Boolean("split", true)};
  last_ = Last::kMetaspace;
}

Splitter::Splitter(const PreTokenizer& pre_tokenizer) : pre_tokenizer_(&pre_tokenizer) {
  for (const PreTokenizer::Cut& cut : pre_tokenizer.cuts_) {
    auto& matcher = matchers_.emplace_back();
    if (cut.pattern) matcher.emplace(*cut.pattern);
  }
}

void Splitter::Split(std::string_view text, bool first, const Sink& sink) {
  text_ = text;
  first_ = first;
  before_ = {};
  SplitFrom(0, WithStandIns(text, stand_ins_), text, sink);
}

std::size_t Splitter::OriginOf(const char* in_word) const noexcept {
  if (before_.data() == nullptr) return static_cast<std::size_t>(in_word - text_.data());
  const std::size_t prefix = prefixed_.empty() ? 0 : pre_tokenizer_->metaspace_.mark.size();
  const char* const begin = prefix > 0 ? prefixed_.data() : marked_.data();
  const auto at = static_cast<std::size_t>(in_word - begin);
  return static_cast<std::size_t>(before_.data() - text_.data()) +
         std::min(origins_.Of(at < prefix ? 0 : at - prefix), before_.size());
}

std::optional<MatchRange> Splitter::Find(std::size_t step, std::string_view shadow,
                                         std::string_view text, std::size_t from) {
  if (matchers_[step]) return matchers_[step]->Find(shadow, from);
  const std::string& looked_for = pre_tokenizer_->cuts_[step].text;
  const std::size_t begin = text.find(looked_for, from);
  if (begin == std::string_view::npos) return std::nullopt;
  return MatchRange{.begin = begin, .end = begin + looked_for.size()};
}

/// shadow  `text` with stand-ins: what the patterns see, byte for byte at the same offsets
void Splitter::SplitFrom(std::size_t step, std::string_view shadow, std::string_view text,
                         const Sink& sink) {
  using Behavior = PreTokenizer::Behavior;
  if (text.empty()) return;
  if (step == matchers_.size()) {
    if (pre_tokenizer_->last_ == PreTokenizer::Last::kMetaspace) return SplitMetaspace(text, sink);
    return sink(text);
  }
  const PreTokenizer::Cut& cut = pre_tokenizer_->cuts_[step];
  const auto pass_on = [&](std::size_t begin, std::size_t end) {
    SplitFrom(step + 1, shadow.substr(begin, end - begin), text.substr(begin, end - begin), sink);
  };
  // A piece waits until it is known whether the next one joins it.
  std::optional<Piece> waiting;
  const auto joins = [&](const Piece& piece) {
    switch (cut.behavior) {
      case Behavior::kIsolated:
        return false;
      case Behavior::kWithPrevious:
        return piece.match && !waiting->match;
      case Behavior::kWithNext:
        return waiting->match && !piece.match;
      case Behavior::kContiguous:
        return piece.match == waiting->match;
    }
    return false;
  };
  const auto add = [&](Piece piece) {
    if (piece.begin == piece.end) return;
    piece.match ^= cut.invert;
    if (waiting && joins(piece)) {
      waiting->end = piece.end;
      waiting->match = piece.match;
      return;
    }
    if (waiting) pass_on(waiting->begin, waiting->end);
    waiting = piece;
  };
  std::size_t done = 0;
  while (done < text.size()) {
    const std::optional<MatchRange> match = Find(step, shadow, text, done);
    if (!match) break;
    add({done, match->begin, false});
    add({match->begin, match->end, true});
    done = match->end;
  }
  add({done, text.size(), false});
  if (waiting) pass_on(waiting->begin, waiting->end);
}

void Splitter::SplitMetaspace(std::string_view text, const Sink& sink) {
  const PreTokenizer::Metaspace& options = pre_tokenizer_->metaspace_;
  before_ = text;
  origins_.Clear();
  if (!ReplaceAll(text, " ", options.mark, marked_, &origins_)) marked_ = text;
  const bool prepend = options.prepend && !marked_.starts_with(options.mark) &&
                       (!options.first_alone || (first_ && text.data() == text_.data()));
  prefixed_.clear();
  if (prepend) prefixed_.assign(options.mark).append(marked_);
  const std::string_view whole = prepend ? prefixed_ : marked_;
  std::size_t begin = 0;
  while (options.split) {
    const std::size_t next = whole.find(options.mark, begin + 1);
    if (next == std::string_view::npos) break;
    sink(whole.substr(begin, next - begin));
    begin = next;
  }
  sink(whole.substr(begin));
}

}  // namespace lieq
