// Sums over the windows of a calibration in pieces, which several devices may share.
//
// Windows are cut into pieces by their number alone. Sums of pieces are added as in a tournament:
// those of 0 and 1, of 2 and 3, then the two, so that the order of adds is the same whichever
// device had which pieces, and each keeps no more than one sum for each round.
#pragma once

#include <bit>
#include <optional>
#include <utility>
#include <vector>

#include "lieq/base/assert.h"
#include "lieq/base/types.h"

namespace lieq {

struct WindowPiece {
  Index number = 0;
  Index begin = 0, end = 0;  // its windows; there may be none

  [[nodiscard]] Index windows() const noexcept { return end - begin; }
};

/// Of `windows` windows in `pieces` pieces those of a member of a team of `members`, in order: all
/// of about the same size, neighbours together. Where there are windows, piece 0 has some and is
/// the first member's.
[[nodiscard]] inline std::vector<WindowPiece> PiecesOf(Index windows, Index pieces, Index member,
                                                       Index members) {
  std::vector<WindowPiece> own;
  const Index last = CeilDiv((member + 1) * pieces, members);
  for (Index number = CeilDiv(member * pieces, members); number < last; ++number) {
    own.push_back(
        {number, CeilDiv(number * windows, pieces), CeilDiv((number + 1) * windows, pieces)});
  }
  return own;
}

/// Sums that a member has at once, at most: one for each round of those of its pieces.
[[nodiscard]] constexpr Index SumsAtOnce(Index pieces, Index members) noexcept {
  return static_cast<Index>(std::bit_width(Size(CeilDiv(pieces, members))));
}

/// T has Add(const T&): sums of its own, on the device where they are.
template <class T>
class PieceSums {
 public:
  /// Of the piece behind all so far; none: it has no windows.
  void Add(Index piece, std::optional<T> sums) { Push({piece, 1, std::move(sums)}); }
  /// Those of pieces behind all so far.
  void Add(PieceSums others) {
    for (Node& node : others.nodes_) Push(std::move(node));
  }
  /// Of all pieces, which are all there, a power of two of them; none: none had windows.
  [[nodiscard]] std::optional<T> Take() && {
    LIEQ_ASSERT(nodes_.size() == 1 && nodes_.front().begin == 0);
    return std::move(nodes_.front().sums);
  }

 private:
  struct Node {  // of pieces begin .. begin + count - 1
    Index begin, count;
    std::optional<T> sums;
  };
  void Push(Node node) {
    nodes_.push_back(std::move(node));
    while (nodes_.size() > 1) {
      Node &left = nodes_[nodes_.size() - 2], &right = nodes_.back();
      LIEQ_ASSERT(left.begin + left.count == right.begin);
      if (left.count != right.count || left.begin % (2 * left.count) != 0) return;
      if (left.sums && right.sums) {
        left.sums->Add(*right.sums);
      } else if (right.sums) {
        left.sums = std::move(right.sums);
      }
      left.count *= 2;
      nodes_.pop_back();
    }
  }
  std::vector<Node> nodes_;
};

}  // namespace lieq
