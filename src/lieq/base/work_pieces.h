// Work in pieces: what a long computation is made of where its pieces do not depend on one another,
// so that several processes may share it (docs/parts.md).
//
// A function that can be shared asks for each of its pieces, by a key that says what it is: what is
// known it takes, what is its own it computes and keeps, and what is another's it leaves out. Where
// all were known or its own, its result is whole, and the same to the last bit whoever computed it,
// since one and the same code puts pieces together.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/types.h"

namespace lieq {

/// The pieces of a run, by key. Values are JSON.
class WorkPieces {
 public:
  virtual ~WorkPieces() = default;

  /// What a piece came to; null where that is not known.
  [[nodiscard]] virtual const std::string* Find(const std::string& key) const = 0;
  /// Whether the index-th of some pieces, all of about the same cost, is to be computed here. Where
  /// it is not, the run is not whole any more.
  [[nodiscard]] virtual bool IsMine(Index index) = 0;
  virtual void Keep(const std::string& key, std::string value) = 0;
  /// Of 0 .. count - 1 those that IsMine would name, for work that leaves no pieces.
  [[nodiscard]] virtual std::vector<Index> Share(Index count) const = 0;

  /// Whether pieces are computed here at all; where not, all are known.
  [[nodiscard]] virtual bool computes() const noexcept = 0;
  /// Whether every piece that was asked for is known or was to be computed here.
  [[nodiscard]] virtual bool whole() const noexcept = 0;

  /// Records what all pieces depend on. Throws Error where those that are known were computed with
  /// another value.
  virtual void Depend(std::string_view setting, const std::string& value) = 0;
  /// The same of what may differ where nothing is computed: gives the value that pieces were
  /// computed with.
  [[nodiscard]] virtual std::string Setting(std::string_view setting, std::string here) = 0;
  /// Adds the time that pieces took here to what others took, and gives the sum.
  [[nodiscard]] virtual double Seconds(const std::string& what, double here) = 0;
};

}  // namespace lieq
