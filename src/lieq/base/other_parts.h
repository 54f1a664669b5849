// The other parts of a run that several processes share (docs/parts.md), as far as one of them can
// see: what every part needs, one computes and the others read.
//
// What belongs to a part and to no other is in base/work_pieces.h, which is all that functions
// below pipeline/ know of.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "lieq/base/context.h"
#include "lieq/base/types.h"

namespace lieq {

class OtherParts {
 public:
  virtual ~OtherParts() = default;

  /// How many share the run, this one counted.
  [[nodiscard]] virtual Index parts() const noexcept = 0;
  /// Writes the pieces that are kept to where the others can read them, and so that this part is at
  /// work.
  virtual void Show() = 0;
  /// Takes over what the others have shown of these pieces, where they can be reached. Whether all
  /// of them are known now.
  [[nodiscard]] virtual bool TakeOver(std::span<const std::string> keys) = 0;
  /// Whether another part has shown that it is at work, and not that it is finished. One that was
  /// killed does neither any more.
  [[nodiscard]] virtual bool AtWork() = 0;
};

/// Waits until `there`, which is called again and again, is true: while others are at work, for
/// `seconds` at most. To be asked for as long as it takes to do here what is waited for: then a
/// part that comes to nothing costs no more than twice that. Returns what `there` said last. Throws
/// Stopped.
bool AwaitOthers(OtherParts& others, const Context& context, double seconds,
                 const std::function<bool()>& there);

}  // namespace lieq
