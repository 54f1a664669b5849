#include "lieq/device/device_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>

#include "lieq/base/error.h"
#include "lieq/device/cpu/cpu_device.h"
#include "tests/support/error_of.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

class Team : public testing::Test {
 protected:
  DeviceTeam Of(Index size) {
    std::vector<DeviceTeam::Member> members;
    for (Index i = 0; i < size; ++i) {
      pools.push_back(std::make_unique<ThreadPool>(1));
      devices.push_back(MakeCpuDevice(*pools.back()));
      members.push_back({*devices.back(), *pools.back()});
    }
    return {std::move(members), 4};
  }
  std::vector<std::unique_ptr<ThreadPool>> pools;
  std::vector<std::unique_ptr<Device>> devices;
  TestContext test;
};

TEST_F(Team, OfOneWorksInTheCallersContext) {
  const DeviceTeam team(*devices.emplace_back(MakeCpuDevice(test.pool)));

  team.Run(test.context, [&](Index member, Context& its) {
    EXPECT_EQ(member, 0);
    EXPECT_EQ(&its, &test.context);
  });

  EXPECT_EQ(team.size(), 1);
  EXPECT_EQ(team.pieces(), 1);
}

TEST_F(Team, GivesEachMemberAThreadAndItsOwnPool) {
  const DeviceTeam team = Of(3);
  std::vector<std::thread::id> threads(3);
  std::vector<ThreadPool*> seen(3);
  std::atomic<int> here = 0;

  team.Run(test.context, [&](Index member, Context& its) {
    threads[Size(member)] = std::this_thread::get_id();
    seen[Size(member)] = &its.pool;
    for (++here; here < 3;) std::this_thread::yield();  // all at the same time
  });

  EXPECT_EQ(std::set(threads.begin(), threads.end()).size(), 3U);
  EXPECT_EQ(threads[0], std::this_thread::get_id());
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(seen[i], pools[i].get()) << i;
}

TEST_F(Team, SharesEveryTaskOnce) {
  const DeviceTeam team = Of(3);
  std::vector<std::atomic<int>> runs(100);

  team.Share(100, test.context, [&](Index, const std::function<Index()>& next, Context&) {
    for (Index i = next(); i < 100; i = next()) ++runs[Size(i)];
  });

  for (std::size_t i = 0; i < runs.size(); ++i) EXPECT_EQ(runs[i], 1) << i;
}

TEST_F(Team, StopsTheOthersWhereOneFailsAndSaysWhatFailed) {
  const DeviceTeam team = Of(3);

  const Problem problem = ProblemOf([&] {
    team.Run(test.context, [&](Index member, Context& its) {
      if (member == 1) throw Error({.what = "the second failed", .where = "there"});
      while (true) its.ThrowIfStopped();
    });
    return 0;
  });

  EXPECT_EQ(problem.what, "the second failed");
}

TEST_F(Team, StopsWithItsCaller) {
  const DeviceTeam team = Of(2);
  std::stop_source source;
  Context stopping{test.pool, test.log, test.progress, source.get_token()};
  std::atomic<int> here = 0;

  EXPECT_THROW(team.Run(stopping,
                        [&](Index, Context& its) {
                          if (++here == 2) source.request_stop();
                          while (true) its.ThrowIfStopped();
                        }),
               Stopped);
}

TEST_F(Team, RefusesDevicesOfSeveralKinds) {
  ThreadPool pool(1);
  const auto best = MakeCpuDevice(pool), scalar = MakeCpuDevice(pool, {.kernels = "scalar"});
  if (best->description() == scalar->description()) GTEST_SKIP() << "there is one kind";

  const Problem problem =
      ProblemOf([&] { return DeviceTeam({{*best, pool}, {*scalar, pool}}, 1).size(); });

  EXPECT_EQ(problem.where, "--device");
  EXPECT_EQ(problem.expected, best->description());
  EXPECT_EQ(problem.found, scalar->description());
}

}  // namespace
}  // namespace lieq
