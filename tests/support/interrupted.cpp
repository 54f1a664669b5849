// The program, which sends itself a signal at a step of its work: tests of what happens when it is
// stopped or killed wait for no clock.
//
// usage: lieq_interrupted SIGNAL MOMENT COMMAND...
//   SIGNAL   TERM, KILL or STOP
//   MOMENT   STAGE:DONE    as a stage has that many steps done; 0: as it begins
//            STAGE:DONE:N  the Nth time that this is so
//            file:N        before the Nth call that makes files last: fsync or rename
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <latch>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>

#include "lieq/base/error.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/signal_stop.h"
#include "lieq/cli/terminal.h"

namespace {

struct Moment {
  std::string_view stage;
  std::int64_t done = 0;
  int time = 1;
};

int SignalOf(std::string_view name) {
  if (name == "TERM") return SIGTERM;
  if (name == "KILL") return SIGKILL;
  if (name == "STOP") return SIGSTOP;
  throw std::runtime_error("SIGNAL: TERM, KILL or STOP");
}

template <class T>
T Number(std::string_view text) {
  T number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) {
    throw std::runtime_error("MOMENT: STAGE:DONE or STAGE:DONE:N");
  }
  return number;
}

Moment MomentOf(std::string_view text) {
  const std::size_t stage = text.find(':');
  if (stage == text.npos) throw std::runtime_error("MOMENT: STAGE:DONE or STAGE:DONE:N");
  Moment moment{.stage = text.substr(0, stage)};
  const std::string_view rest = text.substr(stage + 1);
  const std::size_t done = rest.find(':');
  moment.done = Number<std::int64_t>(rest.substr(0, done));
  if (done != rest.npos) moment.time = Number<int>(rest.substr(done + 1));
  return moment;
}

// What the calls below know of: they are the C library's, and have no other way to.
int g_signal = 0;
std::atomic<std::int64_t> g_calls_left{0};  // until the one to be interrupted; 0 or less: none

void CountCall() {
  if (g_calls_left-- == 1) ::raise(g_signal);
}

/// Shows nothing, and sends the signal at its moment.
class Interrupter final : public lieq::Progress {
 public:
  Interrupter(const Moment& moment, std::stop_token stop)
      : moment_(moment), times_left_(moment.time), stop_(std::move(stop)) {}

  void Begin(std::string_view stage, std::string_view /*unit*/, std::int64_t /*total*/) override {
    stage_ = stage;
    Reached(0);
  }
  void Update(std::int64_t done, std::string_view /*note*/) override { Reached(done); }

 private:
  void Reached(std::int64_t done) {
    if (stage_ != moment_.stage || done != moment_.done || --times_left_ != 0) return;
    // The work must not get further than this before it is told to stop.
    std::latch told(1);
    const std::stop_callback callback(stop_, [&] { told.count_down(); });
    ::raise(g_signal);
    if (g_signal == SIGTERM) told.wait();
  }

  Moment moment_;
  int times_left_;
  std::string stage_;
  std::stop_token stop_;
};

}  // namespace

// In place of the C library's, for all of the program.
extern "C" int fsync(int descriptor) {
  CountCall();
  return static_cast<int>(::syscall(SYS_fsync, descriptor));
}
extern "C" int rename(const char* from, const char* to) noexcept {
  CountCall();
  return ::renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int main(int count, char** words) {
  if (count < 4) return 2;
  g_signal = SignalOf(words[1]);
  const Moment moment = MomentOf(words[2]);
  if (moment.stage == "file") g_calls_left = moment.done;

  const lieq::SignalStop stop;
  lieq::Terminal terminal({});
  try {
    const lieq::Arguments arguments = lieq::ParseArguments(count - 2, words + 2);
    Interrupter progress(moment, stop.token());
    const auto print = [](const lieq::Record& record) { fmt::print("{}\n", record.dump()); };
    lieq::CommandSession session(arguments, {terminal.log(), progress, print}, stop.token());
    return lieq::RunCommand(arguments, session);
  } catch (const lieq::Stopped&) {
    return 128 + stop.signal();
  } catch (const std::exception& error) {
    terminal.Error(error.what());
    return 3;
  }
}
