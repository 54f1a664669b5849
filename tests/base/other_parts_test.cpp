#include "lieq/base/other_parts.h"

#include <gtest/gtest.h>

#include <functional>
#include <span>
#include <stop_token>
#include <string>

#include "lieq/base/stopwatch.h"

namespace lieq {
namespace {

/// One that is at work until it was asked so often.
class OneOther : public OtherParts {
 public:
  explicit OneOther(int asks) : asks_(asks) {}
  Index parts() const noexcept override { return 2; }
  void Show() override {}
  bool TakeOver(std::span<const std::string>) override { return false; }
  bool AtWork() override { return asks_-- > 0; }

 private:
  int asks_;
};

class AwaitOthersTest : public testing::Test {
 protected:
  bool Await(int asks, double seconds, const std::function<bool()>& there) {
    OneOther other(asks);
    return AwaitOthers(other, {pool, log, progress, stop.get_token()}, seconds, there);
  }
  ThreadPool pool{1};
  Log log;
  Progress progress;
  std::stop_source stop;
};

TEST_F(AwaitOthersTest, GoesOnAsSoonAsItIsThere) {
  int asked = 0;

  EXPECT_TRUE(Await(100, 1e9, [&] { return ++asked == 3; }));
  EXPECT_EQ(asked, 3);
}

TEST_F(AwaitOthersTest, NobodyAtWorkIsNotWaitedFor) {
  EXPECT_FALSE(Await(0, 1e9, [] { return false; }));
  int asked = 0;
  EXPECT_TRUE(Await(0, 1e9, [&] { return ++asked == 2; })) << "what the last one showed";
}

TEST_F(AwaitOthersTest, EndsAfterAWhile) {
  const Stopwatch watch;

  EXPECT_FALSE(Await(1 << 30, 0.05, [] { return false; }));
  EXPECT_GE(watch.seconds(), 0.05);
}

TEST_F(AwaitOthersTest, CanBeStopped) {
  stop.request_stop();

  EXPECT_THROW(Await(1 << 30, 1e9, [] { return false; }), Stopped);
}

}  // namespace
}  // namespace lieq
