// Packed files, and what kernels make of matrices that lie in them.
#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/folder_input.h"
#include "lieq/base/thread_pool.h"
#include "lieq/container/packed_file.h"
#include "lieq/device/cpu/packed_matrix.h"
#include "lieq/device/devices.h"

namespace lieq {
namespace {

/// Of a matrix of some grid that the input chooses, as `lieq pack` lays it out.
struct FilePart {
  Record entry;
  std::string bytes;
};

FilePart PartOf(FuzzInput& input, std::uint64_t rows, std::uint64_t cols) {
  constexpr std::array<int, 6> kBits{2, 3, 4, 5, 6, 8};
  LaidOutForm form{.grid = {.bits = kBits[input.Below(6)],
                            .group_size = static_cast<Index>(input.Below(2) * 16),
                            .offset = kAllOffsets[input.Below(4)]},
                   .half = input.Below(4) != 0};
  form.bits = form.grid.bits == 5 ? 6 : form.grid.bits;
  if (form.grid.bits == 5 && form.grid.offset == Offset::kHalf) {
    form.grid.offset = Offset::kSymmetric;
  }
  FilePart part{.entry = {{"rows", rows},
                          {"cols", cols},
                          {"bits", form.grid.bits},
                          {"group_size", form.grid.group_size},
                          {"offset", std::string(Name(form.grid.offset))},
                          {"k_quant", false},
                          {"packed_bits", form.bits},
                          {"half", form.half}},
                .bytes = {}};
  const auto bytes =
      PackedMatrix::BytesOf(form, static_cast<Index>(rows), static_cast<Index>(cols));
  part.bytes = FolderInput::Bytes(static_cast<std::uint64_t>(bytes), input);
  if (form.grid.offset == Offset::kInteger) {  // the last bytes: nearly always zero-points that are
    const std::size_t zeros = (rows + 15) / 16 * 16 * (form.grid.group_size == 0 ? 1 : cols / 16);
    const auto last = static_cast<std::ptrdiff_t>((zeros + 63) / 64 * 64);
    std::fill(part.bytes.end() - last, part.bytes.end(), static_cast<char>(input.Below(5)));
  }
  return part;
}

/// The file of an input: right, but for what it wants otherwise.
std::string Assemble(FuzzInput& input) {
  const std::uint32_t faults = input.Below(3);
  std::array<std::uint8_t, 6> bytes{};  // first, so that a seed can ask for any of them
  for (std::uint8_t& byte : bytes) byte = input.Byte();
  FuzzInput first(bytes.data(), bytes.size());
  FolderInput folder(input, 16);
  std::vector<FolderTensor> floats = std::exchange(folder.tensors, {});
  Record table = Record::object();
  const auto add = [&](const std::string& module, std::uint64_t rows, std::uint64_t cols) {
    FilePart part = PartOf(input, rows, cols);
    table[module] = std::move(part.entry);
    const std::uint64_t size = part.bytes.size();
    folder.Add(PackedTensor(module), "U8", {size}, std::move(part.bytes));
  };
  folder.ForEachLinear(add);
  if (input.Below(2) == 0) {
    floats.erase(floats.begin());
    add("model.embed_tokens", folder.vocab, folder.hidden);
  }
  for (FolderTensor& tensor : floats) folder.tensors.push_back(std::move(tensor));

  Record metadata{{"format", kPackedFormat},
                  {"layout", kPackedLayout},
                  {"padding", ""},
                  {"version", kPackedVersion}};
  for (std::uint32_t i = 0; i < faults; ++i) {
    FuzzInput& from = i == 0 ? first : input;
    const std::uint32_t kind = from.Below(8);
    if (kind < 4) {
      SpoilTensor(folder.tensors, from);
    } else if (kind < 7) {
      SpoilRecord(kind == 4 ? folder.config : table, from);
    } else {
      metadata[from.Below(2) == 0 ? "layout" : "version"] = "7";
    }
  }
  const std::string config = folder.config.dump();
  folder.Add(TextTensor("config.json"), "U8", {config.size()}, config);
  metadata["matrices"] = table.dump();
  return folder.RenderTensors(metadata, 64);
}

/// Every matrix that is not refused can be multiplied with, and widened.
void CheckRunnable(const ModelFolder& model) {
  static ThreadPool pool(1);
  static const std::unique_ptr<Device> device =
      MakeDevice("cpu", pool, {.kernels = "packed-scalar"});
  const auto check = [&](const AnyMatrix& matrix) {
    const Prepared prepared = device->Prepare(matrix);
    Require(prepared->rows() == Rows(matrix) && prepared->cols() == Cols(matrix), "shapes agree");
    const DeviceMatrix x = device->Alloc(2, Cols(matrix)), y = device->Alloc(2, Rows(matrix));
    const Matrix<float> ones = [&] {
      Matrix<float> values(2, Cols(matrix));
      std::fill_n(values.data(), values.size(), 1.0f);
      return values;
    }();
    device->Upload(ones.view(), x.view());
    device->Matmul(x.view(), *prepared, {}, y.view(), false);
    const TokenId last = static_cast<TokenId>(Rows(matrix) - 1);
    device->EmbedRows(*prepared, {&last, 1}, x.view().Rows(0, 1));
  };
  check(model.weights.embedding);
  check(model.weights.head);
  for (const LayerWeights& layer : model.weights.layers) {
    for (const Linear& linear : layer.linears) check(linear.weight);
  }
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lieq;
  static MemoryFile file;
  FuzzInput input(data, size);
  const bool raw = input.Byte() % 4 == 0;
  file.Set(raw ? std::string(input.Text()) : Assemble(input));
  try {
    CheckRunnable(OpenPackedFile(file.path()));
  } catch (const Error& error) {
    CheckRefusal(error);
  }
  return 0;
}
