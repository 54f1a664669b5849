#include "lieq/cli/commands.h"

int main(int count, char** words) {
  return lieq::RunProgram(count, words);
}
