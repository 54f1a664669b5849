// XXH3-128 for provenance and resume: tells accidental changes, not forged ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>

namespace lieq {

class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  Hasher& Add(std::span<const std::byte> bytes);
  Hasher& Add(std::string_view text);
  /// 32 lower-case hexadecimal digits of what was added so far.
  [[nodiscard]] std::string Hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Hash of a whole file, read in blocks so that its pages do not count as ours. Throws Error, and
/// Stopped where that is asked for meanwhile.
[[nodiscard]] std::string HashFile(const std::filesystem::path& path, std::stop_token stop = {});
/// Bytes that HashFile has read in this process: tells a test that a file was hashed twice.
[[nodiscard]] std::uint64_t HashedFileBytes() noexcept;
[[nodiscard]] std::string HashText(std::string_view text);

}  // namespace lieq
