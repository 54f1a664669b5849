#include "lieq/pipeline/held_out.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <string_view>

#include "lieq/base/error.h"

namespace lieq {
namespace {

std::string_view BytesOf(std::span<const TokenId> window) {
  return {reinterpret_cast<const char*>(window.data()), window.size_bytes()};
}

/// `count` shared out by size: whole parts first, then the largest remainders; one each where
/// `count` allows.
std::vector<Index> Shares(Index count, const std::vector<Index>& sizes) {
  const auto all = static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), Index{0}));
  const bool one_each = count >= static_cast<Index>(sizes.size());
  std::vector<Index> shares(sizes.size(), one_each ? 1 : 0);
  Index left = count - std::accumulate(shares.begin(), shares.end(), Index{0});
  for (; left > 0; --left) {  // to the text that is furthest behind
    std::size_t next = 0;
    double most = -1e300;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const double behind = static_cast<double>(count) * static_cast<double>(sizes[i]) / all -
                            static_cast<double>(shares[i]);
      if (behind > most) most = behind, next = i;
    }
    ++shares[next];
  }
  return shares;
}

}  // namespace

std::vector<Index> WindowsHeldOut(std::span<const std::size_t> text_of) {
  const auto count = static_cast<Index>(text_of.size());
  if (count == 0) return {};
  std::vector<std::vector<Index>> texts;
  for (std::size_t w = 0; w < text_of.size(); ++w) {
    if (text_of[w] >= texts.size()) texts.resize(text_of[w] + 1);
    texts[text_of[w]].push_back(static_cast<Index>(w));
  }
  // One window of a text alone is trained on.
  std::erase_if(texts, [](const auto& windows) { return windows.size() < 2; });
  Index wanted = std::clamp<Index>(count / 8, 1, kMostHeldOut);
  const auto parts = static_cast<Index>(texts.size());
  if (parts <= std::min(kMostHeldOut, count / 4)) wanted = std::max(wanted, parts);
  if (parts == 0 || parts > wanted) {  // more texts than can be judged: as one
    texts.assign(1, std::vector<Index>(text_of.size()));
    std::iota(texts.front().begin(), texts.front().end(), Index{0});
  }
  std::vector<Index> sizes;
  for (const auto& windows : texts) sizes.push_back(static_cast<Index>(windows.size()));
  const std::vector<Index> shares = Shares(wanted, sizes);
  std::vector<Index> held_out;
  for (std::size_t t = 0; t < texts.size(); ++t) {
    for (Index i = 0; i < shares[t]; ++i) {
      held_out.push_back(texts[t][Size((2 * i + 1) * sizes[t] / (2 * shares[t]))]);
    }
  }
  std::ranges::sort(held_out);
  return held_out;
}

std::vector<std::size_t> TextOfWindows(const EncodedText& text, const Windows& windows) {
  std::vector<std::size_t> of(Size(windows.count), 0);
  std::size_t part = 0;
  for (Index w = 0; w < windows.count; ++w) {
    const Index middle = w * windows.length + windows.length / 2;
    while (part + 1 < text.parts.size() && text.parts[part + 1].begin <= middle) ++part;
    if (!text.parts.empty()) of[Size(w)] = text.parts[part].text;
  }
  return of;
}

TuneWindows SplitWindows(const EncodedText& text, const Windows& windows) {
  TuneWindows split{.held_out_at = WindowsHeldOut(TextOfWindows(text, windows))};
  const View<const TokenId, 2> all = windows.view();
  std::set<std::string_view> judged;
  for (const Index w : split.held_out_at) judged.insert(BytesOf(all.Row(w)));
  std::vector<Index> training;
  for (Index w = 0; w < windows.count; ++w) {
    if (std::ranges::binary_search(split.held_out_at, w)) continue;
    if (judged.contains(BytesOf(all.Row(w)))) {
      ++split.repeated;
    } else {
      training.push_back(w);
    }
  }
  if (training.empty()) {
    throw Error({.what = "too little text: one window is held out, and one is needed to train on",
                 .where = text.where,
                 .expected = fmt::format("{} tokens, of windows that differ", 2 * windows.length),
                 .found = fmt::format("{}", windows.tokens_in_text),
                 .hint = "more --calibration, or a smaller --context"});
  }
  const auto gather = [&](const std::vector<Index>& numbers) {
    Matrix<TokenId> to(static_cast<Index>(numbers.size()), windows.length);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      std::ranges::copy(all.Row(numbers[i]), to.view().Row(static_cast<Index>(i)).begin());
    }
    return to;
  };
  split.training = gather(training);
  split.held_out = gather(split.held_out_at);
  return split;
}

}  // namespace lieq
