#include "lieq/base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "lieq/base/error.h"

namespace lieq {
namespace {

[[noreturn]] void Fail(const std::string& what, const std::filesystem::path& path) {
  throw Error({.what = what + ": " + std::strerror(errno), .where = path.string()});
}

class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags)
      : value_(::open(path.c_str(), flags | O_CLOEXEC)) {
    if (value_ < 0) Fail("cannot open", path);
  }
  ~Descriptor() { ::close(value_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int value() const noexcept { return value_; }

 private:
  int value_;
};

/// Size of a regular file; anything else (folder, pipe, device) is refused.
std::uint64_t RegularSize(const Descriptor& file, const std::filesystem::path& path) {
  struct stat info{};
  if (::fstat(file.value(), &info) != 0) Fail("cannot read", path);
  if (!S_ISREG(info.st_mode)) {
    throw Error({.what = "not a regular file", .where = path.string()});
  }
  return static_cast<std::uint64_t>(info.st_size);
}

}  // namespace

FileMap::FileMap(std::filesystem::path path) : path_(std::move(path)) {
  const Descriptor file(path_, O_RDONLY);
  size_ = static_cast<std::size_t>(RegularSize(file, path_));
  if (size_ == 0) return;
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value(), 0);
  if (data == MAP_FAILED) Fail("cannot map", path_);
  data_ = static_cast<const std::byte*>(data);
}

FileMap::~FileMap() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void FileMap::Drop(std::span<const std::byte> part) const noexcept {
  if (data_ == nullptr || part.data() < data_ || part.data() + part.size() > data_ + size_) return;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t begin = static_cast<std::size_t>(part.data() - data_);
  const std::size_t first = (begin + page - 1) / page * page;
  const std::size_t last = (begin + part.size()) / page * page;
  if (first < last) {
    ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
  }
}

std::string ReadText(const std::filesystem::path& path, std::uint64_t limit) {
  const Descriptor file(path, O_RDONLY);
  const std::uint64_t size = RegularSize(file, path);
  if (size > limit) {
    throw Error({.what = "file is too large",
                 .where = path.string(),
                 .expected = "at most " + std::to_string(limit) + " bytes",
                 .found = std::to_string(size) + " bytes"});
  }
  std::string text(static_cast<std::size_t>(size), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = ::read(file.value(), text.data() + done, text.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) Fail("cannot read", path);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  text.resize(done);
  return text;
}

void ReadBlocks(const std::filesystem::path& path,
                const std::function<void(std::span<const std::byte>)>& block) {
  const Descriptor file(path, O_RDONLY);
  RegularSize(file, path);
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  while (true) {
    const ssize_t got = ::read(file.value(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) Fail("cannot read", path);
    if (got == 0) return;
    block(std::span(buffer.data(), static_cast<std::size_t>(got)));
  }
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  // A name that nothing has: what lies beside `path` may be anyone's.
  const std::string process = std::to_string(::getpid());
  for (int attempt = 0; descriptor_ < 0 && attempt < 1000; ++attempt) {
    temporary_ = path_;
    temporary_ += ".tmp" + process + (attempt > 0 ? std::to_string(attempt) : "");
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && errno != EEXIST) break;
  }
  if (descriptor_ < 0) Fail("cannot write", temporary_);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) Fail("cannot write", temporary_);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
}

void AtomicFile::Commit() {
  if (::fsync(descriptor_) != 0) Fail("cannot flush", temporary_);
  const int closed = ::close(std::exchange(descriptor_, -1));
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary_.c_str());
    errno = reason;
    Fail("cannot write", path_);
  }
  SyncFolder(path_.parent_path());
}

void WriteFileAtomically(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.Write(content);
  file.Commit();
}

void SyncFolder(const std::filesystem::path& folder) {
  const Descriptor descriptor(folder.empty() ? std::filesystem::path(".") : folder,
                              O_RDONLY | O_DIRECTORY);
  if (::fsync(descriptor.value()) != 0 && errno != EINVAL) Fail("cannot flush", folder);
}

}  // namespace lieq
