# Writes a ctest script with a test for each case of a GoogleTest program, by the name PREFIX.Suite.Case:
# gtest_discover_tests, but that the seeds of a property are one test. They are hundreds, and a process
# for each would take longer than what it runs.
#
# usage: cmake -DPROGRAM=... [-DEMULATOR="what runs it"] -DPREFIX=... -DLABELS=... -DCOST=... -DOUTPUT=... -P LieqCases.cmake
separate_arguments(EMULATOR UNIX_COMMAND "${EMULATOR}")
list(TRANSFORM EMULATOR REPLACE "(.+)" "[[\\1]]" OUTPUT_VARIABLE run)
list(JOIN run " " run)
execute_process(COMMAND ${EMULATOR} ${PROGRAM} --gtest_list_tests OUTPUT_VARIABLE list
  COMMAND_ERROR_IS_FATAL ANY TIMEOUT 60)
string(REGEX REPLACE " *#[^\n]*" "" list "${list}") # values, which may hold anything
string(REPLACE "\n" ";" lines "${list}")
set(script "")
set(last "")
foreach(line ${lines})
  if(line MATCHES "^([^ ]+)[.]$")
    set(suite ${CMAKE_MATCH_1})
    continue()
  elseif(NOT line MATCHES "^  ([^ ]+)$")
    continue()
  endif()
  set(case ${suite}.${CMAKE_MATCH_1})
  set(filter ${case})
  if(suite MATCHES "^Seeds/")
    string(REGEX REPLACE "/[^/]*$" "" case ${case})
    set(filter "${case}/*")
  endif()
  if(NOT case STREQUAL last)
    string(APPEND script "add_test([[${PREFIX}.${case}]] ${run} [[${PROGRAM}]] [[--gtest_filter=${filter}]])\n"
      "set_tests_properties([[${PREFIX}.${case}]] PROPERTIES LABELS [[${LABELS}]] TIMEOUT 900 "
      "COST ${COST})\n")
    if(filter STREQUAL case)  # ctest takes a test that prints it for skipped, whatever its exit code
      string(APPEND script "set_tests_properties([[${PREFIX}.${case}]] PROPERTIES "
        "SKIP_REGULAR_EXPRESSION [=[\\[  SKIPPED \\]]=])\n")
    endif()
  endif()
  set(last ${case})
endforeach()
file(WRITE ${OUTPUT} "${script}")
