# What `cmake --install` puts where: bin/lieq with man page and bash completion, the headers, one
# static library with the config of find_package(lieq) and lieq.pc, and the documents.
include(CMakePackageConfigHelpers)

# One archive of all folders but cli/ and serve/, which are the program. A static library takes the objects as
# they are, so nothing is compiled twice and users link one file in any order.
get_property(_folders GLOBAL PROPERTY LIEQ_FOLDERS)
list(REMOVE_ITEM _folders lieq_cli lieq_serve)
add_library(lieq STATIC)
add_library(lieq::lieq ALIAS lieq)
target_include_directories(lieq PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(lieq PUBLIC cxx_std_20)
set_target_properties(lieq PROPERTIES LINKER_LANGUAGE CXX)
target_link_libraries(lieq PRIVATE $<BUILD_INTERFACE:lieq_flags>
  PUBLIC Threads::Threads nlohmann_json::nlohmann_json fmt::fmt PkgConfig::OPENBLAS
    PkgConfig::PCRE2 PkgConfig::UTF8PROC PkgConfig::XXHASH PkgConfig::ZLIB)
foreach(target ${_folders})
  target_sources(lieq PRIVATE $<TARGET_OBJECTS:${target}>)
  string(REPLACE "lieq_" "" folder ${target})
  # Headers that only the folder's own sources include stay at home.
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/src/lieq/${folder}
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lieq COMPONENT development
    FILES_MATCHING PATTERN "*.h"
    PATTERN "blas.h" EXCLUDE REGEX "/device/(cpu|cuda)$" EXCLUDE PATTERN "*_internal.h" EXCLUDE)
endforeach()

set(_config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/lieq)
install(TARGETS lieq EXPORT lieqTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(EXPORT lieqTargets NAMESPACE lieq:: DESTINATION ${_config_folder} COMPONENT development)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/lieqConfig.cmake.in
  ${PROJECT_BINARY_DIR}/lieqConfig.cmake INSTALL_DESTINATION ${_config_folder})
# Before 1.0 a minor version may break what was built against the last one.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/lieqConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/lieqConfig.cmake ${PROJECT_BINARY_DIR}/lieqConfigVersion.cmake
  DESTINATION ${_config_folder} COMPONENT development)

# The .pc finds its prefix from where it lies, so that a staged or moved tree works.
cmake_path(SET _pc_folder NORMALIZE "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig")
cmake_path(RELATIVE_PATH _pc_folder BASE_DIRECTORY "/prefix" OUTPUT_VARIABLE _pc_relative)
string(REGEX REPLACE "[^/]+" ".." LIEQ_PC_TO_PREFIX "${_pc_relative}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/lieq.pc.in ${PROJECT_BINARY_DIR}/lieq.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/lieq.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)

# The program prints its man page and completion from its own table of options.
if(TARGET lieq_program)
  install(TARGETS lieq_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
  set(_man ${PROJECT_BINARY_DIR}/generated/lieq.1)
  set(_completion ${PROJECT_BINARY_DIR}/generated/lieq.bash)
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/generated)
  add_custom_command(OUTPUT ${_man} ${_completion}
    COMMAND lieq_program --print-man > ${_man}
    COMMAND lieq_program --print-completion bash > ${_completion}
    DEPENDS lieq_program COMMENT "Man page and bash completion")
  add_custom_target(lieq_generated ALL DEPENDS ${_man} ${_completion})
  install(FILES ${_man} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program)
  install(FILES ${_completion} RENAME lieq
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT program)
endif()

install(FILES README.md CHANGELOG.md LICENSE THIRD_PARTY_LICENSES.md CITATION.cff
  DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT program)
install(FILES cmake/copyright DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT program)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs
  COMPONENT program FILES_MATCHING PATTERN "*.md" PATTERN "*.ipynb")
