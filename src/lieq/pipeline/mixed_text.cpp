#include "lieq/pipeline/mixed_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "lieq/base/assert.h"
#include "lieq/base/hash.h"

namespace lieq {
namespace {

/// Adds window `index` of a text.
void AddWindow(const EncodedText& from, Index index, Index length, bool answers, EncodedText& to) {
  const auto begin = static_cast<std::ptrdiff_t>(index * length);
  to.ids.insert(to.ids.end(), from.ids.begin() + begin, from.ids.begin() + begin + length);
  if (!answers) return;
  if (from.answer.empty()) {
    to.answer.resize(to.ids.size(), 0);
  } else {
    to.answer.insert(to.answer.end(), from.answer.begin() + begin,
                     from.answer.begin() + begin + length);
  }
}

}  // namespace

EncodedText MixTexts(std::span<const EncodedText> texts, std::span<const double> weights,
                     Index length) {
  LIEQ_ASSERT(!texts.empty() && texts.size() == weights.size() && length > 0);
  EncodedText mixed{.line_ends = texts.front().line_ends};
  for (const EncodedText& text : texts) {
    const auto tokens = static_cast<Index>(text.ids.size());
    if (tokens < length) RefuseShortText(tokens, length, 2, text.where, "--context");
    mixed.names.insert(mixed.names.end(), text.names.begin(), text.names.end());
    mixed.where += (mixed.where.empty() ? "" : ", ") + text.where;
    mixed.notes.insert(mixed.notes.end(), text.notes.begin(), text.notes.end());
  }
  const bool answers =
      std::ranges::any_of(texts, [](const EncodedText& text) { return !text.answer.empty(); });
  std::vector<Index> taken(texts.size());
  while (true) {
    std::size_t next = 0;
    const auto due = [&](std::size_t i) { return static_cast<double>(taken[i] + 1) / weights[i]; };
    for (std::size_t i = 1; i < texts.size(); ++i) {
      if (due(i) < due(next)) next = i;
    }
    if ((taken[next] + 1) * length > static_cast<Index>(texts[next].ids.size())) break;
    mixed.parts.push_back({static_cast<Index>(mixed.ids.size()), next});
    AddWindow(texts[next], taken[next]++, length, answers, mixed);
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    mixed.notes.push_back(fmt::format(
        "{}: {} of {} windows of {} tokens, for its weight {:g}", texts[i].where, taken[i],
        static_cast<Index>(texts[i].ids.size()) / length, length, weights[i]));
  }
  mixed.hash = Hasher().Add(std::as_bytes(std::span(mixed.ids))).Hex();
  return mixed;
}

}  // namespace lieq
