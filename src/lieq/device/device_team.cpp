#include "lieq/device/device_team.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <exception>
#include <thread>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"

namespace lieq {

DeviceTeam::DeviceTeam(std::vector<Member> members, Index pieces) : pieces_(pieces) {
  LIEQ_ASSERT(!members.empty() && pieces >= 1 && std::has_single_bit(Size(pieces)));
  for (const Member& member : members) {
    members_.push_back(&member.device);
    pools_.push_back(&member.pool);
    if (first().description() == member.device.description()) continue;
    throw Error({.what = "devices of several kinds cannot share a piece of work",
                 .where = "--device",
                 .expected = first().description(),
                 .found = member.device.description(),
                 .hint = "name those of one kind, or give each a part of its own (--part)"});
  }
}

void DeviceTeam::Run(Context& context,
                     const std::function<void(Index member, Context& its)>& work) const {
  if (size() == 1) return work(0, context);
  struct Outcome {
    std::exception_ptr error, stopped;
  };
  std::vector<Outcome> outcomes(members_.size());
  std::stop_source failed;
  const std::stop_callback passed_on(context.stop, [&] { failed.request_stop(); });
  const auto run = [&](Index member) {
    Progress silent;
    Context its{*pools_[Size(member)], context.log, silent, failed.get_token()};
    try {
      work(member, its);
    } catch (const Stopped&) {
      outcomes[Size(member)].stopped = std::current_exception();
      failed.request_stop();
    } catch (...) {
      outcomes[Size(member)].error = std::current_exception();
      failed.request_stop();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (Index member = 1; member < size(); ++member) threads.emplace_back(run, member);
    run(0);
  }
  for (const auto which : {&Outcome::error, &Outcome::stopped}) {
    for (const Outcome& outcome : outcomes) {
      if (outcome.*which) std::rethrow_exception(outcome.*which);
    }
  }
}

void DeviceTeam::Share(Index count, Context& context,
                       const std::function<void(Index member, const std::function<Index()>& next,
                                                Context& its)>& work) const {
  std::atomic<Index> taken = 0;
  const std::function<Index()> next = [&] { return std::min(taken.fetch_add(1), count); };
  Run(context, [&](Index member, Context& its) { work(member, next, its); });
}

}  // namespace lieq
