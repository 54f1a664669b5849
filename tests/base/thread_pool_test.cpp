#include "lieq/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

namespace lieq {
namespace {

class Pool : public testing::TestWithParam<int> {};

TEST_P(Pool, RunsEveryTaskOnce) {
  ThreadPool pool(GetParam());
  for (const Index count : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> seen(Size(count));

    pool.ParallelFor(count, [&](Index task, int worker) {
      ASSERT_LT(worker, pool.size());
      ++seen[Size(task)];
    });

    for (const auto& times : seen) EXPECT_EQ(times, 1);
  }
}

TEST_P(Pool, RethrowsAndGoesOnWorking) {
  ThreadPool pool(GetParam());

  EXPECT_THROW(pool.ParallelFor(100,
                                [](Index task, int) {
                                  if (task == 37) throw std::runtime_error("37");
                                }),
               std::runtime_error);
  std::atomic<int> ran = 0;
  pool.ParallelFor(50, [&](Index, int) { ++ran; });

  EXPECT_EQ(ran, 50);
}

TEST_P(Pool, RethrowsTheLowestOfTwoThatThrow) {
  ThreadPool pool(GetParam());
  std::string message;

  try {  // tasks are handed out in order, so 0 runs whatever happens
    pool.ParallelFor(2, [](Index task, int) { throw std::runtime_error(std::to_string(task)); });
  } catch (const std::runtime_error& error) {
    message = error.what();
  }

  EXPECT_EQ(message, "0");
}

INSTANTIATE_TEST_SUITE_P(Threads, Pool, testing::Values(1, 2, 3, 7));

}  // namespace
}  // namespace lieq
