# What cpack makes: one Debian package of the program, with its man page, completion and documents. What it
# depends on is read of the program itself (dpkg-shlibdeps, of Debian's dpkg-dev). See docs/install.md.
# The version is that of project(...): wheels read it there too (pyproject.toml).
file(STRINGS ${PROJECT_SOURCE_DIR}/CITATION.cff _cited REGEX "^version: ")
if(NOT _cited STREQUAL "version: ${PROJECT_VERSION}")
  message(FATAL_ERROR "CITATION.cff: expected version: ${PROJECT_VERSION}, as CMakeLists.txt has it, found ${_cited}")
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME lieq)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_VENDOR "The LieQ developers")
set(CPACK_PACKAGE_CONTACT "The LieQ developers <lieq@lieq.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "quantizer of small language models")
set(CPACK_PACKAGE_DESCRIPTION
  "LieQ measures which parts of a language model need their bits most, and stores the weights
in 2, 3, 4 or 8 bits. It reads models in Hugging Face's layout and GGUF files, and writes what
vLLM, transformers, llama.cpp and MLX load. It also measures what was lost, and runs the result.")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_COMPONENTS_ALL program)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/LieqPackageFiles.cmake)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
