// How fast this machine is at the pieces that runs are made of: each is timed once, for some
// hundredths of a second, and remembered in a file of the cache folder.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

namespace lieq {

class Machine {
 public:
  /// Reads what was remembered in `folder` for this processor, version, number of threads and
  /// `device` (its description). A file that is missing or not readable is an empty one.
  Machine(const std::filesystem::path& folder, const std::string& device, int threads);

  using Work = std::function<void()>;
  /// Seconds of processor time, of all threads together, that a piece of work takes: what other
  /// programs do meanwhile does not count. Where it is not remembered, `prepare` makes what is
  /// timed: the least of some calls.
  [[nodiscard]] double Seconds(const std::string& piece, const std::function<Work()>& prepare);
  /// Seconds by the clock, for what waits for a disk. Timed by one call.
  [[nodiscard]] double ClockSeconds(const std::string& piece, const Work& work);

  /// Keeps what was timed; where the folder cannot be written it is timed again next time.
  void Remember() const;

  [[nodiscard]] const std::filesystem::path& file() const noexcept { return file_; }
  /// Pieces that were timed since the file was read.
  [[nodiscard]] int timed() const noexcept { return timed_; }

 private:
  double Recall(const std::string& piece, const std::function<double()>& time);

  std::filesystem::path file_;
  std::map<std::string, double> seconds_;
  int timed_ = 0;
};

}  // namespace lieq
