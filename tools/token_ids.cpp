// Token ids of texts, for comparing tokenizers (tests/interop): usage: token_ids TOKENIZER_JSON
// Each line of stdin is a JSON string; prints its ids, without special tokens, as a JSON array. Or
// it is an array of ids; prints the text that they decode to, and what comes of them one by one.
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/text/text_stream.h"
#include "lieq/text/tokenizer.h"

int main(int count, char** words) {
  try {
    if (count != 2) {
      std::cerr << "usage: token_ids TOKENIZER_JSON < TEXTS\n";
      return 2;
    }
    const lieq::Tokenizer tokenizer = lieq::Tokenizer::Open(words[1]);
    for (std::string line; std::getline(std::cin, line);) {
      const lieq::Json value = lieq::ParseJson(line, "stdin");
      if (value.is_array()) {
        const auto ids = value.get<std::vector<lieq::TokenId>>();
        lieq::TextStream stream(tokenizer);
        std::string streamed;
        for (const lieq::TokenId id : ids) streamed += stream.Add(id);
        streamed += stream.Finish();
        std::cout << lieq::Json{tokenizer.Decode(ids), streamed}.dump() << '\n';
      } else {
        std::cout << lieq::Json(tokenizer.Encode(value.get<std::string>())).dump() << '\n';
      }
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "token_ids: " << error.what() << '\n';
    return 1;
  }
}
