// Which windows of a text are held out of training: some of each of the texts that it was made of.
#pragma once

#include <span>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/tensor/view.h"
#include "lieq/text/windows.h"

namespace lieq {

inline constexpr Index kMostHeldOut = 8;

/// Numbers of windows, rising: an eighth of all, kMostHeldOut at most and one at least. Each text
/// gives its share of them, and one at least where there are enough for that; inside a text they
/// stand in the middles of equal stretches. text_of [windows]: which text each is of.
[[nodiscard]] std::vector<Index> WindowsHeldOut(std::span<const std::size_t> text_of);

/// Which of `text.names` each window is of, by its middle.
[[nodiscard]] std::vector<std::size_t> TextOfWindows(const EncodedText& text,
                                                     const Windows& windows);

/// Windows to train on and to judge by, which share no token of the text.
struct TuneWindows {
  std::vector<Index> held_out_at;  // among all windows
  Matrix<TokenId> training, held_out;
  Index repeated = 0;  // left aside: the same tokens as one that is held out
};

/// Throws Error, naming the text, where there is none to train on.
[[nodiscard]] TuneWindows SplitWindows(const EncodedText& text, const Windows& windows);

}  // namespace lieq
