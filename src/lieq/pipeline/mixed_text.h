// Calibration on several texts by weight.
#pragma once

#include <span>

#include "lieq/pipeline/inputs.h"

namespace lieq {

/// Windows of `length` tokens, in turn from the text that is furthest behind its share: after any
/// number of windows each text has given its weight's part of them, of two to within one. Ends
/// where the text whose turn it is has no whole window left; a note says what was left aside.
/// by_chat: chats in place of windows, of texts that are chats, whatever their length.
/// weights: above 0, one for each text. Throws Error naming a text without a whole window.
[[nodiscard]] EncodedText MixTexts(std::span<const EncodedText> texts,
                                   std::span<const double> weights, Index length,
                                   bool by_chat = false);

}  // namespace lieq
