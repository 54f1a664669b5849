#include "lieq/container/imatrix.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include "lieq/base/files.h"
#include "lieq/container/gguf_names.h"
#include "lieq/io/gguf_file.h"

namespace lieq {
namespace {

struct Entry {
  std::string name;  // "blk.3.attn_q.weight"
  const std::vector<double>* squares;
};

std::vector<Entry> Entries(const Importance& importance, const ModelConfig& config) {
  std::vector<Entry> entries;
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const Site site : config.Sites(layer)) {
      entries.push_back({GgufModule(config, layer, site) + ".weight",
                         &importance.squares[Size(layer)][static_cast<std::size_t>(UnitOf(site))]});
    }
  }
  std::ranges::sort(entries, {}, &Entry::name);
  return entries;
}

std::vector<float> Scaled(const std::vector<double>& squares, double factor) {
  std::vector<float> values(squares.size());
  std::ranges::transform(squares, values.begin(),
                         [&](double sum) { return static_cast<float>(sum * factor); });
  return values;
}

void WriteGgufForm(const Importance& importance, const std::vector<Entry>& entries,
                   const ImatrixText& text, const std::filesystem::path& path) {
  GgufKeyWriter keys;
  keys.String("general.type", "imatrix");
  keys.Strings("imatrix.datasets", text.files);
  keys.U32("imatrix.chunk_count", static_cast<std::uint32_t>(text.windows));
  keys.U32("imatrix.chunk_size", static_cast<std::uint32_t>(text.length));
  const GgmlType* f32 = FindGgmlType("F32");
  std::vector<GgufSpec> specs;
  for (const Entry& entry : entries) {
    specs.push_back({entry.name + ".counts", f32, {1, 1}});
    specs.push_back(
        {entry.name + ".in_sum2", f32, {1, static_cast<std::int64_t>(entry.squares->size())}});
  }
  GgufWriter writer(path, keys, std::move(specs));
  const std::vector<float> count{static_cast<float>(importance.tokens)};
  for (const Entry& entry : entries) {
    writer.Write(entry.name + ".counts", std::as_bytes(std::span(count)));
    const std::vector<float> sums = Scaled(*entry.squares, 1);
    writer.Write(entry.name + ".in_sum2", std::as_bytes(std::span(sums)));
  }
  writer.Commit();
}

void WriteBinaryForm(const Importance& importance, const std::vector<Entry>& entries,
                     const ImatrixText& text, const std::filesystem::path& path) {
  static_assert(std::endian::native == std::endian::little);
  std::string bytes;
  const auto number = [&](std::size_t value) {
    const auto word = static_cast<std::int32_t>(value);
    bytes.append(reinterpret_cast<const char*>(&word), sizeof(word));
  };
  number(entries.size());
  for (const Entry& entry : entries) {
    number(entry.name.size());
    bytes += entry.name;
    number(Size(text.windows));  // the reader divides by it
    number(entry.squares->size());
    const std::vector<float> values = Scaled(
        *entry.squares, static_cast<double>(text.windows) / static_cast<double>(importance.tokens));
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
  number(Size(text.windows));
  std::string names;
  for (const std::string& file : text.files) names += (names.empty() ? "" : ", ") + file;
  number(names.size());
  WriteFileAtomically(path, bytes + names);
}

}  // namespace

void WriteImatrix(const Importance& importance, const ModelConfig& config, const ImatrixText& text,
                  const std::filesystem::path& path) {
  const std::vector<Entry> entries = Entries(importance, config);
  if (path.extension() == ".gguf") {
    WriteGgufForm(importance, entries, text, path);
  } else {
    WriteBinaryForm(importance, entries, text, path);
  }
}

}  // namespace lieq
