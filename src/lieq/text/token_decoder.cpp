#include "lieq/text/token_decoder.h"

#include <charconv>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"
#include "lieq/text/byte_level.h"
#include "lieq/text/normal_form.h"
#include "lieq/text/pretokenizer.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

constexpr std::string_view kReplacementText = "\uFFFD";

/// The byte that "<0x0A>" names. As the reference reads it: digits of either case, or a sign and
/// one digit.
std::optional<char> NamedByte(std::string_view name) {
  if (name.size() != 6 || !name.starts_with("<0x") || name.back() != '>') return std::nullopt;
  std::string_view digits = name.substr(3, 2);
  if (digits.front() == '+') digits.remove_prefix(1);
  unsigned value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return static_cast<char>(static_cast<unsigned char>(value));
}

}  // namespace

TokenDecoder::TokenDecoder(const JsonObject& root) {
  const JsonObject decoder = root.Object("decoder");
  if (decoder.String("type") == "ByteLevel") {
    byte_level_ = true;
  } else {
    Read(decoder);
  }
}

void TokenDecoder::Refuse(const JsonObject& step) {
  throw Error({.what = "decoder is not supported",
               .where = step.Where("type"),
               .expected = "ByteLevel; or Metaspace or Replace, ByteFallback, Fuse and Strip, in "
                           "this order, some of them, in a Sequence",
               .found = Printable(step.String("type"))});
}

void TokenDecoder::Enter(Stage stage, const JsonObject& step) {
  if (stage_ > stage) Refuse(step);
  stage_ = stage;
}

void TokenDecoder::Read(const JsonObject& step) {
  const std::string type = step.String("type");
  if (type == "Sequence") {
    for (const JsonObject& each : StepsOf(step, "decoders")) Read(each);
  } else if (type == "Replace") {
    Enter(Stage::kTokens, step);
    const std::string find = step.Object("pattern").String("String", "");
    if (find.empty()) {
      throw Error({.what = "pattern of a decoder is not supported",
                   .where = step.Where("pattern"),
                   .expected = "a String of at least one character",
                   .found = Printable(step.Object("pattern").value().dump(), 60)});
    }
    replaced_.emplace_back(find, step.String("content"));
  } else if (type == "Metaspace") {
    if (!replaced_.empty()) Refuse(step);
    Enter(Stage::kTokens, step);
    const MetaspaceOptions options(step);
    if (options.scheme != "never") dropped_first_ = options.mark;
    replaced_.emplace_back(options.mark, " ");
  } else if (type == "ByteFallback") {
    Enter(Stage::kBytes, step);
    byte_fallback_ = true;
  } else if (type == "Fuse") {
    Enter(Stage::kText, step);
    fused_ = true;
  } else if (type == "Strip") {
    ReadStrip(step);
  } else {
    Refuse(step);
  }
}

/// Behind Fuse it strips the text; else it would strip each token.
void TokenDecoder::ReadStrip(const JsonObject& step) {
  Enter(Stage::kText, step);
  if (!fused_ || !stripped_.empty()) Refuse(step);
  const std::int64_t start = step.Integer("start"), stop = step.Integer("stop");
  const std::string content = step.String("content");
  const bool character = !content.empty() && CodePointAt(content, 0).bytes == content.size();
  if (start < 0 || stop != 0 || !character) {
    throw Error({.what = "option of the decoder Strip is not supported",
                 .where = step.Where(!character  ? "content"
                                     : start < 0 ? "start"
                                                 : "stop"),
                 .expected = "one character, taken away at the start and not at the end",
                 .found = "'" + Printable(content, 60) + "', start " + std::to_string(start) +
                          ", stop " + std::to_string(stop)});
  }
  stripped_ = content;
  most_stripped_ = static_cast<std::size_t>(start);
}

TokenText TokenDecoder::TextOf(std::string_view name) const {
  if (byte_level_) return {BytesOfToken(name).value_or(std::string(name)), false};
  std::string text(name), changed;
  for (const auto& [find, content] : replaced_) {
    if (ReplaceAll(text, find, content, changed, nullptr)) text.swap(changed);
  }
  if (byte_fallback_) {
    if (const std::optional<char> byte = NamedByte(text)) return {std::string(1, *byte), true};
  }
  return {std::move(text), false};
}

TokenText TokenDecoder::TextOfFirst(std::string_view name) const {
  std::string rest;
  const bool drops = ReplaceAll(name, dropped_first_, "", rest, nullptr);
  return TextOf(drops ? std::string_view(rest) : name);
}

TextAssembler::TextAssembler(const TokenDecoder& decoder, Broken broken, bool begins)
    : decoder_(&decoder),
      broken_(broken),
      first_(begins && decoder.first_differs()),
      left_to_strip_(begins ? decoder.most_stripped() : 0) {}

void TextAssembler::Add(std::string_view name, const TokenText& token, std::string& out) {
  if (std::exchange(first_, false)) return Add(name, decoder_->TextOfFirst(name), out);
  if (decoder_->byte_level() || token.single_byte) {
    run_ = token.single_byte;
    pending_ += token.bytes;
    if (run_ && broken_ == Broken::kWholeRun) return;
    const std::size_t whole = WholeCharacters(pending_);
    const std::string known = pending_.substr(0, whole);
    pending_.erase(0, whole);
    AddText(known, out);
    return;
  }
  EndRun(out);
  AddText(token.bytes, out);
}

void TextAssembler::Finish(std::string& out) {
  if (run_) return EndRun(out);
  AddText(pending_, out);
  pending_.clear();
}

void TextAssembler::EndRun(std::string& out) {
  std::string repaired;
  if (ToValidUtf8(pending_, repaired) == std::string_view(pending_)) {
    AddText(pending_, out);
  } else {
    for (std::size_t i = 0; i < pending_.size(); ++i) AddText(kReplacementText, out);
  }
  pending_.clear();
  run_ = false;
}

void TextAssembler::AddText(std::string_view text, std::string& out) {
  std::string repaired;
  text = ToValidUtf8(text, repaired);
  while (left_to_strip_ > 0 && !text.empty()) {
    if (!text.starts_with(decoder_->stripped())) {
      left_to_strip_ = 0;
      break;
    }
    text.remove_prefix(decoder_->stripped().size());
    --left_to_strip_;
  }
  out += text;
}

}  // namespace lieq
