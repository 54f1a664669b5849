// Spans that attention is tried on, whatever computes it.
#pragma once

#include <vector>

#include "lieq/device/device.h"

namespace lieq {

struct AttentionCase {
  AttentionHeads heads;
  Index key_rows;
  std::vector<AttentionSpan> spans;

  [[nodiscard]] Index rows() const { return spans.back().begin + spans.back().length; }
};

[[nodiscard]] inline std::vector<AttentionCase> AttentionCases() {
  return {
      {{2, 1, 4}, 1, {{0, 1, 0, 0, 0}}},
      {{4, 2, 8}, 14, {{0, 7, 0, 0, 0}, {7, 7, 7, 0, 0}}},
      {{3, 3, 6}, 129, {{0, 129, 0, 0, 0}}},
      {{2, 1, 16}, 600, {{0, 300, 0, 0, 0}, {300, 300, 300, 0, 0}}},
      {{4, 2, 8}, 2, {{0, 1, 1, 1, 0}}},  // behind what a cache holds
      {{6, 2, 4}, 1800, {{0, 1, 700, 700, 0}, {1, 1, 1600, 700, 900}}},
      {{4, 1, 6}, 18, {{0, 5, 0, 0, 0}, {5, 5, 9, 0, 0}}},
      {{2, 2, 10}, 782, {{0, 131, 260, 260, 0}, {131, 131, 651, 260, 391}}},
      // a trunk with branches, one of them right behind it
      {{6, 3, 8}, 20, {{0, 6, 0, 0, 0}, {6, 3, 6, 6, 0}, {9, 1, 9, 6, 0}, {10, 10, 10, 6, 0}}},
      {{2, 1, 4}, 500, {{0, 200, 0, 0, 0}, {200, 150, 200, 200, 0}, {350, 150, 350, 200, 0}}},
      {{2, 2, 4}, 9, {{0, 2, 7, 3, 1}}},  // a past that lies apart, rows that nobody reads
      // windows: of one token, within a span, over a past right before it and one apart
      {{2, 1, 4, 1}, 5, {{0, 5, 0, 0, 0}}},
      {{4, 2, 8, 3}, 14, {{0, 7, 0, 0, 0}, {7, 7, 7, 0, 0}}},
      {{2, 1, 16, 140}, 300, {{0, 300, 0, 0, 0}}},
      {{6, 2, 4, 5}, 1800, {{0, 1, 700, 700, 0}, {1, 1, 1600, 700, 900}}},
      {{2, 2, 10, 200}, 782, {{0, 131, 260, 260, 0}, {131, 131, 651, 260, 391}}},
      {{6, 3, 8, 4}, 20, {{0, 6, 0, 0, 0}, {6, 3, 6, 6, 0}, {9, 1, 9, 6, 0}, {10, 10, 10, 6, 0}}},
  };
}

}  // namespace lieq
