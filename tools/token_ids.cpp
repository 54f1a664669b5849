// Token ids of texts, for comparing tokenizers (tests/interop): usage: token_ids TOKENIZER_JSON
// Each line of stdin is a JSON string; prints its ids, without special tokens, as a JSON array.
#include <exception>
#include <iostream>
#include <string>

#include "lieq/io/json.h"
#include "lieq/text/tokenizer.h"

int main(int count, char** words) {
  try {
    if (count != 2) {
      std::cerr << "usage: token_ids TOKENIZER_JSON < TEXTS\n";
      return 2;
    }
    const lieq::Tokenizer tokenizer = lieq::Tokenizer::Open(words[1]);
    for (std::string line; std::getline(std::cin, line);) {
      const lieq::Json text = lieq::ParseJson(line, "stdin");
      std::cout << lieq::Json(tokenizer.Encode(text.get<std::string>())).dump() << '\n';
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "token_ids: " << error.what() << '\n';
    return 1;
  }
}
