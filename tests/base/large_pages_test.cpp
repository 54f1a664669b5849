#include "lieq/base/large_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace lieq {
namespace {

constexpr std::size_t kSlab = std::size_t{4} << 20;

bool Zeros(const std::shared_ptr<std::byte>& block, std::size_t bytes) {
  return std::all_of(block.get(), block.get() + bytes,
                     [](std::byte value) { return value == std::byte{0}; });
}

TEST(LargePages, BlocksAreZerosOnLinesOfTheCacheAndDoNotMeet) {
  LargePages pages(kSlab);
  std::vector<std::pair<std::shared_ptr<std::byte>, std::size_t>> blocks;
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{65},
                                  kSlab - 1, std::size_t{3} << 20, kSlab + 1, std::size_t{7}}) {
    blocks.emplace_back(pages.Take(bytes), bytes);
    const auto& [block, size] = blocks.back();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.get()) % 64, 0u) << bytes;
    EXPECT_TRUE(Zeros(block, size)) << bytes;
    std::fill_n(block.get(), size, std::byte(blocks.size()));
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto& [block, size] = blocks[i];
    EXPECT_TRUE(std::all_of(block.get(), block.get() + size,
                            [&](std::byte value) { return value == std::byte(i + 1); }));
  }
}

TEST(LargePages, SmallBlocksShareASlab) {
  LargePages pages(kSlab);
  const auto first = pages.Take(1000), second = pages.Take(1000);

  EXPECT_EQ(second.get() - first.get(), 1024);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first.get()) % (std::size_t{2} << 20), 0u);
}

TEST(LargePages, ALargeBlockDoesNotEndASlabWithMoreRoom) {
  LargePages pages(kSlab);
  const auto first = pages.Take(100);
  const auto large = pages.Take(2 * kSlab);
  const auto next = pages.Take(100);

  EXPECT_EQ(next.get() - first.get(), 128);
}

TEST(LargePages, BlocksOutliveIt) {
  std::shared_ptr<std::byte> block;
  {
    LargePages pages;
    block = pages.Take(5000);
  }
  std::fill_n(block.get(), 5000, std::byte{1});
  EXPECT_EQ(LargePages().Take(0), nullptr);
}

TEST(LargePages, ThreadsGetBlocksOfTheirOwn) {
  LargePages pages(kSlab);
  std::vector<std::shared_ptr<std::byte>> blocks(400);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t i = t; i < blocks.size(); i += 4) blocks[i] = pages.Take(50000);
      });
    }
  }
  std::sort(blocks.begin(), blocks.end());
  for (std::size_t i = 1; i < blocks.size(); ++i) {
    EXPECT_GE(blocks[i].get() - blocks[i - 1].get(), 50000);
  }
}

}  // namespace
}  // namespace lieq
