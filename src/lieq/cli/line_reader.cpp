#include "lieq/cli/line_reader.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <system_error>
#include <utility>

#include "lieq/base/error.h"

namespace lieq {

std::optional<std::string> LineReader::Next(const std::stop_token& stop) {
  constexpr int kGlance = 100;  // milliseconds between looks at the stop request
  while (true) {
    const std::size_t end = pending_.find('\n');
    if (end != std::string::npos) {
      std::string line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      if (line.ends_with('\r')) line.pop_back();
      return line;
    }
    if (ended_) {
      if (pending_.empty()) return std::nullopt;
      return std::exchange(pending_, {});
    }
    if (stop.stop_requested()) throw Stopped();
    pollfd waits{.fd = file_, .events = POLLIN, .revents = 0};
    if (::poll(&waits, 1, kGlance) <= 0) continue;
    std::array<char, 4096> block{};
    const ssize_t count = ::read(file_, block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      throw Error({.what = "cannot be read",
                   .where = "standard input",
                   .found = std::system_category().message(errno)});
    }
    if (count == 0) ended_ = true;
    pending_.append(block.data(), static_cast<std::size_t>(count));
  }
}

bool LineReader::interactive() const noexcept {
  return ::isatty(file_) == 1;
}

}  // namespace lieq
