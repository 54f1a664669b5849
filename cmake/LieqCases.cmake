# Writes a ctest script with a test for each case of a GoogleTest program, by the name PREFIX.Suite.Case:
# gtest_discover_tests, but that the seeds of a property are one test. They are hundreds, and a process
# for each would take longer than what it runs.
#
# With -DTOGETHER=ON a test is some forty cases, by the name PREFIX.shard.N: under the sanitizers the start
# of a process takes longer than most cases. What fails is named by what the test prints.
#
# usage: cmake -DPROGRAM=... [-DEMULATOR="what runs it"] -DPREFIX=... -DLABELS=... -DCOST=... -DOUTPUT=... [-DTOGETHER=ON]
#          -P LieqCases.cmake
separate_arguments(EMULATOR UNIX_COMMAND "${EMULATOR}")
list(TRANSFORM EMULATOR REPLACE "(.+)" "[[\\1]]" OUTPUT_VARIABLE run)
list(JOIN run " " run)
execute_process(COMMAND ${EMULATOR} ${PROGRAM} --gtest_list_tests OUTPUT_VARIABLE list
  COMMAND_ERROR_IS_FATAL ANY TIMEOUT 60)
string(REGEX REPLACE " *#[^\n]*" "" list "${list}") # values, which may hold anything
string(REPLACE "\n" ";" lines "${list}")
set(script "")
if(TOGETHER)
  string(REGEX MATCHALL "\n  [^ \n]" cases "${list}")
  list(LENGTH cases count)
  math(EXPR shards "(${count} + 39) / 40")
  if(shards EQUAL 0)
    message(FATAL_ERROR "${PROGRAM} has no cases")
  endif()
  foreach(shard RANGE 1 ${shards})
    math(EXPR index "${shard} - 1")
    string(APPEND script "add_test([[${PREFIX}.shard.${shard}]] ${run} [[${PROGRAM}]] [[--gtest_brief=1]])\n"
      "set_tests_properties([[${PREFIX}.shard.${shard}]] PROPERTIES LABELS [[${LABELS}]] TIMEOUT 900 "
      "COST ${COST} ENVIRONMENT [[GTEST_TOTAL_SHARDS=${shards};GTEST_SHARD_INDEX=${index}]])\n")
  endforeach()
  file(WRITE ${OUTPUT} "${script}")
  return()
endif()
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
