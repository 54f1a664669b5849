// A record of a run: a page whose markup is whole and whose coordinates are numbers, or an Error.
#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/promises.h"
#include "lieq/base/error.h"
#include "lieq/base/rng.h"
#include "lieq/report/report.h"
#include "tests/report/markup.h"

namespace lieq {
namespace {

void CollectValues(Record& value, std::vector<Record*>& values) {
  values.push_back(&value);
  if (!value.is_structured()) return;
  for (Record& inner : value) CollectValues(inner, values);
}

/// Changed bytes seldom make another record: most make no JSON. So values are changed too, as the
/// input says by its hash.
void ChangeValues(Record& record, Rng& rng) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const std::array<Record, 16> odd{Record(nullptr),
                                   true,
                                   0,
                                   -1,
                                   1023,
                                   INT64_MIN,
                                   UINT64_MAX,
                                   1.7e308,
                                   -1.7e308,
                                   5e-324,
                                   kInf,
                                   std::numeric_limits<double>::quiet_NaN(),
                                   "</script><b a=\"'>",
                                   "\xFF\x01",
                                   Record::array(),
                                   Record::object()};
  for (int changes = 1 + static_cast<int>(rng.Uniform() * 4); changes > 0; --changes) {
    std::vector<Record*> values;
    CollectValues(record, values);
    const auto at = static_cast<std::size_t>(rng.Uniform() * static_cast<double>(values.size()));
    *values[at] = odd[static_cast<std::size_t>(rng.Uniform() * odd.size())];
  }
}

void Render(const Record& record) {
  const ReportInput input{.run = "run", .file = "x.json", .json = record};
  try {
    const std::string page = RenderReport({&input, 1});
    const std::string tag = Unbalanced(page), coordinate = BadCoordinate(page);
    Require(tag.empty(), "every element is closed: " + tag);
    Require(coordinate.empty(), "coordinates are numbers: " + coordinate);
    Require(CountOf(page, "<script") == 1, "one script");
  } catch (const Error&) {
  }
}

}  // namespace
}  // namespace lieq

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lieq;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Record record;
  try {
    record = ParseRecord(text, "record");
  } catch (const Error&) {
    return 0;
  }
  Render(record);
  std::uint64_t seed = 14695981039346656037u;  // FNV-1a
  for (const char c : text) seed = (seed ^ static_cast<unsigned char>(c)) * 1099511628211u;
  Rng rng(seed);
  for (int i = 0; i < 8; ++i) {
    Record changed = record;
    ChangeValues(changed, rng);
    Render(changed);
  }
  return 0;
}
