// Devices of one kind that share a piece of work in one process.
//
// Results do not depend on how many they are: what is computed apart is cut by shapes alone, and
// what is added up is added in the order of its pieces, whichever device computed them.
#pragma once

#include <functional>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/device/device.h"

namespace lieq {

class DeviceTeam {
 public:
  /// A device, and the host's threads that stand beside it while all are at work. Both outlive the
  /// team.
  struct Member {
    Device& device;
    ThreadPool& pool;
  };

  /// One device, which adds up sums as they come.
  DeviceTeam(Device& only)  // NOLINT(google-explicit-constructor): one is a team too
      : members_{&only}, pools_{nullptr} {}
  /// pieces: a power of two, that sums over windows are added up in; the same for any number of
  /// members. Throws Error where the members are not of one description: results would depend on
  /// which of them computed what.
  DeviceTeam(std::vector<Member> members, Index pieces);

  [[nodiscard]] Index size() const noexcept { return static_cast<Index>(members_.size()); }
  [[nodiscard]] Device& operator[](Index member) const { return *members_[Size(member)]; }
  /// What does work that is not shared.
  [[nodiscard]] Device& first() const { return *members_.front(); }
  [[nodiscard]] Index pieces() const noexcept { return pieces_; }
  /// The first one alone, which adds up sums as they come.
  [[nodiscard]] DeviceTeam Alone() const { return {first()}; }

  /// Calls work(member, context) for each member, each on a thread of its own, and returns when all
  /// are done. The context that it is handed has the member's threads, no progress and no pieces;
  /// that of a team of one is the caller's. Where one throws, the others are told to stop, and the
  /// exception of the lowest member that failed by itself is rethrown.
  void Run(Context& context, const std::function<void(Index member, Context& its)>& work) const;
  /// The same for numbered tasks, which are taken in rising order by whoever is free. What a member
  /// needs for all of its tasks it makes in `work`, and then calls next() until that is `count`.
  void Share(Index count, Context& context,
             const std::function<void(Index member, const std::function<Index()>& next,
                                      Context& its)>& work) const;

 private:
  std::vector<Device*> members_;
  std::vector<ThreadPool*> pools_;
  Index pieces_ = 1;
};

}  // namespace lieq
