#include "lieq/base/hash.h"

#include <xxhash.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <new>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/base/files.h"

namespace lieq {
namespace {

std::atomic<std::uint64_t> g_hashed_bytes{0};

}  // namespace

struct Hasher::State {
  XXH3_state_t* state = nullptr;
  State() : state(XXH3_createState()) {
    if (state == nullptr) throw std::bad_alloc();
    XXH3_128bits_reset(state);
  }
  ~State() { XXH3_freeState(state); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

Hasher::Hasher() : state_(std::make_unique<State>()) {}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

Hasher& Hasher::Add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(state_->state, bytes.data(), bytes.size());
  return *this;
}

Hasher& Hasher::Add(std::string_view text) {
  return Add(std::as_bytes(std::span(text)));
}

std::string Hasher::Hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->state);
  std::array<char, 33> text{};
  std::snprintf(text.data(), text.size(), "%016llx%016llx",
                static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text.data();
}

std::string HashFile(const std::filesystem::path& path, std::stop_token stop) {
  Hasher hasher;
  ReadBlocks(path, [&](std::span<const std::byte> block) {
    if (stop.stop_requested()) throw Stopped();
    hasher.Add(block);
    g_hashed_bytes += block.size();
  });
  return hasher.Hex();
}

std::uint64_t HashedFileBytes() noexcept {
  return g_hashed_bytes;
}

std::string HashText(std::string_view text) {
  return Hasher().Add(text).Hex();
}

}  // namespace lieq
