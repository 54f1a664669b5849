#include "lieq/pipeline/machine.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/hash.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/version.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

double ProcessSeconds() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"; empty where the system does not say.
std::string ProcessorName() {
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':')));
  }
  return "";
}

}  // namespace

Machine::Machine(const fs::path& folder, const std::string& device, int threads) {
  const std::string key =
      Hasher().Add(ProcessorName()).Add(kVersion).Add(device).Add(std::to_string(threads)).Hex();
  file_ = folder / ("machine-" + key + ".json");
  try {
    const Record record = ReadRecord(file_);
    for (const auto& [piece, seconds] : record.at("seconds").items()) {
      if (const auto value = seconds.get<double>(); value > 0) seconds_[piece] = value;
    }
  } catch (const std::exception&) {  // not there, or cut: it can be made again
    seconds_.clear();
  }
}

double Machine::Recall(const std::string& piece, const std::function<double()>& time) {
  const auto found = seconds_.find(piece);
  if (found != seconds_.end()) return found->second;
  ++timed_;
  return seconds_[piece] = time();
}

double Machine::Seconds(const std::string& piece, const std::function<Work()>& prepare) {
  constexpr double kEnough = 0.05;  // seconds in all; a first call that takes more is the only one
  constexpr int kMostCalls = 5;
  return Recall(piece, [&] {
    const Work work = prepare();
    double least = 0, total = 0;
    for (int call = 0; call < kMostCalls && total < kEnough; ++call) {
      const double begin = ProcessSeconds();
      work();
      const double seconds = std::max(1e-7, ProcessSeconds() - begin);
      least = call == 0 ? seconds : std::min(least, seconds);
      total += seconds;
    }
    return least;
  });
}

double Machine::ClockSeconds(const std::string& piece, const Work& work) {
  return Recall(piece, [&] {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::max(
        1e-7, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  });
}

void Machine::Remember() const {
  if (timed_ == 0) return;
  try {
    fs::create_directories(file_.parent_path());
    WriteFileAtomically(
        file_, Record{{"schema", 1}, {"kind", "machine"}, {"seconds", seconds_}}.dump(1) + "\n");
  } catch (const std::exception&) {  // read-only: nothing is lost but some tenths of a second
  }
}

}  // namespace lieq
