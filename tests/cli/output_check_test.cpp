// The check of outputs against inputs by itself, and that no option is left out of it.
#include "lieq/cli/output_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <set>

#include "lieq/cli/option_table.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

class OutputCheck : public testing::Test {
 protected:
  OutputCheck() {
    fs::create_directories(folder / "in/model/original");
    WriteText(folder / "in/model/config.json", "{}");
    WriteText(folder / "in/model/model.safetensors", "weights");
    WriteText(folder / "in/model/original/params.json", "{}");
    WriteText(folder / "in/text.txt", "a text");
  }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  /// What is wrong with these words; empty where nothing is.
  static std::string Check(std::vector<std::string> words) {
    words.insert(words.begin(), "lieq");
    std::vector<const char*> pointers;
    for (const std::string& word : words) pointers.push_back(word.c_str());
    const Arguments arguments = ParseArguments(static_cast<int>(words.size()), pointers.data());
    return ErrorOf([&] {
      CheckOutputs(WithPlainOutputs(arguments));
      return 0;
    });
  }
  std::string Quantize(const std::string& out, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"quantize", Path("in/model"), "-o", out};
    words.insert(words.end(), more.begin(), more.end());
    return Check(words);
  }
  std::string Plan(const std::string& out) const {
    return Check({"plan", Path("in/model"), "-o", out});
  }

  TempFolder folder;
};

/// What a path is called as the value of an option, and as a word of its own.
const std::set<std::string_view> kPathValues{"FILE", "FOLDER", "PATH", "MODEL"};
const std::set<std::string_view> kPathWords{"MODEL", "MODEL...", "RUN...", "A", "B", "EXPORT"};

TEST_F(OutputCheck, KnowsEveryOptionThatNamesAPath) {
  WriteText(folder / "task.json", R"({"like": "piqa"})");
  for (const CommandRow& command : Commands()) {
    Arguments arguments;
    arguments.command = command.name;
    std::set<std::string> names;
    const auto set = [&](const auto& row, std::string_view option) {
      const std::string name = Path(std::string(option) + " " + std::to_string(names.size()));
      if (option == "--recipe") WriteText(name, R"({"schema":1,"kind":"recipe","options":{}})");
      row.set(arguments, name);
      names.insert(name);
    };
    for (const PositionalRow& row : command.positionals) {
      if (kPathWords.contains(row.name)) set(row, row.name);
    }
    for (const OptionRow& row : Options()) {
      if ((row.commands & command.bit) != 0 && kPathValues.contains(row.value)) {
        set(row, row.names);
      }
    }
    if ((command.bit & kEvaluate) != 0) {
      arguments.evaluate.tasks.emplace_back();
      arguments.task_files.emplace_back(Path("task.json"));
    }
    for (const InputPlace& place : InputsOf(arguments)) names.erase(place.path.string());
    for (const OutputPlace& place : OutputsOf(arguments)) names.erase(place.path.string());
    EXPECT_THAT(names, IsEmpty()) << command.name;
  }
}

TEST_F(OutputCheck, RefusesAnOutputThatIsHoldsOrLiesInTheModel) {
  EXPECT_THAT(Quantize(Path("in/model")), HasSubstr("the output is the source model"));
  EXPECT_THAT(Quantize(Path("in/model/")), HasSubstr("is the source model"));
  EXPECT_THAT(Quantize(Path("in/../in/model")), HasSubstr("is the source model"));
  EXPECT_THAT(Quantize(Path("in")), HasSubstr("holds the source model"));
  EXPECT_THAT(Quantize(folder.path().string(), {"--force"}), HasSubstr("holds the source model"));
  EXPECT_THAT(Quantize("/", {"--force"}), HasSubstr("holds the source model"));
  EXPECT_THAT(Quantize(Path("in/model/out")), HasSubstr("lies in the source model"));
  EXPECT_THAT(Quantize(Path("in/model/original/out")), HasSubstr("lies in the source model"));
  EXPECT_THAT(Plan(Path("in/model/plan.json")), HasSubstr("lies in the source model"));
  EXPECT_THAT(Plan(Path("in/model/config.json")), HasSubstr("is the source model"));
  EXPECT_THAT(Quantize(Path("out")), IsEmpty());
  EXPECT_THAT(Quantize(Path("in/model-2")), IsEmpty());  // a name that begins alike
  EXPECT_THAT(Plan(Path("in/plan.json")), IsEmpty());
}

TEST_F(OutputCheck, SeesThroughLinks) {
  fs::create_directory_symlink(folder / "in/model", folder / "link");
  fs::create_directory_symlink(folder / "in", folder / "above");
  fs::create_symlink(folder / "in/model/model.safetensors", folder / "w.json");
  fs::create_hard_link(folder / "in/model/model.safetensors", folder / "hard.json");
  EXPECT_THAT(Quantize(Path("link")), HasSubstr("is the source model"));
  EXPECT_THAT(Quantize(Path("link/out")), HasSubstr("lies in the source model"));
  EXPECT_THAT(Quantize(Path("above")), HasSubstr("holds the source model"));
  EXPECT_THAT(Plan(Path("w.json")), HasSubstr("is the source model"));
  EXPECT_THAT(Plan(Path("hard.json")), HasSubstr("is the source model"));
  EXPECT_THAT(Check({"quantize", Path("link"), "-o", Path("in/model")}),
              HasSubstr("is the source model"));
  EXPECT_THAT(Check({"quantize", Path("link"), "-o", Path("in")}), HasSubstr("holds the source"));
  // A folder with a link to an input: the link would go.
  fs::create_directory(folder / "out");
  fs::create_symlink(folder / "in/text.txt", folder / "out/model.safetensors");
  EXPECT_THAT(Quantize(Path("out"), {"--calibration", Path("in/text.txt"), "--force"}),
              HasSubstr("holds a link to a calibration text"));
  // The link that was named lies in the output, what it leads to does not.
  fs::create_directory(folder / "work");
  fs::create_directory_symlink(folder / "in/model", folder / "work/model");
  EXPECT_THAT(Check({"quantize", Path("work/model"), "-o", Path("work"), "--force"}),
              HasSubstr("holds the source model"));
  fs::create_symlink(folder / "nothing", folder / "dangling");
  EXPECT_THAT(Quantize(Path("dangling")), HasSubstr("a link to nothing"));
}

TEST_F(OutputCheck, TakesTheFilesOfAHubCacheForTheModel) {
  // models--a--b/snapshots/x/model.safetensors -> ../../blobs/1
  fs::create_directories(folder / "hub/blobs");
  fs::create_directories(folder / "hub/snapshots/x");
  WriteText(folder / "hub/blobs/1", "weights");
  fs::create_symlink("../../blobs/1", folder / "hub/snapshots/x/model.safetensors");
  const auto quantize = [&](const std::string& out) {
    return Check({"quantize", Path("hub/snapshots/x"), "-o", Path(out), "--force"});
  };
  EXPECT_THAT(quantize("hub/blobs"), HasSubstr("holds the source model"));
  EXPECT_THAT(quantize("hub"), HasSubstr("holds the source model"));
  EXPECT_THAT(quantize("hub/snapshots/y"), IsEmpty());
  EXPECT_THAT(Check({"plan", Path("hub/snapshots/x"), "-o", Path("hub/blobs/1")}),
              HasSubstr("is the source model"));
}

TEST_F(OutputCheck, KeepsOutputsApartFromOneAnother) {
  const auto optimal = [&](const std::string& codes) {
    return Quantize(Path("out"), {"--bpw", "2.7", "--codes", codes});
  };
  EXPECT_THAT(optimal(Path("out/codes")), HasSubstr("the folder of codes lies in the output"));
  EXPECT_THAT(optimal(Path("out")), HasSubstr("lies in"));
  EXPECT_THAT(optimal(Path("out.run/codes")), HasSubstr("lies in the working folder"));
  EXPECT_THAT(optimal(Path("codes")), IsEmpty());
  const auto study = [&](const std::string& codes) {
    return Check({"study", "layers", Path("in/model"), "-o", Path("study"), "--texts",
                  Path("in/text.txt"), "--codes", codes});
  };
  EXPECT_THAT(study(Path("study/codes")), IsEmpty());
  EXPECT_THAT(study(Path("study")), HasSubstr("lies in"));
}

TEST_F(OutputCheck, AReportMayLieInItsRunAndReplacesOnlyAReport) {
  fs::create_directory(folder / "run");
  WriteText(folder / "run/lieq.json", R"({"kind": "quantized model", "program": "lieq 1"})");
  const auto report = [&](const std::string& out) {
    return Check({"report", Path("run"), "-o", Path(out)});
  };
  EXPECT_THAT(report("run/report.html"), IsEmpty());
  WriteText(folder / "run/report.html",
            "<!doctype html>\n<html><head><title>A · LieQ report</title></head></html>");
  EXPECT_THAT(report("run/report.html"), IsEmpty());
  WriteText(folder / "run/report.html", "<!doctype html>\n<html>my own page</html>");
  EXPECT_THAT(report("run/report.html"), HasSubstr("another file, which is left alone"));
  EXPECT_THAT(report("run/lieq.json"), HasSubstr("a report of this program"));
  EXPECT_THAT(report("run"), HasSubstr("is a run"));
}

TEST_F(OutputCheck, ReplacesFilesOfTheSameKindAlone) {
  WriteText(folder / "p.json", R"({"schema": 1, "kind": "plan", "layers": []})");
  EXPECT_THAT(Plan(Path("p.json")), IsEmpty());
  WriteText(folder / "p.json", "");  // nothing is lost, as with a name from mktemp
  EXPECT_THAT(Plan(Path("p.json")), IsEmpty());
  for (const char* other : {R"({"schema": 1, "kind": "diagnostics"})", R"({"kind": 3})", "[]", "{",
                            "notes", "\xFF\xFE{", R"({"layers": []})"}) {
    WriteText(folder / "p.json", other);
    EXPECT_THAT(Plan(Path("p.json")), HasSubstr("expected: a new name, or a plan")) << other;
  }
  EXPECT_THAT(Plan(Path("in")), HasSubstr("holds the source model"));
  fs::create_directory(folder / "folder");
  EXPECT_THAT(Plan(Path("folder")), HasSubstr("a folder is there"));
  EXPECT_THAT(Plan(Path("folder/")), HasSubstr("a folder is there"));
  EXPECT_THAT(Plan(Path("new/")), HasSubstr("this names a folder"));
  ASSERT_EQ(::mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(Plan(Path("pipe")), HasSubstr("a device, a pipe or the like"));
  const auto as = [&](const std::string& tool) {
    return Check({"plan", Path("in/model"), "-o", Path("p.json"), "--as", tool});
  };
  WriteText(folder / "p.json", "^blk\\.0\\.attn_q\\.weight$=q2_K\n");
  EXPECT_THAT(as("llama-quantize"), IsEmpty());
  EXPECT_THAT(as("mlx"), IsEmpty());
  WriteText(folder / "p.json", R"({"group_size": 64, "bits": 2, "model.layers.0.x": {}})");
  EXPECT_THAT(as("mlx"), IsEmpty());
  WriteText(folder / "p.json", R"({"bits": 2, "colour": "blue"})");
  EXPECT_THAT(as("auto-round"), HasSubstr("left alone"));
}

TEST_F(OutputCheck, NamesWhatIsForeignInTheWay) {
  EXPECT_THAT(Quantize(Path("new/")), IsEmpty());
  fs::create_directory(folder / "out");
  EXPECT_THAT(Quantize(Path("out")), IsEmpty());
  WriteText(folder / "out/notes.txt", "mine");
  for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--force"}}) {
    EXPECT_THAT(Quantize(Path("out"), more), HasSubstr("found:    notes.txt"));
  }
  WriteText(folder / "out/lieq.json", R"({"kind": "quantized model", "program": "lieq 1"})");
  WriteText(folder / "out/eval-wiki.json", "{}");
  EXPECT_THAT(Quantize(Path("out"), {"--force"}), HasSubstr("found:    notes.txt"));
  fs::remove(folder / "out/notes.txt");
  EXPECT_THAT(Quantize(Path("out"), {"--force"}), IsEmpty());
  WriteText(folder / "out/lieq.json", R"({"kind": "quantized model"})");  // someone else's
  EXPECT_THAT(Quantize(Path("out"), {"--force"}), HasSubstr("left alone"));
  WriteText(folder / "file", "mine");
  EXPECT_THAT(Quantize(Path("file"), {"--force"}), HasSubstr("a file is there"));
}

TEST_F(OutputCheck, LeavesAWorkingFolderAloneThatItDidNotMake) {
  fs::create_directory(folder / "out.run");
  EXPECT_THAT(Quantize(Path("out")), IsEmpty());
  WriteText(folder / "out.run/notes.txt", "mine");
  EXPECT_THAT(Quantize(Path("out"), {"--force"}), HasSubstr("notes.txt"));
  WriteText(folder / "out.run/lock", "17\n");
  EXPECT_THAT(Quantize(Path("out"), {"--force"}), HasSubstr("notes.txt"));
  fs::remove(folder / "out.run/notes.txt");
  EXPECT_THAT(Quantize(Path("out")), IsEmpty());
  WriteText(folder / "out.run/settings.json", R"({"version": "1", "model": "x", "method": "rtn"})");
  WriteText(folder / "out.run/layer-00000.safetensors.tmp17", "cut");
  EXPECT_THAT(Quantize(Path("out")), IsEmpty());
  const std::vector<std::string> exported{"export", Path("in/model"), "--to",   "mlx",
                                          "-o",     Path("out"),      "--force"};
  EXPECT_THAT(Check(exported), HasSubstr("an unfinished run"));
  fs::remove_all(folder / "out.run");
  fs::create_directory_symlink(folder / "in", folder / "out.run");
  EXPECT_THAT(Quantize(Path("out")), HasSubstr("the working folder holds the source model"));
}

TEST_F(OutputCheck, FindsPlacesThatCannotBeWritten) {
  EXPECT_THAT(Quantize("/proc/out"), HasSubstr("/proc: cannot write into this folder"));
  EXPECT_THAT(Plan("/proc/plan.json"), HasSubstr("cannot write into this folder"));
  EXPECT_THAT(Plan(Path("no/such/plan.json")), HasSubstr("does not exist"));
  EXPECT_THAT(Quantize(Path("no/such/out")), HasSubstr("does not exist"));
  EXPECT_THAT(Check({"study", "layers", Path("in/model"), "-o", "/proc/a/b", "--texts",
                     Path("in/text.txt")}),
              HasSubstr("cannot write into this folder"));
  EXPECT_THAT(Check({"evaluate", Path("in/model"), "--text", Path("in/text.txt"), "--reference",
                     Path("in/model"), "--cache", "/proc/none"}),
              HasSubstr("--cache FOLDER names another place"));
  std::size_t count = 0;  // of files that the checks left behind
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder.path())) ++count;
  EXPECT_EQ(count, 1u);
}

}  // namespace
}  // namespace lieq
