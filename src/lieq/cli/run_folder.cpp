#include "lieq/cli/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "lieq/base/error.h"
#include "lieq/base/files.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void Fail(const std::string& what, const fs::path& path) {
  throw Error({.what = what + ": " + std::strerror(errno), .where = path.string()});
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

std::string Short(const Record& value) {
  const std::string text = value.dump();
  return text.size() > 80 ? text.substr(0, 77) + "..." : text;
}

}  // namespace

void CheckOutputPlace(const fs::path& output, const fs::path& model) {
  const fs::path out = fs::weakly_canonical(output);
  if (out == fs::weakly_canonical(model)) {
    throw Error({.what = "the output would replace the source model", .where = output.string()});
  }
  if (out.has_parent_path() && !fs::is_directory(out.parent_path())) {
    throw Error(
        {.what = "the folder to write into does not exist", .where = out.parent_path().string()});
  }
}

RunFolder::RunFolder(const fs::path& output) : output_(output), path_(output) {
  path_ += ".run";
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
  if (start_over) {
    for (const auto& entry : fs::directory_iterator(path_)) {
      if (entry.path().filename() != "lock") fs::remove_all(entry.path());
    }
  }
  if (!fs::exists(file)) {
    WriteFileAtomically(file, settings.dump(2) + "\n");
    return false;
  }
  const Record before = ReadRecord(file);
  Record keys = settings;  // of either: options that are off have none
  for (const auto& [key, value] : before.items()) keys[key] = value;
  for (const auto& [key, unused] : keys.items()) {
    const Record earlier = before.value(key, Record()), value = settings.value(key, Record());
    if (earlier == value) continue;
    throw Error({.what = "an unfinished run with another " + key + " is here",
                 .where = path_.string(),
                 .expected = Short(earlier),
                 .found = Short(value),
                 .hint = "give the same command as before, or --force to start over"});
  }
  return true;
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
  if (fs::exists(output_)) {
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

void RunFolder::Abandon() {
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (entry.path().filename() != "lock") fs::remove_all(entry.path());
  }
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
