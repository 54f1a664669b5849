#include "lieq/pipeline/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

#include "lieq/device/bf16_gain.h"
#include "lieq/device/devices.h"
#include "lieq/pipeline/cache_folder.h"

namespace lieq {
namespace {

/// Value of a line such as "VmHWM:   12345 kB", in bytes; 0 where there is none.
std::int64_t KilobyteLine(const char* file, std::string_view key) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with(key)) return std::atoll(line.c_str() + key.size()) * 1024;
  }
  return 0;
}

void SayTo(const Log& log, LogLevel level, std::string_view text) {
  if (level == LogLevel::kDebug) {
    log.Debug(text);
  } else if (level == LogLevel::kInfo) {
    log.Info(text);
  } else {
    log.Warning(text);
  }
}

int ThreadCount(int threads) {
  if (threads > 0) return threads;
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace

Session::Session(MachineRequest machine, Log log, Progress& progress, std::stop_token stop)
    : machine_(std::move(machine)),
      log_([this, log = std::move(log)](LogLevel level, std::string_view text) {
        const std::lock_guard lock(said_mutex_);  // devices are at work by several threads
        if (said_.emplace(text).second) SayTo(log, level, text);
      }),
      pool_(ThreadCount(machine_.threads)),
      context_{pool_, log_, progress, std::move(stop)} {}

const DeviceTeam& Session::team() {
  if (!team_) {
    arithmetic_ = machine_.arithmetic;
    DeviceOptions options{.kernels = machine_.kernels,
                          .usual_kernels = machine_.usual_kernels,
                          .activations = machine_.activations,
                          .cache = machine_.keys_and_values,
                          .memory_bytes = machine_.device_memory};
    if (machine_.probes_arithmetic) {
      const double gain = Bf16Gain(machine_.device, pool_, options);
      arithmetic_ = gain > 1 ? Arithmetic::kBf16 : Arithmetic::kFloat32;
      log().Info(gain == 0 ? "products in float32: this processor has no bf16 arithmetic"
                           : fmt::format("products in {}: bf16 is {:.2f} times as fast here",
                                         Name(arithmetic_), gain));
    }
    options.arithmetic = arithmetic_;
    const auto [row, indices] = FindDevice(machine_.device);
    const auto count = static_cast<int>(indices.size());
    std::vector<DeviceTeam::Member> members;
    for (const int index : indices) {
      if (count > 1)
        pools_.push_back(std::make_unique<ThreadPool>(std::max(1, pool_.size() / count)));
      ThreadPool& pool = count > 1 ? *pools_.back() : pool_;
      options.index = index;
      devices_.push_back(row.make(pool, options));
      members.push_back({*devices_.back(), pool});
    }
    team_.emplace(std::move(members), row.pieces);
    log().Debug(fmt::format("{}{}, {} threads", count > 1 ? fmt::format("{} of ", count) : "",
                            devices_.front()->description(), pool_.size()));
  }
  return *team_;
}

std::string Session::device_description() {
  std::string here = device().description();
  return context_.pieces == nullptr ? here : context_.pieces->Setting("device", std::move(here));
}

std::string Session::arithmetic_name() {
  std::string here(Name(arithmetic()));
  return context_.pieces == nullptr ? here
                                    : context_.pieces->Setting("arithmetic", std::move(here));
}

void Session::TakeFastArithmetic() {
  if (!FindDevice(machine_.device).row.has_fast_bf16()) return;
  machine_.arithmetic = Arithmetic::kBf16;
  machine_.probes_arithmetic = false;
  team_.reset();
  devices_.clear();
  pools_.clear();
}

bool Session::runs_packed() const {
  const std::string& kernels = machine_.kernels.empty() ? machine_.usual_kernels : machine_.kernels;
  return !device_has_own_bytes() && IsPacked(kernels);
}

bool Session::device_has_own_bytes() const {
  return FindDevice(machine_.device).row.own_bytes;
}

std::filesystem::path Session::cache() const {
  return machine_.cache.empty() ? CacheFolder() : machine_.cache;
}

std::int64_t PeakMemoryBytes() {
  return KilobyteLine("/proc/self/status", "VmHWM:");
}
std::int64_t AvailableMemoryBytes() {
  return KilobyteLine("/proc/meminfo", "MemAvailable:");
}

}  // namespace lieq
