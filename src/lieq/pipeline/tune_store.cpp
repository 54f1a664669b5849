#include "lieq/pipeline/tune_store.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/io/tensor_file.h"

namespace lieq {
namespace {

constexpr const char* kResult = "lieq";  // among the metadata

Record ResultIn(const TensorFile& file) {
  const auto found = file.metadata().find(kResult);
  return found == file.metadata().end() ? Record() : Record::parse(found->second);
}

}  // namespace

Record ChecksRecord(const TuneResult& result) {
  Record checks = Record::array();
  for (const TuneCheck& each : result.checks) {
    checks.push_back({{"step", each.step}, {"held_out_kl", each.held_out}});
  }
  return checks;
}

Index TuneFile::Read(std::span<const TunedArray> arrays, TuneResult& result) {
  if (!std::filesystem::exists(file_)) return 0;
  const TensorFile file = TensorFile::Open(file_);
  for (const TunedArray& array : arrays) {
    const TensorRef& tensor = file.At(array.name);
    if (tensor.dtype != array.type || tensor.bytes.size() != array.bytes.size()) {
      throw Error({.what = "not the state of this run",
                   .where = file_.string() + ", '" + array.name + "'",
                   .hint = "--force starts over"});
    }
    std::memcpy(array.bytes.data(), tensor.bytes.data(), array.bytes.size());
  }
  const Record text = ResultIn(file);
  result = {};
  result.losses = text.at("losses").get<std::vector<double>>();
  for (const Record& each : text.at("checks")) {
    result.checks.push_back({each.at("step").get<Index>(), each.at("held_out_kl").get<double>()});
  }
  result.kept = text.at("kept").get<Index>();
  result.moved_codes = text.at("moved_codes").get<std::int64_t>();
  return text.at("step").get<Index>();
}

std::optional<Index> TuneFile::AllSteps() const {
  if (!std::filesystem::exists(file_)) return std::nullopt;
  return ResultIn(TensorFile::Open(file_)).at("all_steps").get<Index>();
}

void TuneFile::Write(Index step, std::span<const TunedArray> arrays, const TuneResult& result) {
  std::vector<TensorSpec> specs;
  for (const TunedArray& array : arrays) {
    const auto count = static_cast<std::int64_t>(array.bytes.size() / ItemSize(array.type));
    specs.push_back({.name = array.name, .dtype = array.type, .shape = {count}});
  }
  const Record record{{"step", step},
                      {"all_steps", all_steps_},
                      {"losses", result.losses},
                      {"checks", ChecksRecord(result)},
                      {"kept", result.kept},
                      {"moved_codes", result.moved_codes}};
  TensorWriter writer(file_, std::move(specs), {{kResult, record.dump()}});
  for (const TunedArray& array : arrays) writer.Write(array.name, array.bytes);
  writer.Commit();
}

}  // namespace lieq
