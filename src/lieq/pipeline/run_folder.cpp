#include "lieq/pipeline/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/pipeline/file_kinds.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void Fail(const std::string& what, const fs::path& path) {
  throw Error({.what = what + ": " + std::strerror(errno), .where = path.string()});
}

/// Throws Error with the way out where they are cut.
Record SettingsIn(const fs::path& file) {
  try {
    Record settings = ReadRecord(file);
    if (settings.is_object()) return settings;
  } catch (const Error& error) {
    throw Error(
        {.what = "the settings of the unfinished run cannot be read: " + error.problem().what,
         .where = file.string(),
         .hint = "--force starts over"});
  }
  throw Error({.what = "the settings of the unfinished run are no object",
               .where = file.string(),
               .hint = "--force starts over"});
}

std::string ReadPid(int descriptor) {
  std::array<char, 32> text{};
  const ssize_t got = ::pread(descriptor, text.data(), text.size() - 1, 0);
  std::string pid(text.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  while (!pid.empty() && pid.back() == '\n') pid.pop_back();
  return pid.empty() ? "unknown" : pid;
}

/// The open lock file, locked; -1 where the file was removed meanwhile by a run that finished.
int TryLock(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) Fail("cannot open", file);
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    const std::string pid = ReadPid(descriptor);
    ::close(descriptor);
    throw Error({.what = "another process works on this output",
                 .where = file.parent_path().string(),
                 .found = "process id " + pid,
                 .hint = "wait for it, or stop it and give the same command again"});
  }
  struct stat held{}, there{};
  if (::fstat(descriptor, &held) != 0 || ::stat(file.c_str(), &there) != 0 ||
      held.st_ino != there.st_ino) {
    ::close(descriptor);
    return -1;
  }
  return descriptor;
}

bool HoldsTensors(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") return true;
  }
  return false;
}

/// Removes what a run put into OUT.run, but for the lock.
void Empty(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name != "lock" && IsRunName(name)) fs::remove_all(entry.path());
  }
}

}  // namespace

fs::path RunFolderOf(const fs::path& output) {
  return fs::path(output) += ".run";
}

bool IsHalfFilled(const fs::path& output) {
  std::error_code error;
  return fs::exists(RunFolderOf(output) / "filling", error);
}

std::string SettingText(const Record& value) {
  if (value.is_null()) return "none";
  const std::string text = value.dump();
  return text.size() > 80 ? text.substr(0, 77) + "..." : text;
}

RunFolder::RunFolder(const fs::path& output) : output_(output), path_(RunFolderOf(output)) {
  const fs::path file = path_ / "lock";
  for (int attempt = 0; lock_ < 0 && attempt < 100; ++attempt) {
    fs::create_directories(path_);
    lock_ = TryLock(file);
  }
  if (lock_ < 0) Fail("cannot lock", file);
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock_, 0) != 0 ||
      ::pwrite(lock_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    Fail("cannot write", file);
  }
}

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

bool RunFolder::Begin(const Record& settings, bool start_over) {
  const fs::path file = path_ / "settings.json";
  if (start_over) Empty(path_);
  if (!fs::exists(file)) {
    WriteFileAtomically(file, settings.dump(2) + "\n");
    return false;
  }
  const Record before = SettingsIn(file);
  Record keys = settings;  // of either: options that are off have none
  for (const auto& [key, value] : before.items()) keys[key] = value;
  for (const auto& [key, unused] : keys.items()) {
    const Record earlier = before.value(key, Record()), value = settings.value(key, Record());
    if (earlier == value) continue;
    throw Error({.what = "an unfinished run with another " + key + " is here",
                 .where = path_.string(),
                 .expected = SettingText(earlier),
                 .found = SettingText(value),
                 .hint = "give the same command as before, or --force to start over"});
  }
  return true;
}

bool RunFolder::IsOf(const Record& settings) const {
  const fs::path file = path_ / "settings.json";
  try {
    return !fs::exists(file) || SettingsIn(file) == settings;
  } catch (const Error&) {
    return false;
  }
}

std::string RunFolder::LayerName(std::int64_t layer) {
  return fmt::format("layer-{:05}.safetensors", layer);
}

fs::path RunFolder::LayerFile(std::int64_t layer) const {
  return path_ / LayerName(layer);
}

fs::path RunFolder::FreshOut() const {
  const fs::path out = path_ / "out";
  fs::remove_all(out);
  fs::create_directory(out);
  return out;
}

void RunFolder::Finish() {
  const fs::path out = path_ / "out";
  SyncFolder(out);
  CheckStillOurs();
  std::error_code unknown;
  if (fs::exists(output_) && fs::equivalent(output_, ".", unknown)) {
    Fill(out);
  } else if (fs::exists(output_)) {
    // One step, so that OUT is there at every moment.
    if (::renameat2(AT_FDCWD, out.c_str(), AT_FDCWD, output_.c_str(), RENAME_EXCHANGE) != 0) {
      Fail("cannot replace", output_);
    }
  } else if (::rename(out.c_str(), output_.c_str()) != 0) {
    Fail("cannot rename to", output_);
  }
  SyncFolder(output_.parent_path());
  Abandon();
}

void RunFolder::FinishFile(const fs::path& file) {
  if (::rename(file.c_str(), output_.c_str()) != 0) Fail("cannot rename to", output_);
  SyncFolder(output_.parent_path());
  Abandon();
}

void RunFolder::CheckStillOurs() const {
  if (!fs::exists(output_)) return;
  const std::vector<std::string> foreign = ForeignToResult(output_);
  if (foreign.empty()) return;
  throw Error({.what = "something came into the output while the command ran; it is left alone",
               .where = output_.string(),
               .found = foreign.front(),
               .hint = "move it away and give the same command again; the result is in " +
                       (path_ / "out").string()});
}

void RunFolder::Fill(const fs::path& out) {
  WriteFileAtomically(path_ / "filling", "");
  constexpr const char* kLast = "lieq.json";  // a folder that has it is whole
  const bool last = fs::exists(out / kLast);
  if (last) fs::remove(output_ / kLast);
  for (const auto& entry : fs::directory_iterator(output_)) {
    if (!fs::exists(out / entry.path().filename())) fs::remove(entry.path());
  }
  for (const auto& entry : fs::directory_iterator(out)) {
    if (entry.path().filename() == kLast) continue;
    fs::rename(entry.path(), output_ / entry.path().filename());
  }
  SyncFolder(output_);
  if (last) fs::rename(out / kLast, output_ / kLast);
}

void RunFolder::AbandonUnlessWorked(bool plan_is_work) noexcept {
  try {
    const auto is_idle = [&](const fs::directory_entry& entry) {
      const std::string name = entry.path().filename().string();
      if (name == "plan.json") return !plan_is_work;
      if (name == "out") return !fs::exists(entry.path() / "lieq.json");
      if (entry.is_directory()) return !HoldsTensors(entry.path());
      return name == "lock" || name == "settings.json" || name == "seconds.json" ||
             name == "edges.safetensors";
    };
    if (std::ranges::all_of(fs::directory_iterator(path_), is_idle)) Abandon();
  } catch (const std::exception&) {  // what is left is said by the error that led here
  }
}

void RunFolder::Abandon() {
  Empty(path_);
  // The lock goes last. A process that makes a new one from here on keeps the folder.
  fs::remove(path_ / "lock");
  ::rmdir(path_.c_str());
  if (lock_ >= 0) ::close(lock_);
  lock_ = -1;
}

RunSeconds::RunSeconds(const fs::path& folder, std::chrono::steady_clock::time_point begin)
    : file_(folder / "seconds.json"), begin_(begin) {
  if (!fs::exists(file_)) return;
  const Record record = ReadRecord(file_);
  earlier_ = record.value("seconds", 0.0);
  earlier_runs_ = record.value("runs", 0);
}

double RunSeconds::total() const {
  return earlier_ +
         std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

void RunSeconds::Keep() const {
  const Record record{{"schema", 1}, {"kind", "seconds"}, {"seconds", total()}, {"runs", runs()}};
  WriteFileAtomically(file_, record.dump() + "\n");
}

}  // namespace lieq
