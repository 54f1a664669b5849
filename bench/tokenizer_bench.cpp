// Encodes a text and prints seconds and number of ids; tools in Python compare it with others.
//
//   tokenizer_bench TOKENIZER_JSON TEXT ROUNDS [IDS_FILE]
//
// One line per round: "seconds count". IDS_FILE receives the ids, one a line.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/text/tokenizer.h"

namespace {

void Run(const char* tokenizer_json, const char* text_file, int rounds, const char* ids_file) {
  const lieq::Tokenizer tokenizer = lieq::Tokenizer::Open(tokenizer_json);
  const std::string text = lieq::ReadText(text_file);
  std::vector<lieq::TokenId> ids;
  for (int round = 0; round < rounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    ids = tokenizer.Encode(text);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::printf("%.6f %zu\n", seconds.count(), ids.size());
    std::fflush(stdout);
  }
  if (ids_file == nullptr) return;
  std::string lines;
  for (const lieq::TokenId id : ids) lines += std::to_string(id) + "\n";
  lieq::WriteFileAtomically(ids_file, lines);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4 && count != 5) {
    std::fprintf(stderr, "usage: tokenizer_bench TOKENIZER_JSON TEXT ROUNDS [IDS_FILE]\n");
    return 2;
  }
  try {
    Run(arguments[1], arguments[2], std::atoi(arguments[3]), count == 5 ? arguments[4] : nullptr);
  } catch (const lieq::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
