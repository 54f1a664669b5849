// What a user has is safe from every command that writes: the program itself, over all the ways in
// which an output can meet an input.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "lieq/base/hash.h"
#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

/// Everything below a folder: names, hashes of contents, where links lead.
std::map<std::string, std::string> Tree(const fs::path& folder) {
  std::map<std::string, std::string> tree;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = fs::relative(entry.path(), folder).string();
    if (entry.is_symlink()) {
      tree[name] = "-> " + fs::read_symlink(entry.path()).string();
    } else {
      tree[name] = entry.is_directory() ? "/" : HashFile(entry.path());
    }
  }
  return tree;
}

class Safety : public testing::Test {
 protected:
  Outcome Lieq(const std::vector<std::string>& words) { return RunLieq(log.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }
  /// A quantize command of a second or so.
  Outcome Quantize(const std::string& out, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"quantize", Path("model"),  "-o", out,        "--uniform",
                                   "4",        "--group-size", "32", "--method", "rtn"};
    words.insert(words.end(), more.begin(), more.end());
    return Lieq(words);
  }
  /// Runs in another folder.
  Outcome In(const std::string& place, const std::function<Outcome()>& run) {
    const fs::path before = fs::current_path();
    fs::current_path(folder / place);
    Outcome outcome = run();
    fs::current_path(before);
    return outcome;
  }

  TempFolder folder, log;
};

/// A command that writes, with names of inputs in it and without its output.
struct Writer {
  std::vector<std::string> words;
  std::string option;               // of the output
  std::vector<std::string> inputs;  // below "in": files, or folders
  bool takes_force = false;
};

const std::vector<Writer>& Writers() {
  static const std::vector<Writer> writers{
      {{"quantize", "model", "--calibration", "text.txt", "--plan", "plan.json"},
       "-o",
       {"model", "text.txt", "plan.json"},
       true},
      {{"quantize", "model", "--bpw", "2.7", "--text", "text.txt", "--sensitivities", "s.json",
        "--codes", "codes"},
       "-o",
       {"model", "text.txt", "s.json", "codes"},
       true},
      {{"export", "model", "--to", "gguf"}, "-o", {"model"}, true},
      {{"export", "m.gguf", "--to", "mlx"}, "-o", {"m.gguf"}, true},
      {{"plan", "model", "--diagnostics", "diagnostics.json"}, "-o", {"model", "diagnostics.json"}},
      {{"plan", "m.gguf", "--bits", "2.5", "--calibration", "text.txt"},
       "-o",
       {"m.gguf", "text.txt"}},
      {{"plan", "model", "--ranking", "file", "--scores", "scores.json"}, "-o", {"scores.json"}},
      {{"diagnose", "model", "--text", "text.txt", "--second-text", "second.txt"},
       "-o",
       {"model", "text.txt", "second.txt"}},
      {{"sensitivity", "model", "--text", "text.txt", "--mode", "context", "--base", "plan.json",
        "--codes", "codes"},
       "-o",
       {"model", "text.txt", "plan.json", "codes"}},
      {{"calibrate", "model", "--calibration", "text.txt"}, "--imatrix", {"model", "text.txt"}},
      {{"report", "run", "plan.json"}, "-o", {"run", "plan.json"}},
      {{"evaluate", "model", "--text", "text.txt", "--reference", "m.gguf"},
       "--predictions",
       {"model", "text.txt", "m.gguf"}},
      {{"evaluate", "model", "--text", "text.txt", "--reference", "m.gguf"},
       "--cache",
       {"model", "text.txt", "m.gguf"}},
      {{"study", "backend", "model", "--texts", "text.txt", "--plan", "plan.json", "--calibration",
        "second.txt"},
       "-o",
       {"model", "text.txt", "plan.json", "second.txt"}},
  };
  return writers;
}

TEST_F(Safety, NoCommandTouchesItsInputs) {
  fs::create_directories(folder / "in");
  MakeTinyModel(folder / "in/model", {.layers = 1});
  fs::create_directories(folder / "in/run");
  fs::create_directories(folder / "in/codes");
  for (const char* file : {"text.txt", "second.txt", "m.gguf"}) {
    WriteText(folder / "in" / file, std::string(300, 'a'));
  }
  for (const char* kind : {"plan", "diagnostics", "sensitivities", "scores"}) {
    const std::string name = kind == std::string("sensitivities") ? "s" : kind;
    WriteText(folder / "in" / (name + ".json"),
              R"({"schema": 1, "kind": ")" + std::string(kind) + "\"}");
  }
  WriteText(folder / "in/run/lieq.json",
            R"({"schema": 1, "kind": "quantized model", "program": "lieq 1"})");
  WriteText(folder / "in/codes/settings.json", R"({"version": "1", "model": "x", "method": "y"})");
  fs::create_directory(folder / "links");
  int runs = 0;
  for (const Writer& writer : Writers()) {
    for (const std::string& input : writer.inputs) {
      const fs::path path = folder / "in" / input;
      const bool is_folder = fs::is_directory(path);
      std::map<std::string, fs::path> outputs{{"equal", path},
                                              {"equal, with dots", folder / "in/../in" / input},
                                              {"above", folder / "in"},
                                              {"far above", folder.path()}};
      const fs::path link = folder / "links" / ("to-" + input), hard = folder / "links/hard";
      fs::create_symlink(path, link);
      outputs["linked"] = link;
      fs::create_directory_symlink(folder / "in", folder / "links/above");
      outputs["above, linked"] = folder / "links/above";
      if (is_folder && input != "run") {  // a report may lie in its run
        outputs["below"] = path / "out";
        outputs["below, linked"] = link / "out";
      }
      fs::path file = path;
      if (input == "model") file = path / "model.safetensors";
      if (fs::is_regular_file(file)) {
        fs::create_hard_link(file, hard);
        outputs["linked hard"] = hard;
      }
      const auto before = Tree(folder.path());
      for (const auto& [how, output] : outputs) {
        for (const bool force : {false, true}) {
          if (force && !writer.takes_force) continue;
          std::vector<std::string> words;
          for (const std::string& word : writer.words) {
            words.push_back(fs::exists(folder / "in" / word) ? Path("in/" + word) : word);
          }
          words.insert(words.end(), {writer.option, output.string(), "-q"});
          if (force) words.emplace_back("--force");

          const Outcome outcome = Lieq(words);

          ++runs;
          const std::string what = testing::PrintToString(words) + ", " + input + ": " + how;
          EXPECT_EQ(outcome.exit, 3) << what << outcome.err;
          if (input != "codes") {
            EXPECT_THAT(outcome.err, HasSubstr("which would be lost or changed")) << what;
          }
          ASSERT_EQ(Tree(folder.path()), before) << what;
        }
      }
      // The input by a link, the output by its name.
      fs::remove(hard);
      fs::remove(folder / "links/above");
      fs::remove(link);
    }
  }
  EXPECT_GT(runs, 200);
}

TEST_F(Safety, OutputsAreNamedAsShellsCompleteThem) {
  MakeTinyModel(folder / "model", {.layers = 2});
  ASSERT_EQ(Quantize(Path("plain")).exit, 0);
  const auto same = [&](const std::string& out, const std::function<Outcome()>& run) {
    const Outcome outcome = run();
    EXPECT_EQ(outcome.exit, 0) << out << outcome.err;
    EXPECT_EQ(Contents(folder / out), Contents(folder / "plain")) << out;
    EXPECT_FALSE(fs::exists(folder / (out + ".run"))) << out;
    EXPECT_FALSE(fs::exists(folder / out / ".run")) << out;
  };
  same("new", [&] { return Quantize(Path("new/")); });
  fs::create_directory(folder / "empty");
  same("empty", [&] { return Quantize(Path("empty/")); });
  fs::create_directory(folder / "forced");
  same("forced", [&] { return Quantize(Path("forced//"), {"--force"}); });
  // The folder that a shell is in stays that folder.
  fs::create_directory(folder / "here");
  same("here", [&] { return In("here", [&] { return Quantize("."); }); });
  same("here", [&] { return In("here", [&] { return Quantize("./", {"--force"}); }); });
  same("here", [&] { return In("here", [&] { return Quantize("."); }); });  // done already
  fs::create_directory_symlink(folder / "empty", folder / "link");
  same("empty", [&] { return Quantize(Path("link"), {"--force"}); });
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  // A run that ended while its files moved into the folder goes on.
  fs::create_directory(folder / "here.run");
  WriteText(folder / "here.run/lock", "17\n");
  WriteText(folder / "here.run/filling", "");
  fs::remove(folder / "here/lieq.json");
  fs::remove(folder / "here/config.json");
  same("here", [&] { return In("here", [&] { return Quantize("."); }); });
}

TEST_F(Safety, AFileIsNotWrittenOverAFolderNorAFolderOverAFile) {
  MakeTinyModel(folder / "model", {.layers = 1});
  fs::create_directory(folder / "folder");
  WriteText(folder / "file", "mine");
  const auto before = Tree(folder.path());
  for (const std::string place : {"folder", "folder/", "new/", "file"}) {
    for (const bool force : {false, true}) {
      std::vector<std::string> words{"export", Path("model"), "--to", "gguf", "-o", Path(place)};
      if (force) words.emplace_back("--force");
      EXPECT_EQ(Lieq(words).exit, 3) << place;
    }
    EXPECT_EQ(Lieq({"plan", Path("model"), "--uniform", "2", "-o", Path(place)}).exit, 3) << place;
  }
  EXPECT_EQ(Quantize(Path("file"), {"--force"}).exit, 3);
  EXPECT_EQ(Quantize("/proc/out").exit, 3);
  EXPECT_EQ(Tree(folder.path()), before);
}

TEST_F(Safety, ForceReplacesWhatTheProgramMadeAndNothingElse) {
  MakeTinyModel(folder / "model", {.layers = 1});
  ASSERT_EQ(Quantize(Path("out")).exit, 0);
  for (const std::string to : {"compressed-tensors", "gptq", "mlx", "gguf"}) {
    const std::vector<std::string> words{"export", Path("out"), "--to", to, "-o", Path(to)};
    std::vector<std::string> forced = words;
    forced.emplace_back("--force");
    const Outcome first = Lieq(words);
    ASSERT_EQ(first.exit, 0) << to << first.err;
    EXPECT_THAT(first.out,
                HasSubstr("check again    lieq verify " + Path(to) + " --against " + Path("out")));
    const Outcome again = Lieq(words);
    EXPECT_EQ(again.exit, 3) << to;
    EXPECT_THAT(again.err, HasSubstr("--force"));
    const Outcome replaced = Lieq(forced);
    EXPECT_EQ(replaced.exit, 0) << to << replaced.err;
    // A file of someone's own in it, or in its place, is named and kept.
    if (to != "gguf") WriteText(folder / to / "notes.txt", "mine");
    if (to == "gguf") WriteText(folder / to, "GGUF of someone else");
    const auto before = Tree(folder.path());
    const Outcome foreign = Lieq(forced);
    EXPECT_EQ(foreign.exit, 3) << to;
    EXPECT_THAT(foreign.err, HasSubstr("left alone"));
    EXPECT_THAT(foreign.err, HasSubstr(to == "gguf" ? "another file" : "notes.txt"));
    EXPECT_EQ(Tree(folder.path()), before);
  }
}

TEST_F(Safety, RecordsReplaceRecordsOfTheirKindAlone) {
  MakeTinyModel(folder / "model", {.layers = 1});
  WriteText(folder / "text", std::string(3000, 'a'));
  const std::vector<std::vector<std::string>> commands{
      {"plan", Path("model"), "--uniform", "2", "-o"},
      {"diagnose", Path("model"), "--inputs", "weights", "-o"},
      {"calibrate", Path("model"), "--calibration", Path("text"), "--context", "64", "--imatrix"},
      {"plan", Path("model"), "--uniform", "2", "--as", "gptqmodel", "-o"},
      {"report", Path("record.json"), "-o"}};
  WriteText(folder / "record.json", R"({"schema": 1, "kind": "run", "seconds": 2})");
  for (std::size_t i = 0; i < commands.size(); ++i) {
    const std::string name = Path("file" + std::to_string(i) + (i == 2 ? ".gguf" : ""));
    std::vector<std::string> words = commands[i];
    words.push_back(name);
    for (int run = 0; run < 2; ++run) {
      const Outcome outcome = Lieq(words);
      EXPECT_EQ(outcome.exit, 0) << words[0] << outcome.err;
    }
    WriteText(name, R"({"theme": "dark"})");
    const Outcome refused = Lieq(words);
    EXPECT_EQ(refused.exit, 3) << words[0];
    EXPECT_THAT(refused.err, HasSubstr("left alone"));
    EXPECT_EQ(ReadText(name), R"({"theme": "dark"})") << words[0];
  }
}

TEST_F(Safety, OutRunOfSomeoneElseIsNotTouched) {
  MakeTinyModel(folder / "model", {.layers = 1});
  fs::create_directories(folder / "out.run/out");
  WriteText(folder / "out.run/notes.txt", "mine");
  WriteText(folder / "out.run/out/notes.txt", "mine");
  const auto before = Tree(folder.path());
  for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--force"}}) {
    const Outcome outcome = Quantize(Path("out"), more);
    EXPECT_EQ(outcome.exit, 3);
    EXPECT_THAT(outcome.err, HasSubstr("notes.txt"));
    EXPECT_EQ(Lieq({"export", Path("model"), "--to", "gguf", "-o", Path("out")}).exit, 3);
    EXPECT_EQ(Tree(folder.path()), before);
  }
}

TEST_F(Safety, AnExportKeepsAnUnfinishedQuantize) {
  MakeTinyModel(folder / "model", {.layers = 2});
  ASSERT_EQ(Quantize(Path("done")).exit, 0);
  fs::create_directory(folder / "out.run");
  fs::copy_file(folder / "done/lieq.json", folder / "out.run/settings.json");
  WriteText(folder / "out.run/settings.json",
            ReadRecord(folder / "done/lieq.json")["settings"].dump());
  WriteText(folder / "out.run/layer-00000.safetensors", "a layer");
  const auto before = Tree(folder.path());
  for (const std::string to : {"mlx", "gguf"}) {
    for (const std::string force : {"--force", "-q"}) {
      const Outcome outcome = Lieq({"export", Path("done"), "--to", to, "-o", Path("out"), force});
      EXPECT_EQ(outcome.exit, 3) << to;
      EXPECT_THAT(outcome.err, HasSubstr("unfinished run"));
      EXPECT_EQ(Tree(folder.path()), before);
    }
  }
  // Nor does a command that finds its own output done throw another's unfinished run away.
  fs::rename(folder / "out.run", folder / "done.run");
  Record settings = ReadRecord(folder / "done.run/settings.json");
  settings["uniform"] = 3;
  WriteText(folder / "done.run/settings.json", settings.dump());
  const Outcome done = Quantize(Path("done"));
  EXPECT_EQ(done.exit, 0) << done.err;
  EXPECT_TRUE(fs::exists(folder / "done.run/layer-00000.safetensors"));
}

TEST_F(Safety, ARefusedCommandLeavesNothingBehind) {
  MakeTinyModel(folder / "model", {.layers = 2});
  WriteText(folder / "text", std::string(3000, 'a'));
  const auto before = Tree(folder.path());
  const std::vector<std::vector<std::string>> refused{
      {"quantize", Path("model"), "-o", Path("out"), "--uniform", "4", "--group-size", "256"},
      {"quantize", Path("model"), "-o", Path("out"), "--bpw", "1.1", "--calibration", Path("text"),
       "--context", "64", "--damage-windows", "2", "--damage-context", "64", "--method", "rtn"},
      {"quantize", Path("model"), "-o", Path("out"), "--bpw", "2.7", "--candidates", "2:256,4:256",
       "--calibration", Path("text"), "--context", "64", "--damage-context", "64"},
      {"plan", Path("model"), "-o", Path("p.json"), "--bpw", "1.1", "--calibration", Path("text"),
       "--context", "64", "--damage-windows", "2", "--damage-context", "64", "--method", "rtn"},
      {"study", "layers", Path("model"), "-o", Path("study"), "--texts", Path("text"),
       "--calibration", Path("text"), "--group-size", "256"},
      {"export", Path("model"), "--to", "mlx", "-o", Path("out")}};
  for (const std::vector<std::string>& words : refused) {
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 3) << testing::PrintToString(words) << outcome.err;
    EXPECT_THAT(outcome.err, Not(HasSubstr("null")));
    EXPECT_EQ(Tree(folder.path()), before) << testing::PrintToString(words);
  }
  EXPECT_EQ(Quantize(Path("out")).exit, 0);
}

TEST_F(Safety, SettingsThatAreNotThereAreNotCalledNull) {
  MakeTinyModel(folder / "model", {.layers = 1});
  ASSERT_EQ(Quantize(Path("out")).exit, 0);
  fs::create_directory(folder / "other.run");
  WriteText(folder / "other.run/settings.json",
            ReadRecord(folder / "out/lieq.json")["settings"].dump());
  const Outcome outcome = Quantize(Path("other"), {"--embedding-bits", "8"});
  EXPECT_EQ(outcome.exit, 3);
  EXPECT_THAT(outcome.err, HasSubstr("expected: none"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("null")));
  WriteText(folder / "other.run/settings.json", "{\"version\": ");
  WriteText(folder / "other.run/lock", "");
  const Outcome cut = Quantize(Path("other"));
  EXPECT_EQ(cut.exit, 3);
  EXPECT_THAT(cut.err, HasSubstr("--force starts over"));
  EXPECT_EQ(Quantize(Path("other"), {"--force"}).exit, 0);
}

TEST_F(Safety, FilesOfARunThatWereCutAreMadeAgain) {
  MakeTinyModel(folder / "model", {.layers = 4, .hidden = 64, .intermediate = 64});
  WriteText(folder / "text", std::string(4000, 'a') + std::string(4000, 'b'));
  const std::vector<std::string> ends{
      "quantize",      Path("model"), "-o",           Path("out"), "--bits",           "2.5",
      "--method",      "gptq",        "--samples",    "2",         "--context",        "64",
      "--calibration", Path("text"),  "--group-size", "32",        "--embedding-bits", "8"};
  ASSERT_EQ(Lieq(ends).exit, 0);
  const auto whole = Contents(folder / "out");
  fs::remove_all(folder / "out");
  const auto catch_it = [&] {  // with all layers done
    const Outcome caught = RunInterrupted(folder.path(), "KILL", "writing:0", ends);
    ASSERT_EQ(caught.exit, 128 + SIGKILL) << caught.err;
    ASSERT_TRUE(fs::exists(folder / "out.run/layer-00003.safetensors"));
  };
  for (const std::string file :
       {"edges.safetensors", "layer-00001.safetensors", "layer-00003.safetensors", "plan.json"}) {
    catch_it();
    const fs::path path = folder / "out.run" / file;
    const std::string content = ReadText(path);
    for (const std::size_t kept : {content.size() / 2, content.size() - 1, std::size_t{0}}) {
      if (!fs::exists(folder / "out.run")) catch_it();
      WriteText(path, content.substr(0, kept));

      const Outcome again = Lieq(ends);

      EXPECT_EQ(again.exit, 0) << file << again.err;
      if (kept != content.size() - 1 || file != "plan.json") {  // a newline less is whole
        EXPECT_THAT(again.err, HasSubstr(file + " cannot be read and is made again")) << kept;
      }
      EXPECT_EQ(Contents(folder / "out"), whole) << file << kept;
      fs::remove_all(folder / "out");
    }
  }
}

TEST_F(Safety, CodesThatWereCutAreMadeAgain) {
  MakeTinyModel(folder / "model", {.layers = 2});
  const std::vector<std::string> words{"--assemble", "--codes", Path("codes")};
  ASSERT_EQ(Quantize(Path("one"), words).exit, 0);
  fs::path file;
  for (const auto& entry : fs::directory_iterator(folder / "codes")) {
    if (entry.path().extension() == ".safetensors") file = entry.path();
  }
  const std::string content = ReadText(file);
  WriteText(file, content.substr(0, content.size() / 3));
  const Outcome again = Quantize(Path("two"), words);
  EXPECT_EQ(again.exit, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("made again"));
  EXPECT_EQ(ReadText(file), content);
  EXPECT_EQ(Contents(folder / "two"), Contents(folder / "one"));
  // A settings.json of another program is no folder of codes.
  fs::create_directory(folder / "editor");
  WriteText(folder / "editor/settings.json", R"({"theme": "dark"})");
  const Outcome editor = Quantize(Path("three"), {"--assemble", "--codes", Path("editor")});
  EXPECT_EQ(editor.exit, 3);
  EXPECT_THAT(editor.err, HasSubstr("not a folder of codes"));
  EXPECT_EQ(ReadText(folder / "editor/settings.json"), R"({"theme": "dark"})");
}

TEST_F(Safety, AReferenceThatWasCutOrCannotBeKeptIsNoEndOfTheRun) {
  MakeTinyModel(folder / "model", {.layers = 1});
  WriteText(folder / "text", std::string(3000, 'a') + std::string(3000, 'b'));
  const auto evaluate = [&](const std::string& cache) {
    return Lieq({"evaluate", Path("model"), "--text", Path("text"), "--reference", Path("model"),
                 "--context", "64", "--samples", "2", "--cache", cache, "--json"});
  };
  ASSERT_EQ(evaluate(Path("cache")).exit, 0);
  for (const auto& entry : fs::directory_iterator(folder / "cache")) {
    const std::string content = ReadText(entry.path());
    WriteText(entry.path(), content.substr(0, content.size() / 2));
  }
  const Outcome again = evaluate(Path("cache"));
  EXPECT_EQ(again.exit, 0) << again.err;
  const Outcome refused = evaluate("/proc/none");
  EXPECT_EQ(refused.exit, 3);
  EXPECT_THAT(refused.err, HasSubstr("--cache FOLDER"));
}

TEST_F(Safety, PrintedCommandsCanBePasted) {
  MakeTinyModel(folder / "a model", {.layers = 1});
  const Outcome made = Lieq({"quantize", Path("a model"), "-o", Path("it's out"), "--uniform", "4",
                             "--group-size", "32", "--method", "rtn"});
  ASSERT_EQ(made.exit, 0) << made.err;
  EXPECT_THAT(ReadText(folder / "it's out/README.md"), HasSubstr("lieq quantize 'a model' -o OUT"));
  for (const std::string to : {"compressed-tensors", "gptq", "mlx", "gguf"}) {
    const Outcome exported =
        Lieq({"export", Path("it's out"), "--to", to, "-o", Path("to " + to), "--json"});
    ASSERT_EQ(exported.exit, 0) << exported.err;
    const Json record = ParseJson(exported.out, "stdout");
    EXPECT_THAT(record["serve"].get<std::string>(), HasSubstr("'" + Path("to " + to) + "'"));
    EXPECT_THAT(record["verify"].get<std::string>(), HasSubstr("/it'\\''s out'"));
    const std::string command = record["verify"].get<std::string>();
    const std::string run = LIEQ_PROGRAM + command.substr(4) + " > " + (log / "o").string();
    EXPECT_EQ(std::system(run.c_str()), 0) << command;
  }
}

TEST_F(Safety, AStudySaysHowItGoesOn) {
  MakeTinyModel(folder / "model", {.layers = 8, .hidden = 128, .intermediate = 256});
  WriteText(folder / "a text.txt", std::string(6000, 'a') + std::string(6000, 'b'));
  const std::vector<std::string> words{"study",
                                       "backend",
                                       Path("model"),
                                       "-o",
                                       Path("out"),
                                       "--texts",
                                       Path("a text.txt"),
                                       "--windows",
                                       "2",
                                       "--lengths",
                                       "64",
                                       "--context",
                                       "64",
                                       "--calibration",
                                       Path("a text.txt"),
                                       "--samples",
                                       "8",
                                       "--group-sizes",
                                       "64,32,16",
                                       "--methods",
                                       "gptq,best"};
  const Outcome stopped = RunInterrupted(log.path(), "TERM", "codes of candidates:1:2", words);
  EXPECT_EQ(stopped.exit, 128 + SIGTERM) << stopped.err;
  EXPECT_TRUE(fs::exists(folder / "out/study.json"));
  EXPECT_THAT(stopped.err, HasSubstr("To go on:"));
  EXPECT_THAT(stopped.err, HasSubstr("'" + Path("a text.txt") + "'"));
}

}  // namespace
}  // namespace lieq
