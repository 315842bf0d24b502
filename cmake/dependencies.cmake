# Every library the build needs; each is a Debian/Ubuntu package named in tools/install-deps.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(FFI REQUIRED libffi)
pkg_check_modules(PROTOBUFC REQUIRED libprotobuf-c)
pkg_check_modules(ZIP REQUIRED libzip)
pkg_check_modules(CJSON REQUIRED libcjson)
find_library(CPUINFO_LIBRARIES cpuinfo REQUIRED)
find_program(PROTOC_C NAMES protoc-c REQUIRED)

find_program(LLVM_CONFIG NAMES llvm-config-21 llvm-config-20 llvm-config-19 REQUIRED)
function(ml_llvm_config out)
	execute_process(COMMAND ${LLVM_CONFIG} ${ARGN} OUTPUT_VARIABLE text
		OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
	set(${out} "${text}" PARENT_SCOPE)
endfunction()
ml_llvm_config(LLVM_VERSION --version)
ml_llvm_config(LLVM_INCLUDE_DIRS --includedir)
ml_llvm_config(LLVM_LIBRARY_DIR --libdir)
ml_llvm_config(LLVM_BINARY_DIR --bindir)
string(REGEX MATCH "^[0-9]+" LLVM_MAJOR ${LLVM_VERSION})
find_library(LLVM_LIBRARIES NAMES LLVM-${LLVM_MAJOR} LLVM PATHS ${LLVM_LIBRARY_DIR} NO_DEFAULT_PATH REQUIRED)
# The runtime part that goes into every artefact is compiled to bitcode by clang.
find_program(ML_CLANG NAMES clang-${LLVM_MAJOR} PATHS ${LLVM_BINARY_DIR} REQUIRED)
