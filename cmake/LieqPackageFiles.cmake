# Run by cpack on the files before they are packed: Debian has man pages compressed, and without the
# time of the compression, so that the same files give the same package.
file(GLOB_RECURSE pages ${CPACK_TEMPORARY_DIRECTORY}/lieq.1)
foreach(page ${pages})
  execute_process(COMMAND gzip -9nf ${page} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
