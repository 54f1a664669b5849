#include "lieq/base/other_parts.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "lieq/base/stopwatch.h"

namespace lieq {

bool AwaitOthers(OtherParts& others, const Context& context, double seconds,
                 const std::function<bool()>& there) {
  constexpr auto kShortest = std::chrono::milliseconds(10),
                 kLongest = std::chrono::milliseconds(500);
  const Stopwatch watch;
  for (auto pause = kShortest; !there(); pause = std::min(2 * pause, kLongest)) {
    context.ThrowIfStopped();
    if (watch.seconds() >= seconds) return false;
    if (!others.AtWork()) return there();  // what the last one showed as it ended
    std::this_thread::sleep_for(pause);
  }
  return true;
}

}  // namespace lieq
