#include "lieq/text/normal_form.h"

#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"
#include "lieq/text/normalizer.h"

namespace lieq {
namespace {

// A file of a stranger must not make a text fill the memory.
constexpr std::size_t kLongestContent = 64;  // bytes
constexpr std::size_t kMostGrowth = 16;      // times
constexpr std::size_t kFreeGrowth = 4096;    // bytes

/// What a step puts into the text.
std::string ReadContent(const JsonObject& step, const char* key) {
  std::string content = step.String(key);
  if (content.size() <= kLongestContent) return content;
  throw Error({.what = "a normalizer puts in too long a text",
               .where = step.Where(key),
               .expected = std::to_string(kLongestContent) + " bytes at most",
               .found = std::to_string(content.size())});
}

}  // namespace

std::size_t NormalText::OriginOf(std::size_t at) const noexcept {
  for (auto step = origins_.rbegin(); step != origins_.rend(); ++step) at = step->Of(at);
  return std::min(at, size_before_);
}

std::vector<JsonObject> StepsOf(const JsonObject& sequence, const char* key) {
  const Json& steps = sequence.At(key);
  if (!steps.is_array()) {
    throw Error({.what = "wrong type of value",
                 .where = sequence.Where(key),
                 .expected = "an array",
                 .found = steps.type_name()});
  }
  std::vector<JsonObject> objects;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    objects.emplace_back(steps[i], sequence.Where(key) + "/" + std::to_string(i));
  }
  return objects;
}

NormalForm::NormalForm(const JsonObject& root) {
  if (root.Has("normalizer")) Read(root.Object("normalizer"));
}

void NormalForm::Read(const JsonObject& step) {
  const std::string type = step.String("type");
  if (type == "Sequence") {
    for (const JsonObject& each : StepsOf(step, "normalizers")) Read(each);
  } else if (type == "NFC") {
    steps_.push_back({.kind = Kind::kNfc, .find = {}, .content = {}});
  } else if (type == "Prepend") {
    steps_.push_back({.kind = Kind::kPrepend, .find = {}, .content = ReadContent(step, "prepend")});
  } else if (type == "Replace") {
    ReadReplace(step);
  } else {
    throw Error({.what = "normalizer is not supported",
                 .where = step.Where("type"),
                 .expected = "NFC, Prepend, Replace, or a Sequence of them",
                 .found = Printable(type)});
  }
}

void NormalForm::ReadReplace(const JsonObject& step) {
  const JsonObject pattern = step.Object("pattern");
  const std::string find = pattern.String("String", "");
  if (find.empty()) {
    throw Error({.what = "pattern of a normalizer is not supported",
                 .where = step.Where("pattern"),
                 .expected = "a String of at least one character",
                 .found = Printable(pattern.value().dump(), 60)});
  }
  steps_.push_back({.kind = Kind::kReplace, .find = find, .content = ReadContent(step, "content")});
}

bool ReplaceAll(std::string_view text, std::string_view find, std::string_view content,
                std::string& out, Origins* origins) {
  out.clear();
  std::size_t done = 0;
  for (std::size_t at = text.find(find); at != std::string_view::npos; at = text.find(find, done)) {
    out.append(text, done, at - done).append(content);
    done = at + find.size();
    if (origins != nullptr) origins->Mark(out.size(), done);
  }
  if (done == 0) return false;
  out.append(text, done);
  return true;
}

void NormalForm::Apply(std::string_view text, NormalText& normal) const {
  normal.size_before_ = text.size();
  normal.composed_ = false;
  normal.origins_.resize(normal.wanted_ ? steps_.size() : 0);
  std::size_t number = 0, free = 0;  // the step, and the buffer that does not hold `text`
  for (const Step& step : steps_) {
    std::string& buffer = normal.buffers_[free];
    Origins* const origins = normal.wanted_ ? &normal.origins_[number] : nullptr;
    if (origins != nullptr) origins->Clear();
    bool changed = false;
    switch (step.kind) {
      case Kind::kNfc: {
        const std::string_view nfc = ToNfc(text, buffer);
        changed = nfc.data() != text.data();
        normal.composed_ |= changed;
        break;
      }
      case Kind::kPrepend:
        changed = !text.empty() && !step.content.empty();
        if (!changed) break;
        buffer.assign(step.content).append(text);
        if (origins != nullptr) {
          origins->Mark(0, 0);
          origins->Mark(step.content.size(), 0);
        }
        break;
      case Kind::kReplace:
        changed = ReplaceAll(text, step.find, step.content, buffer, origins);
        break;
    }
    if (changed) {
      if (buffer.size() > normal.size_before_ * kMostGrowth + kFreeGrowth) {
        throw Error({.what = "the normalizer makes too much of a text",
                     .where = "tokenizer.json: /normalizer",
                     .expected = std::to_string(kMostGrowth) + " times its size at most",
                     .found = std::to_string(buffer.size()) + " bytes of " +
                              std::to_string(normal.size_before_)});
      }
      text = buffer;
      free = 1 - free;
    }
    ++number;
  }
  normal.text_ = text;
}

std::string NormalForm::Apply(std::string_view text) const {
  NormalText normal;
  Apply(text, normal);
  return std::string(normal.text());
}

}  // namespace lieq
